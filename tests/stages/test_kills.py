"""kill -9 of the stages behind the training; of the training: test_trouble; of whole pipelines: `make soak`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.workspace import REPORTS, RunKey
from tests.clone import Clone
from tests.soak.clones import differences, outputs, wrong_runs


@pytest.mark.slow
def test_killed_evaluation_and_comparison_are_made_up_for(finished: Clone, tmp_path: Path) -> None:
    """kill -9 between two of their outputs, then the stage again: the same files, and one complete run each.

    The copy has no database, as if it had been deleted after the training: evaluate makes one and fills it.
    """
    clone = finished.copy(tmp_path / "fer", FER_TEST_PICTURES="drawn")
    stages = {("evaluate", "baseline", "0"): RunKey("baseline", 0).figures, ("compare",): REPORTS}
    for stage, folder in stages.items():
        shutil.rmtree(clone.path / folder)
        command = [sys.executable, "-m", f"stages.{stage[0]}", *stage[1:]]
        process = subprocess.Popen(command, cwd=clone.path, env=clone.env(), stdout=subprocess.DEVNULL)
        while not list((clone.path / folder).glob("*")):
            assert process.poll() is None, "the stage ended before it could be killed"
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert not tracking_has(clone, stage[0])
        clone.stage(*stage)
    ours, theirs = outputs(clone), outputs(finished)
    assert differences(ours, theirs) == []
    assert len(ours) > 40
    assert wrong_runs(clone, Counter(["baseline-0", "comparison"])) == []
    (run,) = (run for run in clone.runs()["synthetic"] if run.info.run_name == "baseline-0")
    assert {"val_accuracy", "test.accuracy"} <= set(run.data.metrics), "with the curve of the training"


def tracking_has(clone: Clone, stage: str) -> bool:
    """Whether MLflow holds a complete run of a stage."""
    if not (clone.path / "mlflow.db").exists():
        return False
    runs = [run for found in clone.runs().values() for run in found]
    return any(run.data.tags["dvc.stage"] == stage and "fer.complete" in run.data.tags for run in runs)
