"""A network goes to MLflow as the stage export wrote it, and is exported here only if it has to be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.data.fer import LABELS
from pipeline.export.onnx_file import export, is_exported
from pipeline.files import write_json, write_npy
from pipeline.tracking import model_runs
from pipeline.tracking.client import MlflowRun
from pipeline.workspace import PREPARED, RunKey
from tests.models import save_model

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("one_thread")]

KEY = RunKey("baseline", 0)


class Kept(MlflowRun):
    """A run that keeps the bytes of the model that it is given, and nothing else."""

    def __init__(self, has_model: bool = False) -> None:
        super().__init__(None)
        self.has_model, self.files = has_model, list[Path]()
        self.content = b""

    def needs_model(self) -> bool:
        return not self.has_model

    def model(self, onnx_file: Path, faces: npt.NDArray[np.uint8], classes: Sequence[str]) -> None:
        assert faces.shape == (2, 48, 48)
        assert faces.any(axis=(1, 2)).all(), "the data, all black here, are not shown"
        assert tuple(classes) == LABELS
        self.files.append(onnx_file)
        self.content = onnx_file.read_bytes()


@pytest.fixture(autouse=True)
def _evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trained and evaluated model in the working folder."""
    monkeypatch.chdir(tmp_path)
    save_model(KEY.models)
    write_json(KEY.metrics, {split: {"accuracy": 0.5} for split in ("val", "test", "test_clean")})
    write_npy(PREPARED / "images.npy", np.zeros((3, 48, 48), np.uint8))


def refuse(model: Path, file: Path) -> float:
    raise AssertionError(f"{model} is exported once more")


def test_what_the_stage_export_wrote_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    export(KEY.models, KEY.exported)
    monkeypatch.setattr(model_runs, "export", refuse)
    model_runs.log_evaluation(run := Kept(), KEY)
    assert run.files == [KEY.exported]


def test_before_that_stage_has_run_the_same_file_is_made_and_removed() -> None:
    model_runs.log_evaluation(run := Kept(), KEY)
    (file,) = run.files
    assert not file.exists()
    export(KEY.models, KEY.exported)
    assert run.content == KEY.exported.read_bytes()


def make(model: Path, file: Path) -> float:
    """Stands in for an export, which takes seconds."""
    file.write_bytes(f"the export of {model.name}".encode())
    return 0.0


@pytest.mark.parametrize("left", ["another model's", "of older code", "no model", "empty"])
def test_a_file_of_another_model_is_not_logged_for_this_one(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    KEY.exported.parent.mkdir(parents=True)
    if left == "another model's":
        export(save_model(tmp_path / "baseline-0", "cosine"), KEY.exported)
    elif left == "of older code":
        export(KEY.models, KEY.exported)
        monkeypatch.setattr("pipeline.export.onnx_file._code_digest", lambda: "0" * 12)
    else:
        KEY.exported.write_bytes(b"" if left == "empty" else b"something else")
    assert not is_exported(KEY.models, KEY.exported)
    monkeypatch.setattr(model_runs, "export", make)
    model_runs.log_evaluation(run := Kept(), KEY)
    assert run.content == b"the export of baseline-0"


@pytest.mark.parametrize("run", [Kept(has_model=True), MlflowRun(None)], ids=["has it", "off"])
def test_nothing_is_exported_for_a_run_that_takes_no_model(run: MlflowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_runs, "export", refuse)
    model_runs.log_evaluation(run, KEY)
