"""From scores to probabilities and decisions, against plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.decode import DECODERS, argmax, softmax


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_that_of_plain_python(dtype: type[np.floating]) -> None:
    scores = np.random.default_rng(0).normal(0, 3, (50, 7)).astype(dtype)
    probabilities = softmax(scores)
    assert probabilities.dtype == np.float64
    for row, found in zip(scores.tolist(), probabilities.tolist(), strict=True):
        total = sum(math.exp(score) for score in row)
        assert found == pytest.approx([math.exp(score) / total for score in row], rel=1e-6)
        assert sum(found) == pytest.approx(1, abs=1e-12)


def test_softmax_of_scores_that_would_overflow() -> None:
    found = softmax(np.array([[1e4, 0.0, 1e4], [-1e4, -1e4 + math.log(3), -2e4]], np.float64))
    np.testing.assert_allclose(found, [[0.5, 0, 0.5], [0.25, 0.75, 0]], rtol=1e-9)


def test_softmax_ranks_as_the_scores_do() -> None:
    scores = np.random.default_rng(1).uniform(-1, 1, (100, 7)).astype(np.float32)
    np.testing.assert_array_equal(np.argsort(softmax(scores), axis=1), np.argsort(scores, axis=1))


def test_argmax_takes_the_highest_score_and_the_first_of_equals() -> None:
    found = argmax(np.array([[0.1, 0.9, 0.2], [-3, -2, -1], [5, 1, 5], [0, 0, 0]], np.float32))
    assert found.dtype == np.int64
    assert found.tolist() == [1, 2, 0, 0]


def test_argmax_of_cosines_is_the_nearest_label_vector() -> None:
    rng = np.random.default_rng(2)
    labels, outputs = rng.normal(size=(7, 5)), rng.normal(size=(40, 5))
    labels /= np.linalg.norm(labels, axis=1, keepdims=True)
    outputs /= np.linalg.norm(outputs, axis=1, keepdims=True)
    nearest = [min(range(7), key=lambda k: math.dist(output, labels[k])) for output in outputs]
    assert argmax(outputs @ labels.T).tolist() == nearest


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_names_one_class_per_row(name: str) -> None:
    found = DECODERS[name](np.random.default_rng(3).normal(size=(30, 7)))
    assert found.shape == (30,)
    assert found.dtype == np.int64
    assert set(found.tolist()) <= set(range(7))
