"""What the Makefile hands on: paths with any letters, a port that is free, a folder without git."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

ROOT = Path(__file__).parents[1]
NAMES = [
    *("fer2013.tar.gz", "café.csv", "张.csv", "fer (1).csv", "a & b.csv", "o'brien's.csv", "#1.csv", "a,b.csv"),
    *("a=b.csv", "[a].csv", "{a}.csv", "a;b.csv", "a%20b.csv", "a!.csv", "~a.csv", "a:b.csv", "a*b?.csv", "50 %.csv"),
]


def understood(override: str, folder: Path) -> str:
    """What DVC writes into params.yaml for `-S override`."""
    (experiment,) = get_hydra_sweeps({"params.yaml": [override]})
    params = folder / "params.yaml"
    params.write_text("data:\n  path: ''\n")
    apply_overrides(params, experiment["params.yaml"])
    return str(yaml.safe_load(params.read_text())["data"]["path"])


@pytest.mark.parametrize("page", ["README.md", "docs/study.md", "docs/parameters.md"])
@pytest.mark.parametrize("name", NAMES)
def test_the_form_of_the_pages_takes_every_path(tmp_path: Path, page: str, name: str) -> None:
    """Through a shell, as a reader types it, and then through DVC's own parser."""
    (form,) = set(re.findall(r'-S ("data\.path=\\"\$HOME/data/).+?(\\"")', (ROOT / page).read_text(encoding="utf-8")))
    shell = ["bash", "-c", f"printf %s {form[0]}{name}{form[1]}"]
    typed = subprocess.run(
        shell, env=os.environ | {"HOME": "/home/maria müller"}, capture_output=True, text=True, check=True
    )
    assert understood(typed.stdout, tmp_path) == f"/home/maria müller/data/{name}"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs that note what they were called with, to stand before the real ones."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("dvc", "mlflow", "fer"):
        config = f'echo "$DVC_GLOBAL_CONFIG_DIR" >{tmp_path}/config'
        program = f'#!/bin/sh\n{config}\nprintf "%s\\0" "$@" >>{tmp_path}/called\n'
        (folder / name).write_text(program)
        (folder / name).chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    return folder


def make(folder: Path, programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "GIT_CEILING_DIRECTORIES": "/"}
    environment.pop("DVC_GLOBAL_CONFIG_DIR", None)
    command = ["make", "--assume-old=install", "VENV=no-such-folder", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def called(programs: Path) -> list[str]:
    return (programs.parent / "called").read_text(encoding="utf-8").split("\0")


@pytest.mark.parametrize("name", [*NAMES, 'said "no".csv'])
def test_an_archive_of_any_name_is_handed_to_dvc(tmp_path: Path, programs: Path, name: str) -> None:
    archive = tmp_path / "my data" / name
    archive.parent.mkdir()
    archive.touch()
    make(ROOT, programs, "speedrun-fast", f"ARCHIVE={archive}")
    (override,) = [word for word in called(programs) if word.startswith("data.path=")]
    assert understood(override, tmp_path) == str(archive)


def test_the_dashboard_takes_another_port_and_says_when_one_is_taken(programs: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = make(ROOT, programs, "ui", f"PORT={port}")
        assert refused.returncode != 0
        assert f"error: port {port} is taken" in refused.stderr
        assert "make ui PORT=" in refused.stderr
        assert not (programs.parent / "called").exists()
    assert make(ROOT, programs, "ui", f"PORT={port}").returncode == 0
    assert f"--port\0{port}" in "\0".join(called(programs))


@pytest.mark.parametrize("has_git", [True, False])
def test_a_folder_without_a_repository_tells_dvc_so(tmp_path: Path, programs: Path, has_git: bool) -> None:
    folder = tmp_path / "fer"
    (folder / ".dvc" / "without_git").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / ".dvc" / "without_git" / "config", folder / ".dvc" / "without_git")
    if has_git:
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
    make(folder, programs, "repro")
    config = (tmp_path / "config").read_text().strip()
    assert config == ("" if has_git else str(folder / ".dvc" / "without_git"))


@pytest.mark.medium
def test_dvc_runs_in_an_unpacked_download_as_make_calls_it_and_after_git_init(tmp_path: Path) -> None:
    folder = tmp_path / "fer"
    (folder / ".dvc").mkdir(parents=True)
    shutil.copytree(ROOT / ".dvc" / "without_git", folder / ".dvc" / "without_git")
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc")
    (folder / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo one > one\n    outs: [one]\n")

    def repro(**environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
        command = [sys.executable, "-m", "dvc", "repro"]
        return subprocess.run(command, cwd=folder, env=clean | environment, capture_output=True, text=True, check=False)

    assert "not a git repository" in repro().stderr
    assert repro(DVC_GLOBAL_CONFIG_DIR=".dvc/without_git").returncode == 0
    assert (folder / "one").read_text() == "one\n"
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    assert "up to date" in repro().stdout
