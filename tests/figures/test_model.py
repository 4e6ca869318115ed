"""The choices behind the figures that a picture alone would not show to be wrong."""

from __future__ import annotations

import numpy as np

from pipeline.figures.model import class_means, surest_of_each


def test_surest_faces_are_half_right_half_wrong_and_take_turns_by_class() -> None:
    actual = np.array([0, 0, 1, 0, 0, 2])
    predicted = np.array([0, 0, 1, 1, 2, 0])
    confidence = np.array([0.9, 0.8, 0.5, 0.7, 0.6, 0.4])
    # Right: class 0's surest, then class 1's only one, before class 0's second.
    assert surest_of_each(actual, predicted, confidence, 4).tolist() == [0, 2, 3, 5]
    assert surest_of_each(actual, predicted, confidence, 6).tolist() == [0, 2, 1, 3, 5, 4]


def test_surest_faces_of_a_perfect_model_are_all_right() -> None:
    actual = np.array([0, 1])
    assert surest_of_each(actual, actual, np.array([0.6, 0.9]), 4).tolist() == [1, 0]


def test_class_means_are_means_and_nan_without_images() -> None:
    values = np.stack([np.full((2, 2), 1.0), np.full((2, 2), 3.0), np.full((2, 2), 5.0)])
    means = class_means(values, np.array([0, 0, 6]), 7)
    assert means.shape == (7, 2, 2)
    assert (means[0] == 2).all()
    assert (means[6] == 5).all()
    assert np.isnan(means[1:6]).all()


def test_a_class_of_few_images_has_no_mean_that_would_show_a_person() -> None:
    means = class_means(np.ones((5, 2, 2)), np.array([0, 0, 0, 1, 1]), 2, fewest=3)
    assert (means[0] == 1).all()
    assert np.isnan(means[1]).all()
