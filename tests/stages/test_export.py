"""Stage export: a network becomes a file, a classifier without one an empty file, a missing model a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.inference.engine import Engine
from pipeline.workspace import RunKey
from stages import export
from tests.clone import ROOT
from tests.models import save_model


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())


def test_a_network_is_exported_next_to_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    run_key = RunKey("baseline", 0)
    save_model(run_key.models)
    export.main("baseline", 0)
    assert Engine(run_key.models, 1).facts.model == "baseline"
    assert "outputs/onnx/baseline-0.onnx" in capsys.readouterr().out


def test_a_classifier_without_a_network_gives_an_empty_file() -> None:
    export.main("hog", 3)
    assert RunKey("hog", 3).exported.read_bytes() == b""
    with pytest.raises(UserError, match="hog-3 is a classifier without a network"):
        Engine(RunKey("hog", 3).exported)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="missing: run `dvc repro` to train this model"):
        export.main("baseline", 0)
    with pytest.raises(UserError, match="nope"):
        export.main("nope", 0)
    assert not RunKey("baseline", 0).exported.exists()
