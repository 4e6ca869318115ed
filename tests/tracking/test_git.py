"""The commit of a run: that of the code that runs, wherever its folder is and whoever owns it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.tracking import git

NONE = {"git.commit": "", "git.dirty": "unknown"}


@pytest.fixture(autouse=True)
def _no_git_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


def run(folder: Path, *arguments: str) -> str:
    person = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    done = subprocess.run(["git", *person, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def project(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dvc.yaml", "dvc.lock"):
        (folder / name).write_text("as committed")


def repository(top: Path, folder: Path) -> str:
    """A repository in `top`, with the project in `folder` and another file; the commit."""
    project(folder)
    (top / "other.txt").write_text("as committed")
    run(top, "init", "-q")
    run(top, "add", "-A")
    run(top, "commit", "-q", "-m", "All")
    return run(top, "rev-parse", "HEAD")


@pytest.mark.parametrize("below", [".", "research/faces"])
def test_the_folders_own_changes_make_it_dirty_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    """Whether the project is the repository or a folder in a larger one."""
    folder = tmp_path / below
    commit = repository(tmp_path, folder)
    monkeypatch.chdir(folder)
    assert git.state() == {"git.commit": commit, "git.dirty": "false"}
    (folder / "dvc.lock").write_text("rewritten by DVC")
    (folder / "untracked.txt").write_text("new")
    assert git.state()["git.dirty"] == "false"
    if below != ".":
        (tmp_path / "other.txt").write_text("another project's change")
        (tmp_path / "dvc.lock").write_text("another project's lock")
        assert git.state()["git.dirty"] == "false"
    (folder / "dvc.yaml").write_text("changed")
    assert git.state() == {"git.commit": commit, "git.dirty": "true"}


def test_a_change_that_the_index_hides_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the copy that DVC makes for an experiment: the file's size and time are those of the committed one."""
    repository(tmp_path, tmp_path)
    for name in ("core.trustctime", "core.checkStat"):
        run(tmp_path, "config", name, "false" if name.endswith("ctime") else "minimal")
    changed, past = tmp_path / "dvc.yaml", (1_700_000_000, 1_700_000_000)
    os.utime(changed, past)
    run(tmp_path, "update-index", "--refresh")
    changed.write_text(changed.read_text().upper())
    os.utime(changed, past)
    assert run(tmp_path, "status", "--porcelain") == "", "git itself calls it unchanged"
    monkeypatch.chdir(tmp_path)
    assert git.state()["git.dirty"] == "true"


def test_a_repository_that_has_never_committed_the_folder_says_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unpacked archive somewhere below a repository of something else."""
    repository(tmp_path, tmp_path / "theirs")
    project(tmp_path / "downloads" / "fer")
    monkeypatch.chdir(tmp_path / "downloads" / "fer")
    assert git.state() == NONE


def test_before_the_first_commit_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path)
    run(tmp_path, "init", "-q")
    run(tmp_path, "add", "-A")
    monkeypatch.chdir(tmp_path)
    assert git.state() == NONE


def test_without_a_repository_or_git_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git.state() == NONE
    repository(tmp_path, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.state() == NONE
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_unknown_until_git_may_trust_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = repository(tmp_path, tmp_path / "fer")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 65534, 65534)
    monkeypatch.chdir(tmp_path / "fer")
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert git.state() == NONE
    (line,) = capsys.readouterr().err.splitlines()
    assert f"git config --global --add safe.directory {tmp_path}" in line
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    run(tmp_path, "config", "--global", "--add", "safe.directory", str(tmp_path))
    assert git.state() == {"git.commit": commit, "git.dirty": "false"}
    assert capsys.readouterr().err == ""
