"""What the model server answers to rows of every kind, good and bad."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS
from PIL import Image

from pipeline.inference import Recogniser
from pipeline.tracking import served
from pipeline.tracking.served import Refused, Served
from tests.models import drawn_faces, exported_file, photograph

pytestmark = pytest.mark.medium
FACES = drawn_faces(24)[17:20]
PHOTO = photograph(FACES[:2])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_file(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def model(file: Path) -> Served:
    return served._load_pyfunc(str(file))


def text(image: Image.Image, form: str = "PNG") -> str:
    content = io.BytesIO()
    image.save(content, form)
    return base64.b64encode(content.getvalue()).decode()


def test_rows_of_both_kinds_are_answered_in_their_order(file: Path, model: Served) -> None:
    pytest.importorskip("dlib")
    rows = pd.DataFrame(
        [
            {"image": text(PHOTO)},
            {"pixels": FACES[2].tolist()},
            {"image": text(Image.new("L", (90, 90)))},
            {"pixels": np.stack([FACES[0]] * 3, 2).tolist()},
        ]
    )
    found, cropped = Recogniser(file), Recogniser(file, detect=False)
    expected = [found.predict(PHOTO), cropped.predict(FACES[2]), [], cropped.predict(FACES[0])]
    answers = model.predict(rows)
    assert [len(answer["faces"]) for answer in answers] == [2, 1, 0, 1]
    for answer, faces in zip(answers, expected, strict=True):
        assert answer == {"faces": [face.to_dict() for face in faces]}


def test_a_picture_may_be_a_face_already(file: Path, model: Served) -> None:
    (answer,) = model.predict(pd.DataFrame({"image": [text(PHOTO, "JPEG")]}), {"detect": False})
    assert answer["faces"][0]["box"] == [120, 0, 400, 400]


GOOD: dict[str, Any] = {"pixels": FACES[0].tolist()}


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"image": None},
        {"image": 5},
        {"image": "no base64!"},
        {"image": base64.b64encode(b"no picture").decode()},
        {"image": ""},
        {"pixels": "text"},
        {"pixels": []},
        {"pixels": [1, 2]},
        {"pixels": [[1, 2], [3]]},
        {"pixels": [[1, 256]]},
        {"pixels": [[1, -1]]},
        {"pixels": [[0.5]]},
        {"pixels": [[[[1]]]]},
        {"pixels": [[10**30]]},
    ],
)
def test_what_is_wrong_is_a_sentence_that_names_the_row(row: dict[str, Any], model: Served) -> None:
    with pytest.raises(Refused) as error:
        model.predict(pd.DataFrame([GOOD, row]), {"detect": False})
    assert ERROR_CODE_TO_HTTP_STATUS[error.value.error_code] == 400
    assert error.value.sentence.endswith(".")
    assert error.value.sentence.startswith("Row 2") or "is not a picture" in error.value.sentence


def test_too_much_or_nothing_is_refused(model: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "MAX_ROWS", 3)
    monkeypatch.setattr(served, "MAX_BYTES", 1000)
    large = text(Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50)).astype(np.uint8)))
    for rows in ([GOOD] * 4, [], [{"image": large}]):
        with pytest.raises(Refused, match=r"at most|at least|make it smaller"):
            model.predict(pd.DataFrame(rows))
    assert len(model.predict(pd.DataFrame([GOOD] * 3))) == 3


def test_the_answer_is_the_sentence_without_the_request() -> None:
    """MLflow writes the request, a whole picture, into the message before it answers."""
    error = Refused("Row 1 is empty.")
    error.message = f"Failed to predict data '{'x' * 10000}'. \nError: {error.message}"
    assert json.loads(error.serialize_as_json())["message"] == "Row 1 is empty."
