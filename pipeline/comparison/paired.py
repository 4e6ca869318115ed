"""Rows of the table: every model under every decoder against the baseline, on the same images and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.comparison.statistics import (
    Difference,
    holm,
    interval95,
    mcnemar,
    minimum_detectable_difference,
    paired_bootstrap,
    paired_t,
)
from pipeline.errors import UserError
from pipeline.files import flatten

Row = dict[str, Any]

PAIRED = ("test.accuracy", "test.accuracy_flip", "test_clean.accuracy", "test.votes.accuracy")
"""The metrics that are compared image by image with the baseline's; the last one only where there are votes."""

SEEDWISE = ("test.severity.affective.", "test.severity.human.")
"""What the metrics begin with that are compared seed by seed: per image they would tell its label."""


@dataclass(frozen=True)
class Entry:
    """One model under one decoder, measured with some seeds.

    metrics: per seed, `val`, `test` and `test_clean` (and `training`) as evaluate wrote them. index: rows of
    the images of PrivateTest, [N]. right: per metric of `PAIRED` and seed, whether each image was right: [N],
    or fewer without the images that have a twin in Training, or no majority of FER+.
    """

    model: str
    decoder: str
    metrics: Mapping[int, Mapping[str, Any]]
    index: npt.NDArray[np.integer]
    right: Mapping[str, Mapping[int, npt.NDArray[np.bool_]]]

    @property
    def seeds(self) -> list[int]:
        return sorted(self.metrics)


def compare(entries: Sequence[Entry], resamples: int) -> list[Row]:
    """One row per entry, the first of which is the baseline that all others are compared with.

    Each metric has `mean`, `std` and `ci95` over the entry's seeds. Those of `PAIRED` also have, over the
    seeds that entry and baseline share, `difference` with `low`, `high` and `p` (paired bootstrap over images
    and seeds), `p_holm` (corrected for all rows) and `mcnemar` per seed. Those of `SEEDWISE` have the same by
    a paired t test over the seeds, where at least two are shared.
    Raises UserError if entries are about different images or share no seed with the baseline.
    """
    baseline = entries[0]
    metrics = [metric for metric in PAIRED if all(metric in entry.right for entry in entries)]
    rows = [_row(entry, baseline, metrics, resamples) for entry in entries]
    for metric in [name for name, value in rows[0].items() if isinstance(value, dict)]:
        # Every variant is one more chance to be lucky: Holm's correction over all of them.
        tested = [row[metric] for row in rows[1:] if "p" in row.get(metric, ())]
        for found, p in zip(tested, holm([found["p"] for found in tested]), strict=True):
            found["p_holm"] = float(p)
    return rows


def _row(entry: Entry, baseline: Entry, metrics: Sequence[str], resamples: int) -> Row:
    row: Row = {"model": entry.model, "decoder": entry.decoder, "seeds": entry.seeds}
    flat = [flatten(entry.metrics[seed]) for seed in entry.seeds]
    for name, value in flat[0].items():
        if isinstance(value, int | float) and all(name in seed for seed in flat):
            mean, std, half = interval95([seed[name] for seed in flat])
            row[name] = {"mean": mean, "std": std, "ci95": half}
    if entry is baseline:
        return row
    if not np.array_equal(entry.index, baseline.index):
        raise UserError(
            f"{entry.model} and {baseline.model} were measured on different images: run `dvc repro` again."
        )
    shared = [seed for seed in entry.seeds if seed in baseline.metrics]
    if not shared:
        raise UserError(f"{entry.model} shares no seed with {baseline.model}: train the same seeds of both.")
    row["paired_seeds"] = shared
    for metric in metrics:
        mine = np.stack([entry.right[metric][seed] for seed in shared])
        theirs = np.stack([baseline.right[metric][seed] for seed in shared])
        difference = paired_bootstrap(mine, theirs, resamples)
        row[metric] |= {
            **_told(difference),
            "mcnemar": [mcnemar(a, b) for a, b in zip(mine, theirs, strict=True)],
            "disagreement": float((mine != theirs).mean()),
            "detectable": minimum_detectable_difference(difference),
        }
    if len(shared) > 1:
        theirs_flat = [flatten(baseline.metrics[seed]) for seed in shared]
        mine_flat = [flatten(entry.metrics[seed]) for seed in shared]
        for name in row:
            if name.startswith(SEEDWISE) and all(name in seed for seed in theirs_flat):
                difference = paired_t(
                    [seed[name] for seed in mine_flat], [seed[name] for seed in theirs_flat]
                )
                row[name] |= _told(difference)
    return row


def _told(difference: Difference) -> dict[str, float]:
    return {"difference": difference.mean, "low": difference.low, "high": difference.high, "p": difference.p}
