"""Boxes against plain loops, and their sizes against what was asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.training.boxes import ASPECTS, centred_boxes, erasing_boxes, inside

SIZE = 48


def random() -> np.random.Generator:
    return np.random.default_rng(3)


def test_pixels_inside_a_box_are_those_of_two_loops() -> None:
    boxes = torch.tensor([[0, 0, 0, 0], [1, 3, 2, 5], [0, 6, 0, 6], [5, 6, 0, 1]])
    found = inside(boxes, 6)
    assert found.shape == (4, 1, 6, 6)
    for n, (top, bottom, left, right) in enumerate(boxes.tolist()):
        for row in range(6):
            for column in range(6):
                assert found[n, 0, row, column] == (top <= row < bottom and left <= column < right)


def test_centred_boxes_have_their_sides_unless_the_border_cuts_them() -> None:
    heights, widths = np.full(4000, 10.0), np.full(4000, 7.0)
    top, bottom, left, right = centred_boxes(heights, widths, SIZE, random()).T
    assert top.min() == left.min() == 0
    assert bottom.max() == right.max() == SIZE
    away = (top > 0) & (bottom < SIZE) & (left > 0) & (right < SIZE)
    assert set((bottom - top)[away]) == {10}
    assert set((right - left)[away]) == {7}
    assert (bottom - top).min() == 5
    centres = (top + bottom)[away] / 2
    assert centres.mean() == pytest.approx(SIZE / 2, abs=0.5)


def test_erased_boxes_come_with_their_chance_and_in_their_range() -> None:
    boxes = erasing_boxes(20_000, SIZE, 0.5, (0.02, 0.25), random())
    drawn = boxes[boxes.any(axis=1)]
    assert len(drawn) / len(boxes) == pytest.approx(0.5, abs=0.015)
    top, bottom, left, right = drawn.T
    assert min(top.min(), left.min()) == 0
    assert max(bottom.max(), right.max()) == SIZE
    height, width = bottom - top, right - left
    share = height * width / SIZE**2
    assert 0.01 < share.min() < 0.03
    assert 0.24 < share.max() < 0.27
    assert share.mean() == pytest.approx(0.135, abs=0.004)
    whole = (height < SIZE) & (width < SIZE) & (height * width > 400)  # where rounding hardly matters
    aspects = (height / width)[whole]
    assert 0.95 * ASPECTS[0] < aspects.min()
    assert aspects.max() < 1.05 * ASPECTS[1]
    assert np.log(aspects).mean() == pytest.approx(0, abs=0.03)


def test_without_a_chance_nothing_is_erased() -> None:
    assert not erasing_boxes(100, SIZE, 0.0, (0.02, 0.25), random()).any()
