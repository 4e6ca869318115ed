"""List the metrics that a study compares: their names in a metrics file, how they are shown and tested."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Pairing = Literal["images", "seeds"]
"""How two models are paired: the same image (a bootstrap over images and seeds) or the same seed (a t test over seeds,
for values that are no means over images, or would reveal an image's label if they were kept per image)."""


@dataclass(frozen=True)
class Metric:
    """A number of a metrics file.

    name: its keys, joined by dots. heading: of its column. percent: whether it is a fraction shown in per cent. paired:
    how its difference from the baseline is tested; None if it is not.
    """

    name: str
    heading: str
    percent: bool = True
    paired: Pairing | None = None


METRICS = (
    Metric("test.accuracy", "accuracy", paired="images"),
    Metric("test.accuracy_flip", "with flip", paired="images"),
    Metric("test_clean.accuracy", "without near duplicates", paired="images"),
    Metric("test.balanced_accuracy", "balanced"),
    Metric("test.macro_f1", "macro F1"),
    Metric("test.nll_calibrated", "NLL (cal.)", percent=False),
    Metric("test.ece_calibrated", "ECE (cal.)", percent=False),
    Metric("test.votes.accuracy", "FER+ majority", paired="images"),
    Metric("test.severity.affective.all", "severity, affective", percent=False, paired="seeds"),
    Metric("test.severity.affective.mistakes", "of mistakes", percent=False, paired="seeds"),
    Metric("test.severity.human.all", "severity, human", percent=False, paired="seeds"),
    Metric("test.severity.human.mistakes", "of mistakes", percent=False, paired="seeds"),
)
"""In the order of the table's columns; JSON and CSV files have every number of a metrics file."""


def paired_by(pairing: Pairing, among: Collection[str]) -> list[str]:
    """Return the names in `among` of the metrics that are paired in this way."""
    return [metric.name for metric in METRICS if metric.paired == pairing and metric.name in among]
