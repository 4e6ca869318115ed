"""Compare every model under every decoder with the baseline, on the same images and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.comparison.registry import paired_by
from pipeline.comparison.rows import ComparisonRow, MetricSummary, PairedTest
from pipeline.comparison.statistics import (
    holm,
    interval95,
    mcnemar,
    minimum_detectable_difference,
    paired_bootstrap,
    paired_t,
)
from pipeline.errors import UserError
from pipeline.files import JsonDict, flatten


@dataclass(frozen=True)
class Entry:
    """One model under one decoder, measured with one or more seeds.

    metrics: per seed, `val`, `test` and `test_clean` (and `training`) as evaluate wrote them. index: rows of the
    PrivateTest images in the data set, [N]. right: per metric that is paired by image, and per seed, whether each image
    was right: [N], or fewer without the near duplicates of Training or without a FER+ majority.
    """

    model: str
    decoder: str
    metrics: Mapping[int, JsonDict]
    index: npt.NDArray[np.integer]
    right: Mapping[str, Mapping[int, npt.NDArray[np.bool_]]]

    @property
    def seeds(self) -> list[int]:
        """The seeds, ascending."""
        return sorted(self.metrics)


def compare(entries: Sequence[Entry], resamples: int) -> list[ComparisonRow]:
    """Return one row per entry; the first entry is the baseline.

    Each metric is summarised over the entry's seeds. Metrics that `METRICS` pairs by image are compared with the
    baseline by a paired bootstrap over images and shared seeds; those paired by seed by a t test if at least two seeds
    are shared. Each is corrected for all rows (Holm). Raises UserError if entries are about different images or share
    no seed with the baseline.
    """
    baseline = entries[0]
    by_image = [name for name in baseline.right if all(name in entry.right for entry in entries)]
    rows = [_summary(baseline)]
    rows += [_against(entry, baseline, paired_by("images", by_image), resamples) for entry in entries[1:]]
    for metric in rows[0].metrics:
        # Every variant is another chance of a false positive: Holm's correction covers all of them.
        tested = [k for k, row in enumerate(rows) if metric in row and row[metric].test]
        corrected = holm([rows[k].test(metric).p for k in tested])
        for k, p in zip(tested, corrected, strict=True):
            rows[k] = rows[k].with_p_holm(metric, float(p))
    return rows


def _summary(entry: Entry) -> ComparisonRow:
    """Summarise every number that all seeds have over the seeds."""
    flat = [flatten(entry.metrics[seed]) for seed in entry.seeds]
    metrics = {
        name: MetricSummary(*interval95([seed[name] for seed in flat]))
        for name, value in flat[0].items()
        if isinstance(value, int | float) and all(name in seed for seed in flat)
    }
    return ComparisonRow(entry.model, entry.decoder, entry.seeds, metrics)


def _against(entry: Entry, baseline: Entry, by_image: Sequence[str], resamples: int) -> ComparisonRow:
    if not np.array_equal(entry.index, baseline.index):
        raise UserError(
            f"{entry.model} and {baseline.model} were measured on different images: run `dvc repro` again."
        )
    shared = [seed for seed in entry.seeds if seed in baseline.metrics]
    if not shared:
        raise UserError(f"{entry.model} shares no seed with {baseline.model}: train the same seeds of both.")
    row = _summary(entry)
    tests = {name: _by_image(entry.right[name], baseline.right[name], shared, resamples) for name in by_image}
    if len(shared) > 1:
        mine, theirs = ([flatten(some.metrics[seed]) for seed in shared] for some in (entry, baseline))
        both = [name for name in row.metrics if all(name in seed for seed in theirs)]
        for name in paired_by("seeds", both):
            tests[name] = PairedTest(
                *paired_t([seed[name] for seed in mine], [seed[name] for seed in theirs])
            )
    metrics = {name: replace(found, test=tests.get(name)) for name, found in row.metrics.items()}
    return replace(row, metrics=metrics, paired_seeds=shared)


def _by_image(
    right: Mapping[int, npt.NDArray[np.bool_]], other: Mapping[int, npt.NDArray[np.bool_]], seeds: Sequence[int],
    resamples: int,
) -> PairedTest:  # fmt: skip
    mine, theirs = (np.stack([some[seed] for seed in seeds]) for some in (right, other))
    difference = paired_bootstrap(mine, theirs, resamples)
    return PairedTest(
        *difference,
        mcnemar=[mcnemar(a, b) for a, b in zip(mine, theirs, strict=True)],
        disagreement=float((mine != theirs).mean()),
        detectable=minimum_detectable_difference(difference),
    )
