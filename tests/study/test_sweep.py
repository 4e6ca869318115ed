"""The queue of a study, in a clone: what is done is not done again, what fails is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clone import Clone

pytestmark = pytest.mark.slow


def test_a_study_keeps_every_cell_and_goes_on_where_it_was_stopped(finished: Clone, tmp_path: Path) -> None:
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    clone.set({"grid.seeds": [0, 1]})
    first = clone.fer("sweep", "--seed", "0").stdout
    assert "0 of 2 runs are kept in results/synthetic; 2 at a time" in first
    assert "Running stage" not in (clone.path / ".study/baseline-0.log").read_text(), "DVC had it already"
    runs = clone.path / "results/synthetic/runs"
    assert {file.name for file in runs.iterdir()} == {
        f"{model}-0.{kind}" for model in ("baseline", "w2v_cosine") for kind in ("json", "npz")
    }
    kept = (runs / "baseline-0.npz").read_bytes()

    clone.set({"models.w2v_cosine.learning_rate": 0.123})
    again = clone.fer("sweep", "--seed", "0", "--workers", "1").stdout
    assert "1 of 2 runs are kept" in again
    assert "w2v_cosine-0: kept after" in again
    assert "train@w2v_cosine-0" in (clone.path / ".study/w2v_cosine-0.log").read_text()
    assert (runs / "baseline-0.npz").read_bytes() == kept

    assert "2 of 2 runs are kept" in clone.fer("sweep", "--seed", "0").stdout


def test_a_cell_that_fails_is_named_and_the_others_are_kept(finished: Clone, tmp_path: Path) -> None:
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    clone.set({"models.w2v_cosine.learning_rate": 1.0e30})
    result = clone.fer("sweep", expect=1)
    assert "w2v_cosine-0: ERROR" in result.stdout
    assert result.stderr.splitlines()[-1].startswith(
        "error: 1 run failed (w2v_cosine-0): see .study/<run>.log"
    )
    assert "The loss is no longer a number" in (clone.path / ".study/w2v_cosine-0.log").read_text()
    facts = json.loads((clone.path / "results/synthetic/runs/baseline-0.json").read_text())
    assert facts["model"] == "baseline"
    assert not (clone.path / "results/synthetic/runs/w2v_cosine-0.json").exists()


def test_a_model_that_is_not_in_the_grid_is_refused(
    finished: Clone, fer_in: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fer_in(finished, "sweep", "--model", "w2v_abs")
    assert "There is no entry of grid.models 'w2v_abs'" in capsys.readouterr().err
