"""Where a clone may lie: under any name, and inside a larger repository."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.clone import Clone

pytestmark = pytest.mark.slow


def test_a_clone_under_any_name_runs_and_logs_with_no_python_on_the_path(finished: Clone, tmp_path: Path) -> None:
    """Not activated, in the C locale, where names are bytes that Python must keep."""
    clone = finished.copy(tmp_path / "é张 #1 50%20 l'q & (2)?a=b" / "fer")
    printed = clone.dvc("repro", "--force", "--single-item", "fetch", PATH="/no-such-folder", LC_ALL="C")
    assert "Running stage 'fetch'" in printed
    assert "up to date" in clone.dvc("repro")
    assert (clone.path / "mlflow.db").stat().st_size > 0
    assert list(clone.path.glob("mlartifacts/*/artifacts/source.json"))
    assert os.listdir(tmp_path) == [clone.path.parent.name]
    assert os.listdir(clone.path.parent) == ["fer"]

    source = json.loads((clone.path / "outputs" / "raw" / "source.json").read_text())["archive"]
    archive = tmp_path / "my o'data" / "fer é张 (1) & #2, a=b.csv"
    archive.parent.mkdir()
    shutil.copy(clone.path / "outputs" / "raw" / source["file"], archive)
    path = f'data.path="{archive}"'
    clone.dvc("exp", "run", "-S", "data.source=archive", "-S", path, "fetch", PATH="/no-such-folder")
    brought = json.loads((clone.path / "outputs" / "raw" / "source.json").read_text())["archive"]
    assert (brought["source"], brought["name"]) == ("archive", archive.name)
    assert brought["sha256"] == source["sha256"]


def test_a_part_of_a_larger_repository_runs_experiments_and_knows_its_commit(finished: Clone, tmp_path: Path) -> None:
    clone = finished.copy(tmp_path / "research" / "fer")
    shutil.rmtree(clone.path / ".git")
    (tmp_path / "other.txt").write_text("another project")
    for command in (["init", "-q"], ["config", "user.name", "Test"], ["config", "user.email", "test@example.com"]):
        clone.run("git", "-C", str(tmp_path), *command)
    clone.commit("The project in its folder")
    (tmp_path / "other.txt").write_text("another project's change")
    clone.run("git", "-C", str(tmp_path), "add", "other.txt")

    clone.dvc("repro", "--force", "--single-item", "fetch")
    clone.dvc("exp", "run", "--temp", "-S", "data.synthetic.seed=9", "fetch")
    experiment, plain = clone.runs()["data"]
    commit = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    assert {run.data.tags["git.commit"] for run in (experiment, plain)} == {commit}
    assert (plain.data.tags["git.dirty"], plain.data.tags["dvc.exp_name"]) == ("false", "")
    assert experiment.data.tags["git.dirty"] == "true", "its params.yaml is not the committed one"
    assert experiment.data.tags["dvc.exp_name"]
