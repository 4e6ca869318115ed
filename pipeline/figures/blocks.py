"""Draw what a block of the study found: its planned contrasts, and its rows under several kinds of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.ticker import PercentFormatter

from pipeline.comparison.findings import Contrast
from pipeline.comparison.registry import in_points
from pipeline.comparison.rows import ComparisonRow
from pipeline.figures.canvas import COLOURS, LINES, MARKERS, canvas
from pipeline.figures.study import forest, half_width

Lines = Mapping[str, Mapping[str, ComparisonRow]]
"""For each model its row under each kind of labels with which it has been run."""


def over_labels(lines: Lines, labels: Sequence[str], baseline: str, path: Path) -> None:
    """Draw accuracy on PrivateTest for each kind of labels, and below it the difference from the baseline.

    With 95 % intervals: above over seeds, below those of the test. The points of a kind of labels stand beside each
    other, so that no interval hides another.
    """
    looks = [
        {"color": colour, "linestyle": line, "marker": mark, "markersize": 5, "linewidth": 1, "elinewidth": 0.8}
        for line, mark in zip(LINES, MARKERS, strict=False)
        for colour in COLOURS
    ]
    places = np.linspace(-0.3, 0.3, len(lines))
    with canvas(path, 9.0, 8.0) as figure:
        above, below = figure.subplots(2, sharex=True)
        for (model, rows), shift, look in zip(lines.items(), places, cycle(looks), strict=False):
            at = [number + shift for number, label in enumerate(labels) if label in rows]
            accuracies = [rows[label]["test.accuracy"] for label in labels if label in rows]
            above.errorbar(
                at, [found.mean for found in accuracies], yerr=[half_width(found) for found in accuracies],
                label=model, **look,
            )  # fmt: skip
            tests = [found.test for found in accuracies if found.test is not None]
            if len(tests) == len(at):  # all but the baseline
                points = 100 * np.array([(test.difference, test.low, test.high) for test in tests])
                errors = np.abs(points[:, 1:] - points[:, :1]).T
                below.errorbar(at, points[:, 0], yerr=errors, **look)
        above.set(title="Accuracy on PrivateTest, with 95% intervals", ylabel="accuracy")
        above.yaxis.set_major_formatter(PercentFormatter(1))
        below.axhline(0, color="#777777", linewidth=1)
        below.set(ylabel=f"points above {baseline}", xlim=(-0.5, len(labels) - 0.5))
        below.set_xticks(range(len(labels)), labels)
        for axis in (above, below):
            axis.grid(axis="y")
        figure.legend(loc="outside right upper", fontsize=9, handlelength=3)


def planned_contrasts(families: Mapping[str, tuple[str, Sequence[Contrast]]], path: Path) -> None:
    """Draw the difference of each planned pair with its 95 % interval: a panel for each family, in the plan's order.

    families: by name the metric and the contrasts, at least one.
    """
    sizes = [len(contrasts) for _, contrasts in families.values()]
    with canvas(path, 8.0, 0.26 * sum(sizes) + 1.1 * len(sizes)) as figure:
        panels = figure.subplots(len(sizes), squeeze=False, height_ratios=[size + 1 for size in sizes])[:, 0]
        for axis, (family, (metric, contrasts)) in zip(panels, families.items(), strict=True):
            tests = {f"{model} \N{MINUS SIGN} {against}": row.test(metric) for model, against, row in contrasts}
            forest(axis, tests, in_points(metric))
            axis.set_title(f"{family}: {metric}, 95% intervals")
