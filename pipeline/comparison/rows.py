"""Represent a row of the comparison: one model under one decoder, each metric over seeds and against the baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.comparison.families import Family
from pipeline.comparison.statistics import ALPHA, Difference, holm, minimum_detectable_difference, tost, upper_bound
from pipeline.errors import UserError
from pipeline.files import JsonDict, read_json, write_text

MARGIN = 0.01
"""Two rows are equivalent within a point of each other: the standard error of one PrivateTest accuracy is .8."""


@dataclass(frozen=True)
class PairedTest:
    """A difference from the baseline: its 95 % interval, two-sided p, standard error and degrees of freedom.

    mcnemar: the p value of each seed; disagreement: the share of images on which exactly one of the two is right; both
    None unless each image is right or wrong. bootstrap: `low`, `high` and `p` of the bootstrap, if there is one.

    Among the `tests` of its family (`corrected`): p_holm, corrected p; upper, the bound of the true difference that
    holds for all of them at once; detectable, the smallest true difference that the corrected test finds in about 80 %
    of cases; p_equivalent, corrected p of lying within +- `MARGIN`, for fractions.
    """

    difference: float
    low: float
    high: float
    p: float
    error: float = 0.0
    dof: float = 1.0
    mcnemar: Sequence[float] | None = None
    disagreement: float | None = None
    bootstrap: Sequence[float] | None = None
    tests: int = 1
    p_holm: float = 1.0
    upper: float | None = None
    detectable: float | None = None
    p_equivalent: float | None = None

    @property
    def verdict(self) -> int:
        """Return +1 or -1 if the corrected test finds the row above or below the baseline, else 0."""
        return int(np.sign(self.difference)) if self.p_holm < ALPHA else 0


def corrected(family: Sequence[PairedTest], has_margin: bool) -> list[PairedTest]:
    """Return the tests of one family, in their order, with all that depends on how many they are.

    has_margin: whether the metric is a fraction, for which `MARGIN` is meant.
    """
    size = len(family)
    differences = [Difference(one.difference, one.low, one.high, one.p, one.error, one.dof) for one in family]
    p_values = holm([one.p for one in family])
    within = holm([tost(one, MARGIN) for one in differences])
    return [
        replace(
            one,
            tests=size,
            p_holm=float(p),
            upper=upper_bound(difference, size),
            detectable=minimum_detectable_difference(difference, size),
            p_equivalent=float(p_within) if has_margin else None,
        )
        for one, difference, p, p_within in zip(family, differences, p_values, within, strict=True)
    ]


@dataclass(frozen=True)
class MetricSummary:
    """A metric over seeds: mean, sample standard deviation, half the width of its 95 % interval.

    The last two are None with one seed. test: against the baseline; None for the baseline and for untested metrics.
    """

    mean: float
    std: float | None = None
    half_width: float | None = None
    test: PairedTest | None = None

    def to_dict(self) -> JsonDict:
        """Return the summary as in ablation.json."""
        test = asdict(self.test) if self.test else {}
        return {"mean": self.mean, "std": self.std, "half_width": self.half_width} | {
            name: value for name, value in test.items() if value is not None
        }

    @classmethod
    def from_dict(cls, values: JsonDict) -> MetricSummary:
        """Read what `to_dict` returned."""
        rest = {name: value for name, value in values.items() if name not in ("mean", "std", "half_width")}
        return cls(values["mean"], values["std"], values["half_width"], PairedTest(**rest) if rest else None)


@dataclass(frozen=True)
class ComparisonRow:
    """One model under one decoder.

    paired_seeds: the seeds that it shares with the baseline; none for the baseline itself. family: the rows that are
    corrected with it; None for the baseline.
    """

    model: str
    decoder: str
    seeds: Sequence[int]
    metrics: Mapping[str, MetricSummary]
    paired_seeds: Sequence[int] = field(default=())
    family: Family | None = None

    def __getitem__(self, metric: str) -> MetricSummary:
        return self.metrics[metric]

    def __contains__(self, metric: object) -> bool:
        return metric in self.metrics

    def test(self, metric: str = "test.accuracy") -> PairedTest:
        """Return the test of a metric against the baseline. Raises KeyError if there is none."""
        found = self.metrics[metric].test
        if found is None:
            raise KeyError(f"{metric} of {self.model} was not compared")
        return found

    def with_test(self, metric: str, test: PairedTest) -> ComparisonRow:
        """Return the row with another test of one metric."""
        return replace(self, metrics={**self.metrics, metric: replace(self.metrics[metric], test=test)})

    def to_dict(self) -> JsonDict:
        """Return the row as in ablation.json."""
        row: JsonDict = {"model": self.model, "decoder": self.decoder, "seeds": list(self.seeds)}
        row |= {name: summary.to_dict() for name, summary in self.metrics.items()}
        if self.family is None:
            return row
        return row | {"paired_seeds": list(self.paired_seeds), "family": self.family}

    @classmethod
    def from_dict(cls, row: JsonDict) -> ComparisonRow:
        """Read what `to_dict` returned."""
        metrics = {name: MetricSummary.from_dict(value) for name, value in row.items() if isinstance(value, dict)}
        return cls(row["model"], row["decoder"], row["seeds"], metrics, row.get("paired_seeds", ()), row.get("family"))


def write_rows(path: Path, rows: Sequence[ComparisonRow]) -> None:
    """Write a JSON list with one row per line."""
    lines = (json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def read_rows(path: Path) -> list[ComparisonRow]:
    """Read what `write_rows` wrote. Raises UserError for anything else."""
    try:
        rows = [ComparisonRow.from_dict(row) for row in read_json(path)]
    except (AttributeError, TypeError, LookupError) as error:
        raise UserError(f"{path} is not a comparison table ({error!r}): restore it, or create it again.") from error
    if not rows:
        raise UserError(f"{path} has no rows: create it again.")
    return rows
