"""Answer what `mlflow models serve` is asked: pictures or arrays in, faces with probabilities out.

A row of the request has `image`, a picture's file in base64 whose faces are searched for, or `pixels`, a face as grey
levels [H][W] or RGB [H][W][3]; the parameter `detect` is false for an `image` that is a face already. A copy of this
file, and of what it imports, is stored with each model (`model_format`), so it imports little.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from PIL import Image

from pipeline.data.pictures import MAX_BYTES
from pipeline.errors import UserError
from pipeline.files import JsonDict
from pipeline.inference.recogniser import Face, Recogniser, opened

if TYPE_CHECKING:
    import pandas as pd

IMAGE, PIXELS, DETECT = "image", "pixels", "detect"
"""The columns of a request and its parameter."""
TOO_LITTLE_MEMORY = "The pictures need more memory than there is: send fewer or smaller ones."
MAX_ROWS = 256
"""Rows of a request: limits memory and time."""


class Refused(MlflowException):
    """A request that cannot be answered, status 400. MLflow writes the request before the sentence; this does not."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)
        self.sentence = sentence

    def serialize_as_json(self) -> str:
        """Return the body of the answer."""
        return json.dumps({"error_code": self.error_code, "message": self.sentence})


class Served:
    """A model as MLflow calls it."""

    def __init__(self, model: Path) -> None:
        self.cropped = Recogniser(model, detect=False)
        self._finder: Recogniser | None = None
        self.model = model

    @property
    def finder(self) -> Recogniser:
        """The model with a detector, of which there may be none. Raises UserError then."""
        self._finder = self._finder or Recogniser(self.model)
        return self._finder

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[JsonDict]:
        """Return the faces of each row. Raises Refused, which names the row."""
        rows: list[dict[str, Any]] = model_input.to_dict("records")
        if not rows:
            raise Refused(f"There is no row with {IMAGE!r} or {PIXELS!r}: send at least one.")
        if len(rows) > MAX_ROWS:
            raise Refused(f"There are {len(rows)} rows: send at most {MAX_ROWS} at a time.")
        detect = bool((params or {}).get(DETECT, True))
        sought = [number for number, row in enumerate(rows) if detect and not _is_given(row, PIXELS)]
        whole = [number for number in range(len(rows)) if number not in sought]
        try:
            found: dict[int, list[Face] | None] = {}
            for recogniser, numbers in ((self.finder if sought else self.cropped, sought), (self.cropped, whole)):
                found |= dict(recogniser.predict_each(_pictures(rows, numbers)))
        except UserError as error:
            raise Refused(str(error)) from error
        except MemoryError as error:
            raise Refused(TOO_LITTLE_MEMORY) from error
        answers = [found[number] for number in range(len(rows))]
        if any(faces is None for faces in answers):
            raise Refused(TOO_LITTLE_MEMORY)
        return [{"faces": [face.to_dict() for face in faces or []]} for faces in answers]


def _load_pyfunc(path: str) -> Served:
    """Load the model; MLflow calls this."""
    return Served(Path(path))


def _pictures(rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
    """Yield these rows' pictures, each read when it is its turn. Raises UserError, which names the row."""
    for number in numbers:
        yield number, _picture(rows[number], f"Row {number + 1}")


def _picture(row: dict[str, Any], where: str) -> Image.Image:
    if _is_given(row, PIXELS):
        return opened(_array(row[PIXELS], where), where)
    if not isinstance(row.get(IMAGE), str):
        raise UserError(f"{where} has neither {IMAGE!r}, a picture's file in base64, nor {PIXELS!r}: send one.")
    text: str = row[IMAGE]
    if len(text) * 3 // 4 > MAX_BYTES + 2:
        raise UserError(f"{where}: the picture has more than {MAX_BYTES >> 20} MiB: make it smaller.")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"{where}: {IMAGE!r} is not base64 ({error}): encode the picture's file.") from error
    return opened(content, where)


def _array(values: Any, where: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "iu" or not array.size or array.min() < 0 or array.max() > 255:
        raise UserError(f"{where}: {PIXELS!r} must be rows of equal length of whole numbers from 0 to 255.")
    return array.astype(np.uint8)


def _is_given(row: dict[str, Any], name: str) -> bool:
    """Return whether a row has a value: pandas writes NaN where another row has one."""
    value = row.get(name)
    return value is not None and not isinstance(value, float)
