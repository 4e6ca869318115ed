"""Find landmarks with dlib's shape predictor: regression trees (Kazemi & Sullivan, CVPR 2014), trained on iBUG 300-W.

The package dlib and the file of the trained predictor are the user's to install (docs/methods.md); nothing is
downloaded. No detector runs first: dlib's misses many faces of FER-2013, whose images are crops of a detector already.
So the box of the face is the image less a margin.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.fer import IMAGE_SIZE
from pipeline.errors import UserError
from pipeline.landmarks.points import COUNT, Landmarks, Points, mirrored, relative_error

ENLARGEMENT = 4
"""dlib's trees compare pixels at whole places, which lie too far apart in 48 of them."""
MARGIN = 0.05
"""Of each side, outside the box. Of -0.1, 0, 0.05, 0.1, 0.125, 0.15 and 0.2 it gives the smallest difference between
the points of 600 training images of FER-2013 and those of their mirror images; contact sheets agree."""
FAILED = 0.08
"""The difference between an image and its mirror image from which on the points are not relied on, as a share of the
distance between the outer corners of the eyes: where evaluations on 300-W begin to speak of failure."""
HOW = (
    "on Debian and Ubuntu `sudo apt-get install libdlib-data` brings /usr/share/dlib/{name}; it was trained on iBUG "
    "300-W, whose terms exclude commercial use (docs/methods.md)"
)
NAME = "shape_predictor_68_face_landmarks.dat"


def find(images: npt.NDArray[np.uint8], file: Path) -> Landmarks:
    """Return the landmarks of uint8 images [N, 48, 48], as the trained predictor in `file` finds them.

    Each image is looked at twice, as it is and mirrored: the points are the means, so that the mirror image of a face
    has the mirrored points, and they are *found* where both nearly agree. Raises UserError without dlib or the file.
    """
    predict = _load(file)
    direct = _points(predict, images)
    turned = mirrored(_points(predict, images[:, :, ::-1]))
    blank = images.min(axis=(1, 2)) == images.max(axis=(1, 2))
    found = ~blank & (relative_error(direct, turned) <= FAILED)
    return Landmarks(((direct + turned) / 2).astype(np.float32), found)


def _points(predict: Callable[[Any, Any], Any], images: npt.NDArray[np.uint8]) -> Points:
    """Return float64 [N, 68, 2], in pixels of the images."""
    import dlib

    side = ENLARGEMENT * IMAGE_SIZE
    near, far = round(MARGIN * side), round((1 - MARGIN) * side) - 1
    box = dlib.rectangle(near, near, far, far)
    found = np.empty((len(images), COUNT, 2))
    for row, image in enumerate(images):
        large = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
        found[row] = [(point.x, point.y) for point in predict(large, box).parts()]
    return (found + 0.5) / ENLARGEMENT - 0.5


def _load(file: Path) -> Callable[[Any, Any], Any]:
    """Load the trained predictor. Raises UserError, with what to install, if something is missing."""
    try:
        import dlib
    except ImportError:
        raise UserError(
            "landmarks.source is dlib, but the package dlib is not installed: run "
            "`python -m pip install -e '.[landmarks]'`."
        ) from None
    if not file.is_file():
        raise UserError(
            f"landmarks.predictor: {file}, dlib's trained predictor, does not exist: {HOW.format(name=NAME)}."
        )
    try:
        predictor = dlib.shape_predictor(str(file))
        blank = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        parts = predictor(blank, dlib.rectangle(0, 0, IMAGE_SIZE - 1, IMAGE_SIZE - 1)).num_parts
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"landmarks.predictor: {file} is not a shape predictor of dlib ({reason}): {HOW.format(name=NAME)}."
        ) from error
    if parts != COUNT:
        raise UserError(
            f"landmarks.predictor: {file} finds {parts} points, but {COUNT} are needed: {HOW.format(name=NAME)}."
        )
    return predictor  # type: ignore[no-any-return]
