"""`stages/run` finds the Python that runs DVC, whatever is on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_PYTHON = "/no-such-folder"

DVC = """
import os, subprocess, sys
os.environ.update(DVC_STAGE="show", DVC_ROOT=sys.argv[1])
sys.exit(subprocess.run(["/bin/sh", "-c", "/bin/sh stages/run show one 'two words' && true"]).returncode)
"""
"""What DVC does: a shell that runs the stage's command, with no word about the interpreter."""


def environment(folder: Path, packages: bool = True) -> Path:
    """A virtual environment with a command `dvc` and, if wished, the packages of this one; its bin."""
    venv.EnvBuilder(symlinks=True).create(folder)
    (site,) = (folder / "lib").glob("python*/site-packages")
    if packages:
        (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
    script = folder / "bin" / "dvc"
    script.write_text(DVC)
    return folder / "bin"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a stage that says which Python runs it."""
    folder = tmp_path / "my project"
    (folder / "stages").mkdir(parents=True)
    shutil.copy(ROOT / "stages" / "run", folder / "stages")
    (folder / "stages" / "run").chmod(0o644)  # as some ways to unpack an archive leave it
    (folder / "stages" / "show.py").write_text("import sys; print(sys.prefix, *sys.argv[1:], sep='|')")
    return folder


def run(project: Path, *command: str, path: str = NO_PYTHON) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "VIRTUAL_ENV"))}
    return subprocess.run(
        [*command, str(project)], cwd=project, env=clean | {"PATH": path}, capture_output=True, text=True, check=False
    )


def decoy(folder: Path) -> str:
    """A PATH on which every Python has nothing installed."""
    folder.mkdir()
    for name in ("python", "python3"):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_the_interpreter_of_dvc_runs_the_stage(project: Path, tmp_path: Path) -> None:
    """Not activated, in a folder with a blank, with another Python on PATH or none, a `.venv` beside it or not."""
    chosen = environment(tmp_path / "any other env")
    environment(project / ".venv")
    for path in (NO_PYTHON, decoy(tmp_path / "decoy")):
        done = run(project, str(chosen / "python"), str(chosen / "dvc"), path=path)
        assert (done.stdout, done.stderr) == (f"{chosen.parent}|one|two words\n", "")


def test_python_m_dvc_by_a_relative_path_and_by_name(project: Path, tmp_path: Path) -> None:
    chosen = environment(project / "env")
    program = ("-c", DVC)
    assert run(project, "env/bin/python", *program).stdout == f"{chosen.parent}|one|two words\n"
    by_name = [shutil.which("env") or "", "python", *program]
    assert run(project, *by_name, path=str(chosen)).stdout == f"{chosen.parent}|one|two words\n"


@pytest.mark.skipif(shutil.which("ps", path="/usr/bin:/bin") is None, reason="ps is not installed")
def test_where_there_is_no_proc_ps_tells(project: Path, tmp_path: Path) -> None:
    """As on macOS, where the interpreter has another path and its neighbour `dvc` the right one."""
    launcher = project / "stages" / "run"
    launcher.write_text(launcher.read_text().replace("/proc/", "/no-proc/"))
    chosen = environment(tmp_path / "env")
    framework = environment(tmp_path / "Framework", packages=False) / "python"
    for python in (chosen / "python", framework):
        done = run(project, str(python), str(chosen / "dvc"), path=decoy(tmp_path / python.parent.parent.name[0]))
        assert done.stdout == f"{chosen.parent}|one|two words\n"


def test_a_dvc_that_is_installed_on_its_own_leaves_the_stage_to_the_projects_environment(
    project: Path, tmp_path: Path
) -> None:
    alone = environment(tmp_path / "pipx", packages=False)
    ours = environment(project / ".venv")
    done = run(project, str(alone / "python"), str(alone / "dvc"), path=decoy(tmp_path / "decoy"))
    assert (done.stdout, done.stderr) == (f"{ours.parent}|one|two words\n", "")


def test_without_any_suitable_python_one_sentence_says_what_to_do(project: Path, tmp_path: Path) -> None:
    alone = environment(tmp_path / "pipx", packages=False)
    done = run(project, str(alone / "python"), str(alone / "dvc"), path=decoy(tmp_path / "decoy"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "make install" in line


def test_the_packages_that_it_asks_for_are_needed() -> None:
    needed = (ROOT / "pyproject.toml").read_text()
    (line,) = [line for line in (ROOT / "stages" / "run").read_text().splitlines() if line.startswith("packages=")]
    for name in line.split("'")[1].split():
        assert f'"{name.replace("sklearn", "scikit-learn")}>=' in needed or f'"{name}~=' in needed


def test_every_stage_is_run_by_it() -> None:
    commands = [
        line.split("cmd: ")[1].split() for line in (ROOT / "dvc.yaml").read_text().splitlines() if "cmd: " in line
    ]
    assert commands
    for command in commands:
        assert command[:2] == ["/bin/sh", "stages/run"]
        assert (ROOT / "stages" / f"{command[2]}.py").is_file()
