"""Draw many models side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from pipeline.comparison import findings
from pipeline.comparison.costs import Cost
from pipeline.comparison.findings import Models, Prediction, ScoreFit
from pipeline.comparison.rows import ComparisonRow, MetricSummary, PairedTest
from pipeline.comparison.statistics import Interval
from pipeline.figures.canvas import COLOURS, LINES, MARKERS, annotated_matrix, canvas, scale
from pipeline.labels.targets import TargetSpec

Rows = Mapping[str, ComparisonRow]
"""Rows by the names that they are shown with."""


def draw(models: Models, rows: Sequence[ComparisonRow], baseline: str, folder: Path) -> None:
    """Draw curves, accuracy, severity, recalls and targets of all models, and the test of the prediction."""
    classes = findings.classes_of(models)
    curves = {
        model: [[(epoch["epoch"], epoch["val_accuracy"]) for epoch in run.metrics["history"]] for run in runs.values()]
        for model, runs in models.items()
    }
    validation_curves(curves, folder / "validation_curves.png")
    named = {findings.row_name(row, rows): row for row in rows}
    model_bars(named, folder / "accuracy.png")
    if tested := {name: row.test() for name, row in named.items() if row is not rows[0]}:
        difference_forest(tested, baseline, folder / "differences.png")
    for distance in ("affective", "human"):
        if all(f"test.severity.{distance}.all" in row for row in rows):
            severity_scatter(named, distance, folder / f"severity_{distance}.png")
    own_rows = [row for row in rows if row.family != "decoders"]
    recalls = {
        row.model: {label: (test.difference, test.low, test.high) for label, test in tests.items()}
        for row, tests in findings.recall_tests(own_rows, classes)
    }
    if recalls:
        own = {row.model: row["test.accuracy"].mean for row in own_rows}
        recall_differences(recalls, classes, folder / "recall_differences.png", left_out=far_below(own))
    matrices = {}
    for seed, run in (next(iter(runs.items())) for runs in models.values()):
        targets = run.metrics["targets"]
        title = f"{targets}, seed {seed}" if TargetSpec.parse(targets).uses_seed else targets
        matrices[title] = np.array(run.metrics["gram"])
    grams(matrices, classes, folder / "grams.png")

    posterior = findings.posterior_of(models, baseline)
    predictions = findings.predictions(models, posterior)
    if predictions:
        common = findings.between_seeds(models, posterior)
        spread_scatter(predictions, folder / "spread.png")
        agreement_bars(predictions, common.mean if common else None, folder / "agreement.png")
        shares_of_decisions(predictions, classes, folder / "shares.png")


def far_below(accuracies: Mapping[str, float]) -> list[str]:
    """Return the models that are right less than half as often as the best.

    They are not drawn, because they would compress the scale for all others.
    """
    return [model for model, accuracy in accuracies.items() if accuracy < max(accuracies.values()) / 2]


def validation_curves(curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]], path: Path) -> None:
    """Draw validation accuracy by epoch: per model a thin line for each seed's [(epoch, accuracy)], a bold mean.

    The mean ends where the shortest seed does. Models far below the best at that point are named, not drawn.
    """
    styles = cycle((colour, line) for line in LINES for colour in COLOURS)
    means = {model: mean_curve(runs) for model, runs in curves.items()}
    ends = {model: float(mean[-1, 1]) for model, mean in means.items()}
    left_out = far_below(ends)
    with canvas(path, 9.0, max(4.8, 0.24 * len(curves) + 1)) as figure:
        axis = figure.subplots()
        shown = [model for model in curves if model not in left_out]
        for model, (colour, line) in zip(shown, styles, strict=False):
            for run in curves[model]:
                axis.plot(*np.transpose(run), line, color=colour, linewidth=0.8, alpha=0.4)
            axis.plot(*means[model].T, line, color=colour, linewidth=2.2, label=model)
        if left_out:
            beside_the_scale(figure, [f"{model} ({ends[model]:.1%})" for model in left_out])
        axis.set(title="Accuracy on PublicTest by epoch (thin: one seed, bold: mean)")
        axis.set(xlabel="epoch", ylabel="accuracy")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        axis.grid()
        figure.legend(loc="outside right upper", fontsize=9, handlelength=3)


def mean_curve(runs: Sequence[Sequence[tuple[float, float]]]) -> npt.NDArray[np.float64]:
    """Return the mean of several curves, up to the end of the shortest: [epochs, 2]."""
    shortest = min(len(run) for run in runs)
    return np.asarray(np.mean([np.asarray(run[:shortest], dtype=np.float64) for run in runs], axis=0))


def beside_the_scale(figure: Figure, models: Sequence[str]) -> None:
    """Name the models that are off the scale, below the figure."""
    figure.supxlabel(f"off the scale: {', '.join(models)}", fontsize=8)


def speed_curves(runs: Mapping[str, Sequence[Sequence[tuple[float, float]]]], path: Path) -> None:
    """Draw accuracy on PublicTest against training time: per recipe, one line of (seconds, accuracy) per seed."""
    with canvas(path, 8.0, 4.5, "Accuracy on PublicTest against training time") as figure:
        axis = figure.add_subplot()
        for (recipe, lines), colour in zip(runs.items(), cycle(COLOURS)):
            for number, line in enumerate(lines):
                seconds, accuracy = zip(*line, strict=True)
                minutes = [second / 60 for second in seconds]
                axis.plot(minutes, accuracy, "o-", markersize=3, color=colour, label=recipe if not number else None)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda minutes, _: f"{minutes:g}"))
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_xlabel("minutes of training")
        axis.grid(axis="y")
        axis.legend(loc="lower right")


def model_bars(rows: Rows, path: Path) -> None:
    """Draw each model's accuracy on PrivateTest, on all images and without near duplicates, with 95 % intervals.

    Drawn as points on an axis that does not start at zero (bars there would mislead), in the order given. Values far
    below the best are written at the left edge.
    """
    left_out = far_below({name: row["test.accuracy"].mean for name, row in rows.items()})
    places = [(place, row) for place, (name, row) in enumerate(rows.items()) if name not in left_out]
    with canvas(path, 8.0, 0.42 * len(rows) + 1.6) as figure:
        axis = figure.subplots()
        series = (
            ("all of PrivateTest", "test.accuracy", COLOURS[0], "o", -0.14),
            ("without near duplicates", "test_clean.accuracy", COLOURS[1], "s", 0.14),
        )
        for label, metric, colour, marker, offset in series:
            height = np.array([place for place, _ in places]) + offset
            means = [row[metric].mean for _, row in places]
            halves = [half_width(row[metric]) for _, row in places]
            axis.errorbar(means, height, xerr=halves, fmt=marker, color=colour, capsize=3, label=label)
            for mean, half, y in zip(means, halves, height, strict=True):
                axis.annotate(
                    f"{mean:.1%}", (mean + half, y), (6, 0), textcoords="offset points", va="center", fontsize=8
                )
        for place, (name, row) in enumerate(rows.items()):
            if name in left_out:
                full, clean = row["test.accuracy"].mean, row["test_clean.accuracy"].mean
                at_the_left_edge(axis, place, f"{full:.1%}, without near duplicates {clean:.1%}")
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set(ylim=(len(rows) - 0.5, -0.5), xlabel="accuracy (line: 95% interval over seeds)")
        axis.set_title("Accuracy on PrivateTest")
        axis.margins(x=0.12)
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axis.grid(axis="x")
        figure.legend(loc="outside lower center", ncols=2)


def difference_forest(
    tests: Mapping[str, PairedTest], baseline: str, path: Path, costs: Mapping[str, Cost] | None = None
) -> None:
    """Draw accuracy minus the baseline's, one line per row, best at the top (`forest`), and what each costs."""
    ordered = dict(sorted(tests.items(), key=lambda item: -item[1].difference))
    with canvas(path, 8.0, 0.3 * len(ordered) + 1.4) as figure:
        axis = figure.subplots()
        forest(axis, ordered)
        if costs:
            right = axis.secondary_yaxis("right")
            right.set_yticks(range(len(ordered)), [price(costs[name]) for name in ordered], fontsize=8)
            right.tick_params(length=0)
            figure.supxlabel("at the right: operations of the training, and settings added", fontsize=8)
        axis.set_title(f"Accuracy on PrivateTest minus that of {baseline}, 95% intervals")


