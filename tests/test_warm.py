"""A command that a warm process runs ends, prints and sees as one with a Python of its own."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

import tests.clone
from pipeline.study import pool
from tests.clone import Clone
from tests.warm import HOOK

PROBE = """
import os, signal, sys
print(sys.argv[1:], os.getcwd(), os.environ["FER_X"], __name__, "torch" in sys.modules)
print("a warning", file=sys.stderr)
if sys.argv[1] == "stop":
    os.kill(os.getpid(), signal.SIGTERM)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def clone(warm_python: dict[str, str], tmp_path: Path) -> Clone:
    if not warm_python:
        pytest.skip("processes are forked on Linux alone")
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/probe.py").write_text(PROBE)
    return Clone(tmp_path, {"FER_X": "x é"}, warm_python)


@pytest.mark.medium
@pytest.mark.parametrize(("argument", "code"), [("0", 0), ("3", 3), ("stop", -15)])
def test_it_ends_as_the_command_does(clone: Clone, argument: str, code: int) -> None:
    done = clone.stage("probe", argument, "two words", expect=code)
    assert done.stdout == f"{[argument, 'two words']} {clone.path} x é __main__ True\n" * (code >= 0)
    assert code < 0 or done.stderr == "a warning\n"


@pytest.mark.medium
def test_a_command_may_be_a_line_of_code(clone: Clone) -> None:
    (clone.path / "pipeline.py").write_text(
        "def say() -> None:\n    import sys\n    print(__name__, sys.argv, 'torch' in sys.modules)"
    )
    done = clone.run(sys.executable, "-c", "from pipeline import say; say(); print(__name__)", "a")
    assert done.stdout == "pipeline ['-c', 'a'] True\n__main__\n"


@pytest.mark.medium
@pytest.mark.parametrize("path", ["", "/no such folder"])
def test_it_is_warm_whatever_path_of_modules_the_user_has(
    clone: Clone, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(tests.clone, "INHERITED", tests.clone.INHERITED | {"PYTHONPATH"})
    assert clone.stage("probe", "0").stdout.endswith("True\n")
    assert clone.stage("probe", "0", PYTHONPATH="/another").stdout.endswith("False\n")


@pytest.mark.medium
def test_what_is_read_at_the_start_of_python_needs_a_new_one(clone: Clone) -> None:
    assert clone.stage("probe", "0", LC_ALL="C.UTF-8").stdout.endswith("False\n")


def test_dvc_stages_and_the_workers_of_a_sweep_are_its_commands() -> None:
    ours = runpy.run_path(str(HOOK / "sitecustomize.py"))["ours"]
    assert ours([*pool.COMMAND][1:])
    assert ours(["-m", "stages.train", "baseline", "0"])
    assert ours(["-m", "dvc", "repro"])
    assert not ours(["-m", "mlflow", "server"])
    assert not ours([])


@pytest.mark.slow
def test_every_clone_has_it(finished: Clone, tmp_path: Path, warm_python: dict[str, str]) -> None:
    """Without it tests are as right and take twice as long, which nobody would see."""
    assert finished.warm == finished.copy(tmp_path / "fer").warm == warm_python
