"""Compare every model under every decoder with the baseline, on the same images and seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.comparison.bootstrap import paired_bootstrap
from pipeline.comparison.families import family_of
from pipeline.comparison.registry import FRACTIONS, corrected_with
from pipeline.comparison.rows import ComparisonRow, MetricSummary, PairedTest, corrected
from pipeline.comparison.statistics import Scores, crossed_t, interval95, mcnemar
from pipeline.errors import UserError
from pipeline.files import JsonDict, flatten

BOOTSTRAPPED = "test.accuracy"
"""The metric for which a bootstrap is reported with the test."""


@dataclass(frozen=True)
class Entry:
    """One model under one decoder, measured with one or more seeds.

    metrics: per seed, `val`, `test` and `test_clean` (and `training`) as evaluate wrote them. index: rows of the
    PrivateTest images in the data set, [N]. values: per metric that is tested, and per seed, a value for each image
    whose mean is the metric: [N], or fewer without the near duplicates of Training, without a FER+ majority or of one
    class; bool if the image is right or wrong. settings: those of the metrics file. own_decoder: whether the decoder is
    the model's own.
    """

    model: str
    decoder: str
    metrics: Mapping[int, JsonDict]
    index: npt.NDArray[np.integer]
    values: Mapping[str, Mapping[int, Scores]]
    settings: JsonDict
    own_decoder: bool = True

    @property
    def seeds(self) -> list[int]:
        """The seeds, ascending."""
        return sorted(self.metrics)


def compare(entries: Sequence[Entry], resamples: int = 0) -> list[ComparisonRow]:
    """Return one row per entry; the first entry is the baseline.

    Each metric is summarised over the entry's seeds. Metrics that have a value for each image are compared with the
    baseline by the crossed test over images and shared seeds, and corrected for all rows of the same family (Holm).
    Accuracy is bootstrapped as well, unless `resamples` is 0. Raises UserError if entries are about different images or
    share no seed with the baseline.
    """
    baseline = entries[0]
    return correct([_summary(baseline), *(_against(entry, baseline, resamples) for entry in entries[1:])])


def correct(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Return the rows with every test corrected: every row of a family is another chance of a false positive."""
    together = defaultdict(list)
    for k, row in enumerate(rows):
        for metric, summary in row.metrics.items():
            if summary.test:
                together[row.family, corrected_with(metric)].append((k, metric))
    done = list(rows)
    for places in together.values():
        tests = corrected([rows[k].test(metric) for k, metric in places], places[0][1] in FRACTIONS)
        for (k, metric), test in zip(places, tests, strict=True):
            done[k] = done[k].with_test(metric, test)
    return done


def _summary(entry: Entry) -> ComparisonRow:
    """Summarise every number that all seeds have over the seeds."""
    flat = [flatten(entry.metrics[seed]) for seed in entry.seeds]
    metrics = {
        name: MetricSummary(*interval95([seed[name] for seed in flat]))
        for name, value in flat[0].items()
        if isinstance(value, int | float) and all(name in seed for seed in flat)
    }
    return ComparisonRow(entry.model, entry.decoder, entry.seeds, metrics)


def _against(entry: Entry, baseline: Entry, resamples: int) -> ComparisonRow:
    if not np.array_equal(entry.index, baseline.index):
        raise UserError(f"{entry.model} and {baseline.model} were measured on different images: run `dvc repro` again.")
    shared = [seed for seed in entry.seeds if seed in baseline.metrics]
    if not shared:
        raise UserError(f"{entry.model} shares no seed with {baseline.model}: train the same seeds of both.")
    row = _summary(entry)
    for name in row.metrics:
        if name in entry.values and name in baseline.values:
            mine, theirs = (_stacked(one.values[name], shared) for one in (entry, baseline))
            row = row.with_test(name, _paired_test(mine, theirs, resamples if name == BOOTSTRAPPED else 0))
    family = family_of(entry.settings, baseline.settings, entry.own_decoder)
    return replace(row, paired_seeds=shared, family=family)


def _stacked(values: Mapping[int, Scores], seeds: Sequence[int]) -> Scores:
    """Return the values of these seeds as [S, N]."""
    return np.stack([values[seed] for seed in seeds])


def _paired_test(mine: Scores, theirs: Scores, resamples: int) -> PairedTest:
    test = PairedTest(*crossed_t(mine, theirs))
    if mine.dtype != bool:
        return test
    right, other = mine.astype(bool), theirs.astype(bool)
    exact = [mcnemar(a, b) for a, b in zip(right, other, strict=True)]
    test = replace(test, mcnemar=exact, disagreement=float((right != other).mean()))
    if not resamples:
        return test
    drawn = paired_bootstrap(right, other, resamples)
    return replace(test, bootstrap=[drawn.low, drawn.high, drawn.p])
