"""The record of accuracy against time, from the workspace and from experiments, against the files it reads."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.errors import UserError
from pipeline.study import speedrun
from pipeline.study.speedrun import describe, outdated
from pipeline.workspace import RunKey
from tests.clone import ROOT, Clone

FILES: dict[str, Any] = {
    "outputs/models/baseline-3/model.json": {
        "settings": {"recipe": {"name": "fast", "epochs": 3}, "model": {"learning_rate": 0.1}, "seed": 3},
        "epoch_seconds": [10.0, 20.0, 30.5],
        "epoch_flop": [100, 100, 300],
        "machine": {"processor": "Example 1"},
        "settings_digest": "0123456789ab",
    },
    "outputs/metrics/baseline-3.json": {
        "settings_digest": "0123456789ab",
        "val": {"accuracy": 0.69},
        "test": {"accuracy": 0.7, "accuracy_flip": 0.71},
        "test_clean": {"accuracy": 0.65},
    },
}
HISTORY = "epoch,val_accuracy\n0,0.50\n1,0.6501\n2,0.69\n"


def read(path: str) -> str:
    return HISTORY if path == "outputs/models/baseline-3/history.csv" else json.dumps(FILES[path])


def test_a_threshold_is_passed_at_the_end_of_the_first_epoch_above_it() -> None:
    run = describe(RunKey("baseline", 3), read)
    assert run == {
        "recipe": "fast", "seed": 3,
        "settings": {"learning_rate": 0.1, "recipe": {"name": "fast", "epochs": 3}},
        "val_accuracy": 0.69, "test_accuracy": 0.7, "test_accuracy_flip": 0.71, "test_accuracy_clean": 0.65,
        "training_seconds": 60.5, "epochs": 3, "flop": 500,
        "thresholds": {
            "0.60": {"seconds": 30.0, "epochs": 2, "flop": 200},
            "0.65": {"seconds": 30.0, "epochs": 2, "flop": 200},
            "0.68": {"seconds": 60.5, "epochs": 3, "flop": 500},
            "0.70": None,
            "0.72": None,
        },
        "machine": {"processor": "Example 1"},
        "curve": [(10.0, 0.5), (30.0, 0.6501), (60.5, 0.69)],
    }  # fmt: skip


def test_experiments_of_several_data_sets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedrun, "reader", lambda name: lambda path: json.dumps({"dataset": name}))
    with pytest.raises(UserError, match=r"several data sets \(fer2013, synthetic\)"):
        speedrun.speedrun(["synthetic", "fer2013"])


def test_metrics_of_another_training_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES["outputs/metrics/baseline-3.json"], "settings_digest", "ba9876543210")
    with pytest.raises(
        UserError, match=r"^outputs/metrics/baseline-3\.json was measured before baseline-3 was retrained"
    ):
        describe(RunKey("baseline", 3), read)


@pytest.mark.parametrize(("change", "is_outdated"), [
    ({"seed": 2}, False), ({"recipe": "full"}, False), ({"recipe": "full", "settings": {}}, False),
    ({"settings": {}}, True), ({"machine": {"threads": 1}}, True), ({"recipe": "full", "machine": {}}, True),
])  # fmt: skip
def test_runs_of_a_recipe_have_its_settings_and_all_are_of_one_machine(
    change: dict[str, Any], is_outdated: bool
) -> None:
    run = describe(RunKey("baseline", 3), read)
    assert outdated(run | change, run) == is_outdated


def archive_of(clone: Clone, folder: Path) -> Path:
    """The clone's drawn faces as a FER-2013 archive."""
    archive = folder / "fer2013.csv"
    folder.mkdir(exist_ok=True)
    prepared = [np.load(clone.path / f"outputs/prepared/{name}.npy") for name in ("images", "labels", "split")]
    with archive.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["emotion", "pixels", "Usage"])
        for pixels, label, split in zip(*prepared, strict=True):
            usage = ("Training", "PublicTest", "PrivateTest")[split]
            table.writerow([label, " ".join(map(str, pixels.ravel())), usage])
    return archive


