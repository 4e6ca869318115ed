"""Say everything that the page shows of a picture: faces, and for each what every model makes of it, in words too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError
from pipeline.files import JsonDict
from pipeline.inference.bundled_model import bundled_model
from pipeline.inference.engine import BATCH
from pipeline.inference.recogniser import Crop, Recogniser, opened, too_large

DIGITS = 3
"""Of the values of a map."""
WORDS = {
    "angry": ("angry", "anger"), "disgust": ("disgusted", "disgust"), "fear": ("afraid", "fear"),
    "happy": ("happy", "happiness"), "sad": ("sad", "sadness"), "surprise": ("surprised", "surprise"),
    "neutral": ("neutral", "a neutral face"),
}  # fmt: skip
"""FER-2013's classes as adjective and noun; other classes are called by their names."""
SECOND = 0.1
"""Smallest probability of a second reading that is worth a word: one of FER+'s ten votes."""
HALF = 0.5
"""Below it the first reading is not the reading of most."""


class Demo:
    """Models that look at the same faces. names: what the page calls them."""

    def __init__(self, models: Sequence[Path], threads: int = 0) -> None:
        """Load the models. Raises UserError if one of them or a package is missing."""
        self.names = model_names(models)
        first, *others = models
        self.finder = Recogniser(first, threads=threads)
        self.whole = Recogniser(first, detect=False, threads=threads)
        more = [Recogniser(model, detect=False, threads=threads) for model in others]
        self.engines = [self.finder.engine, *(recogniser.engine for recogniser in more)]

    def read(self, content: bytes, is_face: bool) -> JsonDict:
        """Return the answer to a picture's file. is_face: the picture is one face, of which the middle counts.

        Raises UserError if it cannot be read.
        """
        try:
            picture = opened(content)
            crops = (self.whole if is_face else self.finder).crops(picture)[:BATCH]
        except MemoryError as error:
            raise UserError(too_large("The picture")) from error
        return {
            "width": picture.width,
            "height": picture.height,
            "models": self.names,
            "faces": list(self._faces(crops)) if crops else [],
        }

    def _faces(self, crops: Sequence[Crop]) -> Iterator[JsonDict]:
        pixels = np.stack([crop.pixels for crop in crops])
        found = [
            (engine.facts.classes, engine.probabilities(pixels), engine.class_maps(pixels)) for engine in self.engines
        ]
        for row, crop in enumerate(crops):
            yield {
                "box": list(crop.box),
                "square": list(crop.square),
                "answers": [_answer(classes, p[row], maps[row]) for classes, p, maps in found],
            }


def model_names(models: Sequence[Path]) -> list[str]:
    """Return what the page calls the models: their names, or their paths where two have the same name."""
    names = [model.stem if model.suffix == ".onnx" else model.resolve().name for model in models]
    names = ["bundled" if model == bundled_model() else name for model, name in zip(models, names, strict=True)]
    return [str(model) if names.count(name) > 1 else name for model, name in zip(models, names, strict=True)]


def _answer(classes: Sequence[str], probabilities: npt.NDArray[np.float32], maps: npt.NDArray[np.float32]) -> JsonDict:
    """Return what a model says of a face. Its maps [K, h, w] have one scale, from 0 to 1, so that they compare."""
    by_class = dict(zip(classes, probabilities.tolist(), strict=True))
    low, high = float(maps.min()), float(maps.max())
    scaled = ((maps - low) / max(high - low, 1e-12)).astype(np.float64).round(DIGITS)
    return {
        "reading": reading(by_class),
        "probabilities": by_class,
        "maps": dict(zip(classes, scaled.tolist(), strict=True)),
    }


def reading(probabilities: Mapping[str, float]) -> str:
    """Return the reading of a face: "surprised", "mostly surprised, some also see fear", "surprise or fear"."""
    first, second = sorted(probabilities, key=lambda name: -probabilities[name])[:2]
    (adjective, noun), (_, other) = (WORDS.get(name, (name, name)) for name in (first, second))
    if probabilities[second] < SECOND:
        return adjective
    if probabilities[first] < HALF:
        return f"{noun} or {other}"
    return f"mostly {adjective}, some also see {other}"
