"""Find faces in a picture, and frame them as FER-2013 does.

dlib's detector: histograms of oriented gradients in sliding windows, for frontal faces (Dalal & Triggs, CVPR 2005;
King 2015, *Max-Margin Object Detection*). Its weights are part of the package. docs/predict.md compares it with others.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from pipeline.data.pictures import Square
from pipeline.errors import UserError

MAX_SIDE = 1280
"""Pixels of the longer side of the picture that is searched: larger pictures are searched in a smaller copy."""
ENLARGED = 1
"""How often the searched picture is doubled: dlib's window is 80 pixels wide, so 40 of the searched picture suffice."""
SIDE, UP = 1 / 0.84, 0.07 / 0.84
"""FER-2013's square by dlib's: its side, and how far its centre lies above dlib's, as shares of dlib's side. Medians
over faces of FER-2013's Training that were pasted into scenes (`python -m benchmarks.detectors`)."""


class Box(NamedTuple):
    """A rectangle around a face, in pixels of the picture."""

    left: int
    top: int
    width: int
    height: int


class Detector(Protocol):
    """Finds faces in a plain picture, from left to right."""

    def __call__(self, picture: Image.Image) -> list[Box]: ...


class DlibDetector:
    """dlib's detector of frontal faces. Raises UserError if dlib is not installed."""

    def __init__(self) -> None:
        try:
            import dlib
        except ImportError:
            raise UserError(
                "Faces are found by dlib, which is not installed: run `python -m pip install dlib-bin`, or add"
                " --no-detect if each picture is a face already."
            ) from None
        self._find = dlib.get_frontal_face_detector()

    def __call__(self, picture: Image.Image) -> list[Box]:
        scale = max(1.0, max(picture.size) / MAX_SIDE)
        small = picture.convert("L")
        if scale > 1:
            size = [max(1, round(length / scale)) for length in picture.size]
            small = small.resize((size[0], size[1]), Image.Resampling.BILINEAR)
        found = self._find(np.asarray(small), ENLARGED)
        boxes = [
            Box(*(round(scale * value) for value in (box.left(), box.top(), box.width(), box.height())))
            for box in found
        ]
        return sorted(boxes)


def frame(box: Box, size: tuple[int, int]) -> Square:
    """Return the square that FER-2013 would show of a face in a picture of this width and height.

    Where it reaches beyond the picture it is moved inside, and made smaller if it does not fit at all.
    """
    side = max(1, min(round(SIDE * box.width), *size))
    middle = box.left + box.width / 2, box.top + box.height / 2 - UP * box.width
    left, top = (
        min(max(0, round(centre - side / 2)), length - side) for centre, length in zip(middle, size, strict=True)
    )
    return left, top, side
