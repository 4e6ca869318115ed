"""The bundled model: there right after installation, whole, and what its card says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, recall_score

from pipeline import cli
from pipeline.__main__ import fer
from pipeline.data.fer import LABELS, SPLITS, FerData
from pipeline.errors import UserError
from pipeline.export.onnx_file import export
from pipeline.files import read_json, sha256, write_json
from pipeline.inference import Recogniser, bundled_model
from pipeline.inference.bundled_model import FACTS, FOLDER, MODEL
from pipeline.inference.engine import Engine
from pipeline.study.report import fill
from resources import make_model
from resources.make_model import CARD, blocks, make, require_fer2013, results_table
from tests.models import drawn, drawn_faces, save_model

LARGEST = 2_000_000
"""Bytes: it is kept in git."""


def test_it_reads_a_face_without_any_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face = tmp_path / "face.png"
    Image.fromarray(drawn_faces(1)[0]).save(face)
    cli.run(fer, ["predict", str(face), "--no-detect", "--json", "--threads", "1"])
    (found,) = json.loads(capsys.readouterr().out)["faces"]
    assert tuple(found["probabilities"]) == LABELS
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    (same,) = Recogniser(detect=False, threads=1).predict(face)
    assert same.to_dict() == found


def test_it_is_small_and_the_one_that_was_measured_on_fer2013() -> None:
    model = bundled_model.bundled_model()
    assert model.stat().st_size < LARGEST
    facts, of_file = read_json(FOLDER / FACTS), Engine(model, 1).facts
    assert [facts["results"]["int8"][split]["images"] for split in ("val", "test")] == [3589, 3589]
    assert of_file.settings == facts["settings"]
    for name in ("model", "seed", "settings_digest", "inputs_digest"):
        assert getattr(of_file, name) == facts[name]


def test_its_card_shows_its_facts() -> None:
    text = CARD.read_text(encoding="utf-8")
    assert fill(text, blocks(read_json(FOLDER / FACTS)), CARD) == text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the model in which something is about to be wrong."""
    for name in (MODEL, FACTS):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    monkeypatch.setattr(bundled_model, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [MODEL, FACTS])
def test_without_a_file_a_sentence_says_what_to_do(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}.*restore it.*another model"):
        Recogniser()


@pytest.mark.parametrize(
    ("name", "damaged"),
    [(MODEL, b"version https://git-lfs"), (FACTS, b"{"), (FACTS, b"[]"), (FACTS, b"\xff"), (FACTS, b"{}")],
)
def test_a_damaged_file_is_not_used(folder: Path, name: str, damaged: bytes) -> None:
    (folder / name).write_bytes(damaged)
    with pytest.raises(UserError, match=rf"{name} is damaged.*restore it"):
        Recogniser()


@pytest.fixture(scope="module")
def data() -> FerData:
    """Drawn faces, with as many to choose and to test as to train."""
    return drawn(80, val=60, test=60)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("trained") / "baseline-0")


@pytest.mark.medium
@pytest.mark.usefixtures("one_thread")
def test_it_is_measured_as_scikit_learn_does(trained: Path, tmp_path: Path, data: FerData) -> None:
    """From the files, one image after the other."""
    near, test = np.zeros(len(data.labels), bool), data.rows("test")
    near[test[::3]] = True
    made, plain = tmp_path / "made", tmp_path / "plain.onnx"
    made.mkdir()
    facts = make(trained, data, near, made, max_lost=1.0)
    assert facts == read_json(made / FACTS)
    assert facts["sha256"] == sha256(made / MODEL)
    export(trained, plain)
    decided: dict[tuple[str, str], npt.NDArray[Any]] = {}
    for form, file in (("int8", made / MODEL), ("fp32", plain)):
        engine = Engine(file, 1)
        for split, rows in (("val", data.rows("val")), ("test", test), ("test_clean", test[~near[test]])):
            found = [int(engine.probabilities(data.images[row : row + 1]).argmax()) for row in rows]
            decided[form, split] = np.array(found)
            scores, actual = facts["results"][form][split], data.labels[rows]
            assert scores["images"] == len(rows)
            assert scores["accuracy"] == pytest.approx(accuracy_score(actual, found))
            recalls = recall_score(actual, found, labels=range(7), average=None, zero_division=0)
            assert [row["recall"] for row in scores["per_class"].values()] == pytest.approx(list(recalls))
    for split, count in facts["decisions_changed_by_quantisation"].items():
        assert count == (decided["int8", split] != decided["fp32", split]).sum()
    assert "| PrivateTest | 60 |" in results_table(facts)


@pytest.mark.medium
@pytest.mark.usefixtures("one_thread")
def test_quantisation_that_costs_too_much_is_refused(trained: Path, tmp_path: Path, data: FerData) -> None:
    with pytest.raises(UserError, match="int8"):
        make(trained, data, np.zeros(len(data.labels), bool), tmp_path, max_lost=-1.0)
    assert not (tmp_path / FACTS).exists()


def test_other_data_and_networks_of_other_data_are_refused(
    trained: Path, tmp_path: Path, data: FerData, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="not FER-2013 as published"):
        require_fer2013(trained, data)
    counts = {split: tuple(np.bincount(data.labels[data.rows(split)], minlength=7)) for split in SPLITS}
    monkeypatch.setattr(make_model, "PUBLISHED_COUNTS", counts)
    for source in ("archive", "synthetic"):
        write_json(tmp_path / "model.json", {"settings": {"data": {"source": source}}})
        if source == "archive":
            require_fer2013(tmp_path, data)
    with pytest.raises(UserError, match="trained on drawn faces"):
        require_fer2013(tmp_path, data)