@pytest.mark.medium
def test_a_run_of_the_workspace_is_what_its_files_say(
    finished: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished.path)
    file = Path("results/synthetic/speedrun.json")
    speedrun.speedrun()
    (run,) = json.loads(file.read_text())
    model = json.loads(Path("outputs/models/baseline-0/model.json").read_text())
    with Path("outputs/models/baseline-0/history.csv").open() as rows:
        accuracy = [float(row["val_accuracy"]) for row in csv.DictReader(rows)]
    assert [point[1] for point in run["curve"]] == accuracy
    assert [point[0] for point in run["curve"]] == pytest.approx(list(accumulate(model["epoch_seconds"])), abs=0.1)
    assert run["flop"] == model["training"]["flop"] == sum(model["epoch_flop"])
    assert run["training_seconds"] == pytest.approx(model["training"]["seconds"], abs=0.1)
    assert "| fast | 0 |" in capsys.readouterr().out
    assert file.with_suffix(".png").stat().st_size > 5000
    file.unlink()
    file.with_suffix(".png").unlink()


def test_runs_of_the_workspace_and_of_experiments_share_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speedrun, "reader", recipes)
    file = Path("results/drawn/speedrun.json")
    speedrun.speedrun()
    (run,) = json.loads(file.read_text())
    speedrun.speedrun(["speedrun-full"])
    runs = json.loads(file.read_text())
    assert [(run["recipe"], run["seed"]) for run in runs] == [("fast", 0), ("full", 1), ("full", 2)]
    assert runs[0] == run  # it stays
    speedrun.speedrun(["speedrun-full"])
    assert json.loads(file.read_text()) == runs  # a run replaces itself
    file.write_text(json.dumps([runs[0] | {"seed": 5, "settings": {"learning_rate": 7.0}}, *runs]))
    speedrun.speedrun()
    assert json.loads(file.read_text()) == runs  # and all of its recipe that had other settings


def recipes(experiment: str | None) -> Callable[[str], str]:
    """Reads the files of a workspace with the fast recipe and seed 0, of an experiment with the full one, 1 and 2."""
    recipe, seeds = ("fast", [0]) if experiment is None else ("full", [1, 2])

    def read(path: str) -> str:
        if path == "params.yaml":
            params = yaml.safe_load((ROOT / path).read_text())
            return yaml.safe_dump(params | {"recipe": recipe, "grid": {"models": ["baseline"], "seeds": seeds}})
        if path == "outputs/prepared/checks.json":
            return json.dumps({"dataset": "drawn"})
        if path.endswith("history.csv"):
            return HISTORY
        folder, name = path.removeprefix("outputs/").split("/", 1)
        if folder == "models":
            kept = FILES["outputs/models/baseline-3/model.json"]
            seed = int(name.split("/")[0].removeprefix("baseline-"))
            settings = kept["settings"] | {"recipe": {"name": recipe, "epochs": 3}, "seed": seed}
            return json.dumps(kept | {"settings": settings})
        return json.dumps(FILES["outputs/metrics/baseline-3.json"])

    return read


@pytest.mark.slow
def test_make_trains_and_times_a_recipe_on_an_archive(
    finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drawn faces as a FER-2013 archive, in a folder with a space in its name."""
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    archive = archive_of(clone, tmp_path / "my data")
    script = clone.path / ".venv/bin/fer"  # pip writes the like, which an older environment lacks
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pipeline "$@"\n')
    script.chmod(0o755)
    before = (clone.path / "params.yaml").read_text()
    # As installed already, with one seed instead of three, and of other counts than the real data.
    make = ("make", "--assume-old=install", "speedrun-full", "SEEDS=1", "EXPECT=any")
    told = clone.run(*make, expect=2).stderr
    assert "make speedrun-full ARCHIVE=path/to/fer2013.tar.gz" in told

    printed = clone.run(*make, f"ARCHIVE={archive.parent.name}/fer2013.csv", expect=2).stderr
    assert "error: say where your copy of FER-2013 is" in printed  # relative paths start at the repository
    printed = clone.run(*make, f"ARCHIVE=../{archive.parent.name}/fer2013.csv").stdout
    assert "| full | 1 |" in printed
    (file,) = (clone.path / "results").glob("custom-*/speedrun.json")
    (run,) = json.loads(file.read_text())
    assert (run["recipe"], run["epochs"]) == ("full", 4)
    own = json.loads((finished.path / "outputs/models/baseline-0/model.json").read_text())
    assert run["machine"] == own["machine"], "or neither recipe could be kept beside the other"
    assert (clone.path / "params.yaml").read_text() == before, "the workspace keeps its own parameters"
    assert (clone.path / "outputs/models/baseline-0/history.csv").read_bytes() == (
        finished.path / "outputs/models/baseline-0/history.csv"
    ).read_bytes()

    kept = file.read_bytes()
    monkeypatch.chdir(clone.path)
    with pytest.raises(UserError, match="no-such-experiment"):
        speedrun.speedrun(["no-such-experiment"])
    assert file.read_bytes() == kept
