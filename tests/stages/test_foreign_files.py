"""Files of a user in every folder that the project touches, while every command runs. Nothing may be lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clone import Clone

pytestmark = pytest.mark.slow

BESIDE = [
    *("data/raw/fer2013.csv", "data/fer2013.csv", "models/mine.pt", "metrics/mine.json", "figures/a.png"),
    *("predictions/mine.csv", "reports/notes.md", "mine.txt"),
    *("outputs/notes.txt", "outputs/mine/a.txt", "outputs/metrics/mine.json", "outputs/models/mine/a.pt"),
    *("outputs/predictions/mine.csv", "outputs/figures/mine.png", ".checkpoints/mine.pt", ".machine/mine.json"),
    *("mlartifacts/mine.txt", "results/mine/notes.md", "results/synthetic/runs/mine.json", ".study/mine.log"),
]
WITHIN = [
    *("outputs/raw/fer2013.csv", "outputs/prepared/mine.npy", "outputs/labels/mine.txt", "outputs/targets/mine.npy"),
    *("outputs/models/baseline-0/mine.pt", "outputs/figures/baseline-0/mine.png", "outputs/reports/mine.md"),
]
"""In the folders of outputs themselves."""


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    clone = finished.copy(tmp_path / "clone", FER_TRACKING="off")
    put(clone, [*BESIDE, *WITHIN])
    return clone


def put(clone: Clone, names: list[str]) -> None:
    for name in names:
        file = clone.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)


def lost(clone: Clone, names: list[str]) -> list[str]:
    files = {name: clone.path / name for name in names}
    return [name for name, file in files.items() if not file.exists() or file.read_text() != name]


def test_no_command_removes_a_file_of_the_user(clone: Clone, fer_in: Callable[..., None]) -> None:
    everything = [*BESIDE, *WITHIN]
    assert "up to date" in clone.dvc("status"), "a foreign file made a stage stale"
    for command in ("publish", "speedrun"):
        fer_in(clone, command)
    (clone.path / "outputs/reports/ablation.md").unlink()
    clone.set({"data.synthetic.seed": 1})  # makes every stage stale
    clone.dvc("repro", "train@baseline-0")
    put(clone, ["outputs/models/baseline-0/later.pt"])  # between two commands
    everything.append("outputs/models/baseline-0/later.pt")
    clone.dvc("repro", "--force", "--single-item", "train@baseline-0", "evaluate@baseline-0")
    clone.dvc("checkout", "--force")
    assert lost(clone, everything) == []
    assert "up to date" in clone.dvc("status", "train@baseline-0", "evaluate@baseline-0")

    fer_in(clone, "clean")
    assert lost(clone, everything) == []
    left = [path for path in (clone.path / "outputs").rglob("*") if path.is_file()]
    names = {path.relative_to(clone.path).as_posix() for path in left}
    assert names == {name for name in everything if name.startswith("outputs/")}


def test_the_only_copy_of_the_data_survives_a_path_into_the_outputs(finished: Clone, tmp_path: Path) -> None:
    clone = finished.copy(tmp_path / "clone", FER_TRACKING="off")
    raw = next((clone.path / "outputs/raw").glob("sha256-*"))
    content = raw.read_bytes()
    clone.set({"data.source": "archive", "data.path": raw.relative_to(clone.path).as_posix()})
    assert "error: data.path: outputs/raw/" in clone.run("dvc", "repro", expect=255).stderr
    assert clone.stage("fetch", expect=1).stderr.startswith("error: data.path: outputs/raw/")
    assert raw.read_bytes() == content