def price(cost: Cost) -> str:
    """Format a cost: operations, relative to the baseline's, and settings."""
    work = "no network" if cost.operations is None else f"{cost.operations:.1f} \N{MULTIPLICATION SIGN}"
    return f"{work}, {cost.settings}"


def forest(axis: Axes, tests: Mapping[str, PairedTest], in_points: bool = True) -> None:
    """Draw differences with their 95 % intervals, one line per test, from the top in the order given.

    Filled if the corrected test finds a difference. Values below the scale are written at the left edge, and intervals
    far longer than most leave the frame.
    """
    # Most rows lie within a few points: one far from all others would compress them.
    ranked = sorted((test.difference for test in tests.values()), reverse=True)
    lowest = min(4 * ranked[(len(ranked) - 1) // 2], -0.1)
    shown = [test for test in tests.values() if test.difference >= lowest]
    usual = 4 * float(np.median([max(abs(test.low), abs(test.high)) for test in shown]))
    widest = max(usual, *(1.1 * abs(test.difference) for test in shown))
    factor, unit = (100, "points ") if in_points else (1, "")
    for place, test in enumerate(tests.values()):
        if test.difference < lowest:
            at_the_left_edge(axis, place, f"{factor * test.difference:+.1f}")
            continue
        errors = [[test.difference - test.low], [test.high - test.difference]]
        axis.errorbar(
            factor * test.difference, place, xerr=factor * np.array(errors), fmt="o", capsize=3, color=COLOURS[0],
            markerfacecolor=COLOURS[0] if test.verdict else "white",
        )  # fmt: skip
    axis.axvline(0, color="#777777", linewidth=1)
    left, right = axis.get_xlim()
    axis.set_xlim(max(left, -factor * widest), min(right, factor * widest))
    axis.set_yticks(range(len(tests)), list(tests))
    axis.set(ylim=(len(tests) - 0.5, -0.5), xlabel=f"{unit}(filled: corrected p below .05)")
    axis.grid(axis="x")


def at_the_left_edge(axis: Axes, place: float, text: str) -> None:
    """Write a value that lies left of the axis, in the row at that height."""
    axis.annotate(
        f"\N{LEFTWARDS ARROW} {text}", (0, place), (4, 0), xycoords=axis.get_yaxis_transform(),
        textcoords="offset points", va="center", fontsize=8,
    )  # fmt: skip


def half_width(found: MetricSummary | Interval) -> float:
    """Return half the width of a 95 % interval, 0 with one seed."""
    return found.half_width or 0.0


def styles() -> Iterator[tuple[str, str]]:
    """Yield colours and markers, a different pair for each row as long as there are any, then again from the first."""
    return cycle((colour, marker) for marker in MARKERS for colour in COLOURS)


def severity_scatter(rows: Rows, distance: str, path: Path) -> None:
    """Draw accuracy against mean mistake severity under one named distance: better is to the lower right.

    Models that are right less than half as often as the best are named, not drawn: they would compress the scale.
    """
    both = {name: (row["test.accuracy"], row[f"test.severity.{distance}.all"]) for name, row in rows.items()}
    far = far_below({name: accuracy.mean for name, (accuracy, _) in both.items()})
    left_out = [f"{name} ({both[name][0].mean:.1%}, {both[name][1].mean:.2f})" for name in far]
    shown = {name: pair for name, pair in both.items() if name not in far}
    with canvas(path, 8.4, max(4.6, 0.24 * len(rows) + 1)) as figure:
        axis = figure.subplots()
        for (name, (accuracy, severity)), (colour, marker) in zip(shown.items(), styles(), strict=False):
            axis.errorbar(
                accuracy.mean, severity.mean, xerr=half_width(accuracy), yerr=half_width(severity),
                fmt=marker, color=colour, markersize=7, elinewidth=0.8, label=name,
            )  # fmt: skip
        axis.set_title("Accuracy and severity on PrivateTest (better: right and down)")
        if left_out:
            beside_the_scale(figure, left_out)
        axis.set(xlabel="accuracy", ylabel=f"mean severity over all images ({distance} distance)")
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axis.margins(0.08)
        axis.grid()
        figure.legend(loc="outside right upper", fontsize=9)


def agreement_bars(rows: Sequence[Prediction], between_seeds: float | None, path: Path) -> None:
    """Draw how often each model decides as arg-max p and as arg-max S p, with the posterior p of its seed.

    between_seeds: how often two posteriors of different seeds decide alike, as a line.
    """
    with canvas(path, 8.0, 0.42 * len(rows) + 1.8) as figure:
        axis = figure.subplots()
        height = np.arange(len(rows))
        for label, colour, marker, offset, found in (
            ("arg-max p", COLOURS[0], "o", -0.12, [row.as_posterior for row in rows]),
            ("arg-max S p", COLOURS[1], "s", 0.12, [row.as_costs for row in rows]),
        ):
            means, halves = [one.mean for one in found], [half_width(one) for one in found]
            axis.errorbar(means, height + offset, xerr=halves, fmt=marker, color=colour, capsize=2, label=label)
        if between_seeds is not None:
            axis.axvline(between_seeds, color="#777777", linestyle="--", label="two seeds of cross-entropy")
        axis.set_yticks(height, [row.model for row in rows])
        axis.set(ylim=(len(rows) - 0.5, -0.5), xlabel="share of PrivateTest decided alike")
        axis.set_title("Agreement of each cosine model with cross-entropy of the same seed")
        axis.xaxis.set_major_formatter(PercentFormatter(1))
        axis.grid(axis="x")
        figure.legend(loc="outside lower center", ncols=3)


def shares_of_decisions(rows: Sequence[Prediction], labels: Sequence[str], path: Path) -> None:
    """Draw the share of each class, one panel each: observed, by arg-max S p, by arg-max p."""
    with canvas(path, max(1.9 * len(labels), 7.6), 0.3 * len(rows) + 1.8) as figure:
        axes = figure.subplots(1, len(labels), sharey=True)
        height = np.arange(len(rows))
        for k, (axis, label) in enumerate(zip(axes, labels, strict=True)):
            axis.plot([row.found[k] for row in rows], height, "o", color=COLOURS[0], label="observed")
            axis.plot([row.predicted[k] for row in rows], height, "x", color=COLOURS[1], label="by arg-max S p")
            axis.plot([row.plain[k] for row in rows], height, "|", color="#777777", label="by arg-max p")
            axis.set_title(label)
            widest = max(max(row.found[k], row.predicted[k], row.plain[k]) for row in rows)
            axis.set_xlim(0, 1.15 * widest or 1)
            axis.xaxis.set_major_locator(MaxNLocator(2))
            axis.xaxis.set_major_formatter(PercentFormatter(1))  # as many decimals as the ticks need
            axis.grid(axis="x")
        axes[0].set_yticks(height, [row.model for row in rows])
        axes[0].set_ylim(len(rows) - 0.5, -0.5)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
        figure.suptitle("Share of PrivateTest images assigned to each class")


def spread_scatter(rows: Sequence[Prediction], path: Path) -> None:
    """Draw accuracy against how unequal the cosines between the targets are."""
    with canvas(path, 7.2, 4.8) as figure:
        axis = figure.subplots()
        for row, (colour, marker) in zip(rows, styles(), strict=False):
            axis.errorbar(
                row.spread, row.accuracy.mean, yerr=half_width(row.accuracy), fmt=marker, color=colour, capsize=3,
                label=row.model,
            )  # fmt: skip
        axis.set(xlabel="standard deviation of the cosines between targets", ylabel="accuracy on PrivateTest")
        axis.set_title("Cosine loss: unequal cosines between targets and accuracy")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axis.grid()
        figure.legend(loc="outside right upper", fontsize=9)


def score_fits(rows: Sequence[ScoreFit], path: Path) -> None:
    """Draw how well scores are predicted: R^2 with the similarities S of the model's targets, and with S = I.

    The axis ends at -1; a value below is written at its edge.
    """
    with canvas(path, 7.2, 0.42 * len(rows) + 1.6) as figure:
        axis = figure.subplots()
        places = np.arange(len(rows))[::-1]
        similar_to, alone_as = [row.similarities.mean for row in rows], [row.alone.mean for row in rows]
        for similar, alone, place in zip(similar_to, alone_as, places, strict=True):
            axis.plot([max(alone, -1), similar], [place, place], color="#bbbbbb", zorder=1)
            if alone < -1:
                axis.annotate(f"{alone:.1f}", (-1, place), xytext=(6, 5), textcoords="offset points", fontsize=8)
        axis.plot(similar_to, places, "o", color=COLOURS[0], label="with S: (S p) / √(pᵀ S p)")
        axis.plot(np.maximum(alone_as, -1), places, "x", color=COLOURS[1], label="with S = I: p / |p|")
        axis.axvline(0, color="#777777", linewidth=0.8)
        axis.set(
            xlim=(-1.08, 1.02), xlabel="R² on PrivateTest, nothing fitted", yticks=places,
            yticklabels=[row.model for row in rows],
        )  # fmt: skip
        axis.set_title("The scores of cosine models, predicted from cross-entropy's posterior p")
        axis.grid(axis="x")
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)


def grams(matrices: Mapping[str, npt.NDArray[np.floating]], labels: Sequence[str], path: Path) -> None:
    """Draw the cosines between targets [K, K] of several models, side by side on one scale."""
    columns = min(3, len(matrices))
    lines = -(-len(matrices) // columns)
    side = scale(len(labels))
    with canvas(path, 4.6 * columns * side, 4.2 * lines * side) as figure:
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axis, (name, matrix) in zip(axes, matrices.items(), strict=False):
            picture = annotated_matrix(axis, matrix, "PuOr", (-1, 1), labels, matrix.round(2) + 0.0, ".2f")  # no -0.00
            axis.set_title(name)
        for axis in axes[len(matrices) :]:
            axis.set_axis_off()
        figure.colorbar(picture, ax=figure.axes, shrink=0.5, label="cosine")


def recall_differences(
    rows: Mapping[str, Mapping[str, tuple[float, float, float]]],
    labels: Sequence[str],
    path: Path,
    left_out: Collection[str] = (),
) -> None:
    """Draw recall minus the baseline's by model and class: (mean, low, high), fractions.

    left_out: models whose means are written at the left edge, because they would dominate the scale.
    """
    with canvas(path, max(1.9 * len(labels), 7.6), 0.34 * len(rows) + 1.6) as figure:
        axes = figure.subplots(1, len(labels), sharey=True)
        height = [place for place, model in enumerate(rows) if model not in left_out]
        for axis, label in zip(axes, labels, strict=True):
            shown = [row[label] for model, row in rows.items() if model not in left_out]
            mean, low, high = np.array(shown).reshape(-1, 3).T
            for place, (model, row) in enumerate(rows.items()):
                if model in left_out:
                    at_the_left_edge(axis, place, f"{100 * row[label][0]:+.0f}")
            axis.errorbar(mean, height, xerr=(mean - low, high - mean), fmt="o", color=COLOURS[0], capsize=2)
            axis.axvline(0, color="#777777", linewidth=0.8)
            axis.set_title(label)
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}"))
            axis.grid(axis="x")
        axes[0].set_yticks(range(len(rows)), list(rows))
        axes[0].set_ylim(len(rows) - 0.5, -0.5)
        figure.suptitle("Recall minus the baseline's, in points, with 95% intervals over images and seeds")
