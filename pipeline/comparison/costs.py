"""Say what each model costs beyond the baseline: operations of its training, and numbers that someone had to choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from pipeline.comparison.findings import Models
from pipeline.comparison.records import RunRecord, is_network


class Cost(NamedTuple):
    """Operations of the training, 1 for the baseline's, None without a network; and the settings that come on top.

    A setting is a number other than 0 where the baseline has none, or 0. The learning rate is not one.
    """

    operations: float | None
    settings: int


def costs(models: Models, baseline: str) -> dict[str, Cost]:
    """Return the cost of every model. Operations are means over seeds, whose draws of images may differ."""
    common = operations(models[baseline])
    given = dict(numbers(settings_of(models[baseline])))
    found = {}
    for model, runs in models.items():
        own = operations(runs)
        added = [place for place, value in numbers(settings_of(runs)) if value != 0 and not given.get(place)]
        found[model] = Cost(own / common if own and common else None, len(added))
    return found


def operations(runs: Mapping[int, RunRecord]) -> float | None:
    """Return the floating point operations of a training, None for what is no network."""
    if not all(is_network(run.metrics) for run in runs.values()):
        return None
    return fmean(run.metrics["training"]["flop"] for run in runs.values())


def settings_of(runs: Mapping[int, RunRecord]) -> Mapping[str, Any]:
    """Return the settings of a model, which all its seeds share."""
    settings: Mapping[str, Any] = next(iter(runs.values())).metrics["settings"]
    return settings


def numbers(settings: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the numbers of nested settings with the keys that lead to them."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from numbers(value, (*place, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*place, key), value
