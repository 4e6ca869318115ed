"""Represent a row of the comparison: one model under one decoder, each metric over seeds and against the baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.comparison.statistics import ALPHA
from pipeline.files import JsonDict, read_json, write_text


@dataclass(frozen=True)
class PairedTest:
    """A difference from the baseline: 95 % interval, two-sided p, and p corrected for all rows (Holm).

    mcnemar: the p value of each seed; disagreement: the share of images on which exactly one of the two is right;
    detectable: the smallest true difference that the test finds in about 80 % of cases. All three are None if seeds are
    paired.
    """

    difference: float
    low: float
    high: float
    p: float
    mcnemar: Sequence[float] | None = None
    disagreement: float | None = None
    detectable: float | None = None
    p_holm: float = 1.0

    @property
    def verdict(self) -> int:
        """Return +1 or -1 if the corrected test finds the row above or below the baseline, else 0."""
        return int(np.sign(self.difference)) if self.p_holm < ALPHA else 0


@dataclass(frozen=True)
class MetricSummary:
    """A metric over seeds: mean, sample standard deviation, half the width of its 95 % interval.

    The last two are None with one seed. test: against the baseline; None for the baseline and for untested metrics.
    """

    mean: float
    std: float | None = None
    ci95: float | None = None
    test: PairedTest | None = None

    def to_dict(self) -> JsonDict:
        """Return the summary as in ablation.json."""
        test = asdict(self.test) if self.test else {}
        return {"mean": self.mean, "std": self.std, "ci95": self.ci95} | {
            name: value for name, value in test.items() if value is not None
        }

    @classmethod
    def from_dict(cls, values: JsonDict) -> MetricSummary:
        """Read what `to_dict` returned."""
        rest = {name: value for name, value in values.items() if name not in ("mean", "std", "ci95")}
        return cls(values["mean"], values["std"], values["ci95"], PairedTest(**rest) if rest else None)


@dataclass(frozen=True)
class ComparisonRow:
    """One model under one decoder.

    paired_seeds: the seeds that it shares with the baseline; none for the baseline itself.
    """

    model: str
    decoder: str
    seeds: Sequence[int]
    metrics: Mapping[str, MetricSummary]
    paired_seeds: Sequence[int] = field(default=())

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

    def with_p_holm(self, metric: str, p_holm: float) -> ComparisonRow:
        """Return the row with the corrected p of one metric."""
        test = replace(self.test(metric), p_holm=p_holm)
        return replace(self, metrics={**self.metrics, metric: replace(self.metrics[metric], test=test)})

    def to_dict(self) -> JsonDict:
        """Return the row as in ablation.json."""
        row: JsonDict = {"model": self.model, "decoder": self.decoder, "seeds": list(self.seeds)}
        row |= {name: summary.to_dict() for name, summary in self.metrics.items()}
        return row | ({"paired_seeds": list(self.paired_seeds)} if self.paired_seeds else {})

    @classmethod
    def from_dict(cls, row: JsonDict) -> ComparisonRow:
        """Read what `to_dict` returned."""
        metrics = {
            name: MetricSummary.from_dict(value) for name, value in row.items() if isinstance(value, dict)
        }
        return cls(row["model"], row["decoder"], row["seeds"], metrics, row.get("paired_seeds", ()))


def write_rows(path: Path, rows: Sequence[ComparisonRow]) -> None:
    """Write a JSON list with one row per line."""
    lines = (json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def read_rows(path: Path) -> list[ComparisonRow]:
    """Read what `write_rows` wrote."""
    return [ComparisonRow.from_dict(row) for row in read_json(path)]
