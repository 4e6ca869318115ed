"""Read the expression of every face in a picture: find faces, frame them, ask the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.pictures import MAX_BYTES, Square, cut, middle, read_image, read_picture
from pipeline.errors import UserError
from pipeline.files import JsonDict
from pipeline.inference.bundled_model import bundled_model
from pipeline.inference.detection import Box, Detector, DlibDetector, frame
from pipeline.inference.engine import Engine

FACES = 64
"""Faces that are classified together."""
PIXELS = 1 << 25
"""Pixels of the pictures that wait to be classified together: limits memory."""

Picture = str | Path | bytes | Image.Image | npt.NDArray[np.uint8]
"""A file, its content, a Pillow image, or grey levels [H, W] or RGB [H, W, 3]."""
T = TypeVar("T")
DIGITS = 6
"""Of the probabilities in JSON and CSV."""


class Crop(NamedTuple):
    """A face in a picture. box: where it was found; square: what the model sees of the picture; pixels: as it does."""

    box: Box
    square: Square
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Face:
    """A face in a picture. box: where; probabilities: by class, in the model's order."""

    box: Box
    probabilities: dict[str, float]

    @property
    def ranked(self) -> list[str]:
        """The classes, the most probable first."""
        return sorted(self.probabilities, key=lambda name: -self.probabilities[name])

    @property
    def expression(self) -> str:
        """The most probable class."""
        return self.ranked[0]

    def to_dict(self) -> JsonDict:
        """Return the face as JSON shows it."""
        return {
            "box": list(self.box),
            "expression": self.expression,
            "probabilities": {name: round(p, DIGITS) for name, p in self.probabilities.items()},
        }


class Recogniser:
    """A model with a detector of faces.

        Recogniser().predict("photo.jpg")

    model: a file of the stage export, or the folder of a trained model; by default the bundled model. detect:
    without it, each picture is a face, of which the largest square in the middle counts, as in training. threads: of
    the model; 0 for one per core.
    """

    def __init__(self, model: str | Path | None = None, detect: bool = True, threads: int = 0) -> None:
        """Load the model. Raises UserError if it or a package is missing."""
        self.engine = Engine(bundled_model() if model is None else Path(model), threads)
        self.detector: Detector | None = DlibDetector() if detect else None

    def predict(self, picture: Picture) -> list[Face]:
        """Return the faces of a picture, from left to right; none is an answer.

        Raises UserError if the picture cannot be read.
        """
        ((_, faces),) = self.predict_each([(None, opened(picture))])
        if faces is None:
            raise UserError(too_large("The picture"))
        return faces

    def predict_each(self, pictures: Iterable[tuple[T, Image.Image | None]]) -> Iterator[tuple[T, list[Face] | None]]:
        """Yield each key with the faces of its picture, in order; without a picture there are none.

        None instead of faces: there was too little memory to search that picture. Faces of several pictures are
        classified together.
        """
        waiting: list[tuple[T, list[Crop] | None]] = []
        pixels = 0
        for key, picture in pictures:
            try:
                waiting.append((key, self.crops(picture) if picture else []))
            except MemoryError:
                waiting.append((key, None))
            pixels += picture.width * picture.height if picture else 0
            if pixels >= PIXELS or sum(len(found or []) for _, found in waiting) >= FACES:
                yield from self._classified(waiting)
                waiting, pixels = [], 0
        yield from self._classified(waiting)

    def crops(self, picture: Image.Image) -> list[Crop]:
        """Return the faces of a plain picture (`opened`) before the model is asked."""
        if self.detector is None:
            square = middle(picture)
            left, top, side = square
            return [Crop(Box(left, top, side, side), square, cut(picture, square))]
        squares = [(box, frame(box, picture.size)) for box in self.detector(picture)]
        return [Crop(box, square, cut(picture, square)) for box, square in squares]

    def _classified(self, waiting: list[tuple[T, list[Crop] | None]]) -> Iterator[tuple[T, list[Face] | None]]:
        crops = [crop.pixels for _, found in waiting for crop in found or []]
        probabilities = iter(self.engine.probabilities(np.stack(crops)).tolist() if crops else [])
        classes = self.engine.facts.classes
        for key, found in waiting:
            if found is None:
                yield key, None
            else:
                yield key, [Face(crop.box, dict(zip(classes, next(probabilities), strict=True))) for crop in found]


def opened(picture: Picture, where: str = "") -> Image.Image:
    """Return a picture upright, opaque and in 8 bits.

    Raises UserError, which begins with `where`, by default the name of the file, if it cannot be read.
    """
    if isinstance(picture, np.ndarray):
        picture = _of_array(picture, where)
    if isinstance(picture, Image.Image):
        return read_image(picture, where or "The picture")
    if isinstance(picture, bytes):
        return read_picture(picture, where or "The picture")
    return read_picture(read_file(Path(picture), where or str(picture)), where or str(picture))


def too_large(what: str) -> str:
    """Return the sentence on a picture for which a MemoryError was raised."""
    return f"{what} needs more memory than there is: make it smaller."


def read_file(path: Path, where: str) -> bytes:
    """Return the content of a file, a little more than `MAX_BYTES` at most. Raises UserError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{where} cannot be read ({reason}): check its name and its permissions.") from error


def _of_array(values: npt.NDArray[Any], where: str) -> Image.Image:
    what = f"{where}: the array" if where else "The array"
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)):
        raise UserError(
            f"{what}, {values.dtype} {list(values.shape)}, is not a picture: give uint8, [H, W] or [H, W, 3]."
        )
    if not values.size:
        raise UserError(f"{what} has no pixels: give a picture.")
    if values.shape[0] * values.shape[1] > (most := Image.MAX_IMAGE_PIXELS or 0):
        raise UserError(f"{what} has more than {most / 1e6:.0f} million pixels: make it smaller.")
    return Image.fromarray(np.ascontiguousarray(values))
