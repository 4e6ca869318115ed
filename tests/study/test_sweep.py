"""Blocks of a study in a clone: what DVC would have made, without DVC; what is done is not done again."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from filelock import FileLock

from pipeline.comparison.records import RunRecord
from pipeline.comparison.rows import read_rows
from tests.clone import Clone, started, wait

pytestmark = pytest.mark.slow

BLOCK: dict[str, Any] = {
    "question": "Does it work?",
    "recipe": "fast",
    "seeds": [0],
    "baseline": "baseline",
    "models": ["baseline", "w2v_cosine"],
}
FORBIDDEN = ("mlflow", "dvc")


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    """A clone after `dvc repro`."""
    return finished.copy(tmp_path / "fer")


def forbid(folder: Path) -> str:
    """A path of modules on which MLflow and DVC cannot be imported."""
    for name in FORBIDDEN:
        module = folder / name / "__init__.py"
        module.parent.mkdir(parents=True)
        module.write_text(f"raise ImportError('{name} is not to be imported')")
    return str(folder)


def plan(clone: Clone, **blocks: dict[str, Any]) -> None:
    (clone.path / "study.yaml").write_text(yaml.safe_dump({"blocks": blocks}))


def metrics(clone: Clone, file: str) -> dict[str, Any]:
    """The measurements of a run file: without what it cost, and without what only a published run has."""
    found = dict(json.loads((clone.path / file).read_text()))
    for name in ("training", "provenance", "history"):
        found.pop(name, None)
    return found


def test_a_block_makes_what_dvc_made(clone: Clone, tmp_path: Path) -> None:
    """Without DVC and MLflow."""
    clone.environment["PYTHONPATH"] = forbid(tmp_path / "forbidden")
    before = (clone.path / "outputs/metrics/baseline-0.json").read_bytes()
    plan(clone, T=BLOCK)
    clone.fer("sweep", "--block", "T")
    kept = clone.path / "results/synthetic/T/runs"
    for key in ("baseline-0", "w2v_cosine-0"):
        for file in ("model.safetensors", "history.csv"):
            made, same = (clone.path / folder / f"outputs/models/{key}/{file}" for folder in (".study/T", "."))
            assert made.read_bytes() == same.read_bytes(), f"{key} {file}"
        assert metrics(clone, f"results/synthetic/T/runs/{key}.json") == metrics(clone, f"outputs/metrics/{key}.json")
    assert not list(clone.path.glob(".study/T/outputs/figures/**/*.png")), "figures take longest"
    assert (clone.path / "outputs/metrics/baseline-0.json").read_bytes() == before

    commit = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    provenance = RunRecord.kept(kept, "baseline-0").metrics["provenance"]
    assert provenance["command"].startswith("fer sweep --block T")
    assert (provenance["commit"], len(provenance["code"])) == (commit, 12)
    assert set(provenance["versions"]) == {"project", "python", "torch", "numpy", "scikit-learn"}

    files = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    clone.fer("sweep", "--block", "T")
    assert {path: path.stat().st_mtime_ns for path in kept.iterdir()} == files
    clone.fer("report", "--block", "T", PYTHONPATH="", FER_TRACKING="off")
    rows = read_rows(clone.path / "results/synthetic/T/ablation.json")
    assert [row.model for row in rows] == ["baseline", "baseline", "w2v_cosine"]


def test_the_grid_is_published_beside_the_blocks(clone: Clone) -> None:
    clone.set({"grid.seeds": [0, 1]})
    clone.fer("sweep", "--seed", "0", "--model", "baseline", "--figures")
    folder = clone.path / "results/synthetic"
    assert {file.name for file in folder.glob("runs/*")} == {"baseline-0.json", "baseline-0.npz"}
    assert (folder / "figures/baseline-0/confusion.png").exists()
    clone.set({"models.baseline.learning_rate": 0.123})
    clone.fer("sweep", "--seed", "0")
    assert RunRecord.kept(folder / "runs", "baseline-0").metrics["settings"]["learning_rate"] == 0.123
    assert len(list(folder.glob("runs/*.json"))) == 2


def test_a_run_that_fails_is_named_and_the_others_are_kept(clone: Clone) -> None:
    clone.set({"models.w2v_abs.learning_rate": 1.0e30})
    plan(clone, T=BLOCK | {"models": ["w2v_abs", "baseline"], "seeds": [0, 1]})
    result = clone.fer("sweep", "--block", "T", "--workers", "1", expect=1)
    assert "w2v_abs-0, w2v_abs-1" in result.stderr.splitlines()[-1]
    assert "no longer a number" in (clone.path / ".study/T/logs/w2v_abs-0.log").read_text()
    kept = clone.path / "results/synthetic/T/runs"
    assert {path.stem for path in kept.glob("*.json")} == {"baseline-0", "baseline-1"}


def test_a_sweep_that_is_stopped_in_any_way_goes_on(clone: Clone) -> None:
    """To the same history as that of a training that nobody disturbed."""
    plan(clone, T=BLOCK)
    clone.set({"recipes.fast.epochs": 60})
    clone.stage("train", "baseline", "0", FER_TRACKING="off")
    undisturbed = (clone.path / "outputs/models/baseline-0/history.csv").read_bytes()
    command = ("sweep", "--block", "T", "--model", "baseline", "--workers", "1")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        stop_after_an_epoch(clone, command, number)
        assert not list(clone.path.glob("results/synthetic/T/runs/*"))
    clone.fer(*command)
    assert "resumes from" in (clone.path / ".study/T/logs/baseline-0.log").read_text()
    assert (clone.path / ".study/T/outputs/models/baseline-0/history.csv").read_bytes() == undisturbed
    assert (clone.path / "results/synthetic/T/runs/baseline-0.json").exists()


def stop_after_an_epoch(clone: Clone, command: tuple[str, ...], number: signal.Signals) -> None:
    """Start a sweep and stop it once it has written a checkpoint; none of its processes is left."""
    before = checkpoints(clone)
    with started(clone, *command) as process:
        wait(lambda: bool(checkpoints(clone) - before))
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
        wait(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


def checkpoints(clone: Clone) -> set[tuple[str, int]]:
    """Every complete checkpoint with the time at which it was written."""
    files = clone.path.glob(".checkpoints/[!.]*.safetensors")
    return {(file.name, file.stat().st_mtime_ns) for file in files}


def test_two_sweeps_of_one_block_do_not_disturb_each_other(clone: Clone) -> None:
    plan(clone, T=BLOCK)
    lock = clone.path / ".study/T/lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert ".study/T is in use" in clone.fer("sweep", "--block", "T", expect=1).stderr


def test_rates_are_searched_before_a_sweep_and_used_by_it(clone: Clone) -> None:
    search = {"at": {"given.few5": ["given.few9"]}, "trials": 2, "epochs": 3, "finalists": 1}
    labels = ["given.few5", "given.few9"]
    plan(clone, T=BLOCK | {"models": ["baseline", "w2v_cosine", "w2v_permuted"], "labels": labels, "search": search})
    assert "fer search --block T" in clone.fer("sweep", "--block", "T", expect=1).stderr
    clone.fer("search", "--block", "T", "baseline")
    trials = json.loads((clone.path / "results/synthetic/T/learning_rates.json").read_text())
    assert {(trial["model"], trial["learning_rate"]) for trial in trials} == {
        ("baseline_few5", rate) for rate in (0.1, 0.033)
    }
    assert "w2v_cosine_few5" in clone.fer("sweep", "--block", "T", expect=1).stderr

    best = max(trials, key=lambda trial: (trial["val_accuracy"], -trial["learning_rate"]))["learning_rate"]
    clone.fer("search", "--block", "T")
    clone.fer("sweep", "--block", "T", "--model", "baseline", "--model", "w2v_permuted_few9")
    runs = clone.path / "results/synthetic/T/runs"
    rates = {path.stem: json.loads(path.read_text())["settings"]["learning_rate"] for path in runs.glob("*.json")}
    assert set(rates) == {"baseline_few5-0", "baseline_few9-0", "w2v_permuted_few9-0"}
    assert rates["baseline_few5-0"] == rates["baseline_few9-0"] == best
    shared = yaml.safe_load((runs.parent / "params.yaml").read_text())["models"]
    assert rates["w2v_permuted_few9-0"] == shared["w2v_cosine_few5"]["learning_rate"]
    settings = json.loads((runs / "baseline_few9-0.json").read_text())["settings"]
    assert settings["loss"]["labels"] == "given.few9"


def test_names_that_are_none_are_refused(
    finished: Clone, fer_in: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, what in (
        (["--model", "w2v_abs"], "Unknown entry of grid.models 'w2v_abs'"),
        (["--block", "Z"], "Unknown block 'Z'"),
        (["--block", "B", "--model", "hog"], "Unknown row of the block 'hog'"),
        (["--block", "B", "--seed", "77"], "Unknown seed of the block '77'"),
    ):
        with pytest.raises(SystemExit):
            fer_in(finished, "sweep", *arguments)
        assert what in capsys.readouterr().err
