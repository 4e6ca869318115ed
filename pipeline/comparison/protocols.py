"""Read the same runs as many papers report theirs, to show how much of a gain the protocol makes.

PublicTest stands in for the test split, so that nothing is chosen by PrivateTest. Each reading is a model's accuracy
there minus the baseline's; every one but the first takes a freedom that the plan of the study does not:

- `mean`: over the seeds that both have, at the last epoch;
- `one_seed`: the first of these seeds alone;
- `best_epoch`: the same seed, each network at its own best epoch;
- `best_seed`: the model's best seed at its best epoch, against the baseline's first seed at its best epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

from pipeline.comparison.findings import Models
from pipeline.comparison.records import RunRecord, is_network
from pipeline.comparison.statistics import Interval, interval95


class Readings(NamedTuple):
    """Differences of a model from the baseline on PublicTest, as fractions."""

    mean: float
    one_seed: float
    best_epoch: float
    best_seed: float


class Epochs(NamedTuple):
    """Accuracy on PublicTest over all seeds, as fractions."""

    chosen: Interval
    last: Interval


def readings(models: Models, baseline: str) -> dict[str, Readings]:
    """Return the readings of every network but the baseline; what is no network has no epochs to choose from."""
    return {
        model: read(runs, models[baseline]) for model, runs in models.items() if model != baseline and has_epochs(runs)
    }


def epochs(models: Models) -> dict[str, Epochs]:
    """Return the accuracy of the chosen epoch and of the last one, for every network.

    A network that learns wrong labels by heart loses from one to the other.
    """
    curves = {model: [by_epoch(run) for run in runs.values()] for model, runs in models.items() if has_epochs(runs)}
    return {
        model: Epochs(interval95([max(curve) for curve in of]), interval95([curve[-1] for curve in of]))
        for model, of in curves.items()
    }


def has_epochs(runs: Mapping[int, RunRecord]) -> bool:
    """Return whether all runs are networks whose curve was kept."""
    return all(is_network(run.metrics) and run.metrics["history"] for run in runs.values())


def read(runs: Mapping[int, RunRecord], baseline: Mapping[int, RunRecord]) -> Readings:
    """Return the readings of one model, from the seeds that it shares with the baseline."""
    seeds = [seed for seed in runs if seed in baseline]
    own = [by_epoch(runs[seed]) for seed in seeds]
    others = [by_epoch(baseline[seed]) for seed in seeds]
    return Readings(
        mean=fmean(epochs[-1] for epochs in own) - fmean(epochs[-1] for epochs in others),
        one_seed=own[0][-1] - others[0][-1],
        best_epoch=max(own[0]) - max(others[0]),
        best_seed=max(map(max, own)) - max(others[0]),
    )


def by_epoch(run: RunRecord) -> list[float]:
    """Return the accuracy on PublicTest after each epoch."""
    return [epoch["val_accuracy"] for epoch in run.metrics["history"]]
