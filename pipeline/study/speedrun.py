"""Record accuracy against time: `fer speedrun [EXPERIMENT ...]` (see `make speedrun`).

Reads the baseline's finished trainings from the workspace, or from DVC experiments by name, and records in
results/<data set>/speedrun.json when PublicTest first passed each threshold: a list of runs, one per recipe and seed. A
new run replaces an older one, all runs of its recipe with other settings, and all runs from another machine, because
times must be comparable. Also draws the curves.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import dvc.api
from dvc.exceptions import DvcException
from scmrepo.exceptions import SCMError

from pipeline import config
from pipeline.comparison.records import require_one_training
from pipeline.comparison.tables import markdown_table
from pipeline.errors import UserError
from pipeline.figures.study import speed_curves
from pipeline.files import JsonDict, write_json
from pipeline.study.trial import kept
from pipeline.workspace import PREPARED, RunKey

THRESHOLDS = (0.60, 0.65, 0.68, 0.70, 0.72)
"""Accuracies on PublicTest that are timed; people reach 65 %."""


def speedrun(experiments: Sequence[str] = ()) -> None:
    """Record the baseline's runs of these DVC experiments, or by default of the workspace."""
    readers = [reader(experiment) for experiment in experiments] or [reader(None)]
    datasets = {json.loads(read((PREPARED / "checks.json").as_posix()))["dataset"] for read in readers}
    if len(datasets) > 1:
        raise UserError(f"The experiments are of several data sets ({', '.join(sorted(datasets))}): name those of one.")
    file = Path("results") / datasets.pop() / "speedrun.json"
    timed = {(run["recipe"], run["seed"]): run for run in kept(file)}
    for experiment, read in zip(experiments or [""], readers, strict=True):
        params = config.parse(read("params.yaml"), f"params.yaml of {experiment or 'the workspace'}")
        for seed in params.grid.seeds:
            run = describe(RunKey(params.compare.baseline, seed), read)
            timed = {key: old for key, old in timed.items() if not outdated(old, run)}
            timed[run["recipe"], run["seed"]] = run
    runs = [timed[key] for key in sorted(timed)]
    write_json(file, runs)
    curves: dict[str, list[list[tuple[float, float]]]] = {}
    for run in runs:
        curves.setdefault(run["recipe"], []).append([(point[0], point[1]) for point in run["curve"]])
    speed_curves(curves, file.with_suffix(".png"))
    print(table(runs))


def reader(experiment: str | None) -> Callable[[str], str]:
    """Return a function that reads one file of an experiment or of the workspace."""

    def read(path: str) -> str:
        try:
            if experiment is None:
                return Path(path).read_text(encoding="utf-8")
            return str(dvc.api.read(path, rev=experiment, mode="r"))
        except (OSError, DvcException, SCMError) as error:
            where = f"experiment {experiment}" if experiment else "the workspace"
            raise UserError(f"{path} cannot be read from {where} ({error}): run `make speedrun`.") from error

    return read


def outdated(old: JsonDict, new: JsonDict) -> bool:
    """Return whether a run's recipe has changed since, or it ran on another machine or with other numerics there."""
    changed = old["recipe"] == new["recipe"] and old["settings"] != new["settings"]
    return bool(changed or old["machine"] != new["machine"])


def describe(run_key: RunKey, read: Callable[[str], str]) -> JsonDict:
    """Return one run: what it reached, what it cost, and both when it first passed each threshold."""
    model = json.loads(read((run_key.models / "model.json").as_posix()))
    metrics = json.loads(read(run_key.metrics.as_posix()))
    require_one_training(run_key, model, metrics)
    history = list(csv.DictReader(io.StringIO(read(run_key.history.as_posix()))))
    accuracy = [float(row["val_accuracy"]) for row in history]
    seconds = [round(total, 1) for total in accumulate(model["epoch_seconds"])]
    flop = list(accumulate(model["epoch_flop"]))
    passed = {
        f"{threshold:.2f}": next((epoch for epoch, value in enumerate(accuracy) if value > threshold), None)
        for threshold in THRESHOLDS
    }
    settings = model["settings"]
    return {
        "recipe": settings["recipe"]["name"],
        "seed": run_key.seed,
        "settings": {"learning_rate": settings["model"]["learning_rate"], "recipe": settings["recipe"]},
        "val_accuracy": metrics["val"]["accuracy"],
        "test_accuracy": metrics["test"]["accuracy"],
        "test_accuracy_flip": metrics["test"]["accuracy_flip"],
        "test_accuracy_clean": metrics["test_clean"]["accuracy"],
        "training_seconds": seconds[-1],
        "epochs": len(history),
        "flop": flop[-1],
        "thresholds": {
            name: None if at is None else {"seconds": seconds[at], "epochs": at + 1, "flop": flop[at]}
            for name, at in passed.items()
        },
        "machine": model["machine"],
        "curve": list(zip(seconds, accuracy, strict=True)),
    }


def table(runs: list[JsonDict]) -> str:
    """Return a table of accuracies in per cent; each threshold as minutes, epochs and FLOP."""
    names = [f"{threshold:.2f}" for threshold in THRESHOLDS]
    headings = ["recipe", "seed", "PublicTest", "PrivateTest", "with flip", "minutes", "epochs", "FLOP"]
    lines = []
    for run in runs:
        accuracies = [run[name] for name in ("val_accuracy", "test_accuracy", "test_accuracy_flip")]
        reached = [run["thresholds"][name] for name in names]
        lines.append(
            [
                run["recipe"],
                str(run["seed"]),
                *(f"{100 * accuracy:.2f}" for accuracy in accuracies),
                *(f"{run['training_seconds'] / 60:.1f}", str(run["epochs"]), f"{run['flop']:.1e}"),
                *(f"{at['seconds'] / 60:.1f}, {at['epochs']}, {at['flop']:.1e}" if at else "never" for at in reached),
            ]
        )
    return markdown_table([*headings, *(f"{float(name):.0%}: min, epochs, FLOP" for name in names)], lines)
