"""What a published run says of its origin: any change of the code that made it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline import fingerprint
from pipeline.classical import code
from pipeline.study.provenance import EVALUATION, Origin, evaluation_digests
from pipeline.tracking import git

ROOT = Path(__file__).parents[2]


def test_the_digest_covers_what_evaluate_depends_on_but_pictures() -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["evaluate"]
    code_of = {dep for dep in stage["deps"] if dep.startswith(("stages/", "pipeline/"))}
    pictures = {dep for dep in code_of if dep.startswith("pipeline/figures/")}
    assert code_of - pictures - set(fingerprint.CODE) - set(code.FOLDERS) == set(EVALUATION)
    assert "stages/evaluate.py" in evaluation_digests()


@pytest.mark.parametrize(("dirty", "clean"), [("true", False), ("false", True), ("unknown", None)])
def test_an_unknown_state_is_neither_clean_nor_not(
    dirty: str, clean: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "state", lambda *besides: {"git.commit": "", "git.dirty": dirty})
    assert Origin.here("fer sweep") == Origin("fer sweep", None, clean)
