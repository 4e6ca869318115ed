"""Faces in photographs: found where they are, framed as in training."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.inference.detection import MAX_SIDE, SIDE, UP, Box, DlibDetector, frame
from tests.models import drawn_faces, photograph

FACES = drawn_faces(24)[17:19]
PHOTOGRAPH = photograph(FACES)
PLACES = [(80, 120, 160), (400, 120, 160)]


@pytest.fixture(scope="module")
def detector() -> DlibDetector:
    pytest.importorskip("dlib")
    return DlibDetector()


def check(found: list[tuple[int, int, int]], expected: list[tuple[int, int, int]]) -> None:
    """Squares that overlap with those expected to more than a half."""
    assert len(found) == len(expected)
    for (x, y, side), (left, top, size) in zip(found, expected, strict=True):
        width, height = (max(0, min(a + side, b + size) - max(a, b)) for a, b in ((x, left), (y, top)))
        assert width * height / (side**2 + size**2 - width * height) > 0.5


def squares(detector: DlibDetector, picture: Image.Image) -> list[tuple[int, int, int]]:
    return [frame(box, picture.size) for box in detector(picture)]


def test_faces_are_found_from_left_to_right_and_framed_as_they_were(detector: DlibDetector) -> None:
    check(squares(detector, PHOTOGRAPH), PLACES)
    check(squares(detector, PHOTOGRAPH.convert("L")), PLACES)


def test_a_large_photograph_is_searched_in_a_smaller_copy(detector: DlibDetector) -> None:
    factor = 5
    large = PHOTOGRAPH.resize((640 * factor, 400 * factor))
    assert large.width > 2 * MAX_SIDE
    check(squares(detector, large), [(factor * x, factor * y, factor * side) for x, y, side in PLACES])


@pytest.mark.parametrize("size", [(640, 400), (1, 1), (3, 900), (5000, 2), (48, 48)])
def test_where_nobody_is_none_is_found(size: tuple[int, int], detector: DlibDetector) -> None:
    assert detector(Image.new("RGB", size, "grey")) == []


def test_the_frame_is_larger_than_the_box_and_higher() -> None:
    assert frame(Box(400, 300, 100, 100), (1000, 800)) == (
        round(450 - 50 * SIDE), round(350 - 100 * UP - 50 * SIDE), round(100 * SIDE),
    )  # fmt: skip


@pytest.mark.parametrize(
    "box",
    [(-40, -40, 100, 100), (950, 730, 100, 100), (-5, 300, 90, 90), (0, 0, 1000, 1000), (-300, -300, 2000, 2000),
     (500, -20, 1, 1), (999, 799, 80, 80)],
)  # fmt: skip
def test_the_frame_lies_within_the_picture(box: tuple[int, int, int, int]) -> None:
    left, top, side = frame(Box(*box), (1000, 800))
    assert 0 <= left <= left + side <= 1000
    assert 0 <= top <= top + side <= 800
    assert side == min(max(1, round(SIDE * box[2])), 800)


def test_without_dlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UserError, match=r"pip install dlib-bin.*--no-detect"):
        DlibDetector()


def test_faces_at_the_border_are_cut_from_the_picture_alone(detector: DlibDetector) -> None:
    """Nothing beyond the border is invented."""
    tight = PHOTOGRAPH.crop((85, 125, 240, 280))
    for left, top, side in squares(detector, tight):
        assert min(left, top) >= 0
        assert max(left, top) + side <= 155
    assert np.asarray(tight).shape == (155, 155, 3)
