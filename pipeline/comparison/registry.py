"""List the metrics that a study compares: their names in a metrics file and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number of a metrics file.

    name: its keys, joined by dots. heading: of its column. percent: whether it is a fraction shown in per cent. tested:
    whether it is the mean of a value for each image, which the tests need.
    """

    name: str
    heading: str
    percent: bool = True
    tested: bool = True


METRICS = (
    Metric("test.accuracy", "accuracy"),
    Metric("test.accuracy_flip", "with flip"),
    Metric("test_clean.accuracy", "without near duplicates"),
    Metric("test_clean.reweighted_accuracy", "without near duplicates, reweighted"),
    Metric("test.balanced_accuracy", "balanced"),
    Metric("test.macro_f1", "macro F1"),
    Metric("test.nll_calibrated", "NLL (cal.)", percent=False, tested=False),
    Metric("test.ece_calibrated", "ECE (cal.)", percent=False, tested=False),
    Metric("test.votes.accuracy", "FER+ majority"),
    Metric("test.severity.affective.all", "severity, affective", percent=False),
    Metric("test.severity.affective.mistakes", "of mistakes", percent=False),
    Metric("test.severity.human.all", "severity, human", percent=False),
    Metric("test.severity.human.mistakes", "of mistakes", percent=False),
)
"""In the order of the table's columns; JSON and CSV files have every number of a metrics file."""

AMBIGUITY = (
    Metric("test.votes.barsoum_accuracy", "FER+ by its own protocol", tested=False),
    Metric("test.pairs.exact", "second reading", tested=False),
    Metric("test.pairs.prior.exact", "its usual partner", tested=False),
    Metric("test.pairs.emotions.exact", "without *neutral*", tested=False),
    Metric("test.pairs.emotions.prior.exact", "its usual partner", tested=False),
    Metric("test.pairs.auc", "AUC of having one", percent=False, tested=False),
    Metric("test.votes.js", "JS from votes", percent=False, tested=False),
    Metric("test.votes.uncertainty", "uncertainty against disagreement", percent=False, tested=False),
)
"""What a table of the probabilities against the votes has, in the order of its columns."""

FRACTIONS = frozenset(metric.name for metric in (*METRICS, *AMBIGUITY) if metric.percent)
"""Names of the metrics in points, for which equivalence has a margin."""


def recall(label: str) -> str:
    """Return the name of the recall of a class on PrivateTest."""
    return f"test.per_class.{label}.recall"


def is_recall(metric: str) -> bool:
    """Return whether this is the name of the recall of a class."""
    return metric.startswith("test.per_class.") and metric.endswith(".recall")


def in_points(metric: str) -> bool:
    """Return whether a metric is a fraction, whose differences are shown in points."""
    return metric in FRACTIONS or is_recall(metric)


def corrected_with(metric: str) -> str:
    """Return what a metric is corrected together with, in a family: itself, but all recalls together."""
    return "recall" if is_recall(metric) else metric
