"""Every picture: each function turns plain data into one PNG, the same bytes for the same data.

Figures are drawn on canvases of their own (no pyplot, no global state), in colours that colour-blind readers
can tell apart, at a size that stays readable in a README. Only stages call this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from pipeline.files import replacing
from pipeline.metrics import CALIBRATION_BINS, expected_calibration_error, reliability_bins

DPI = 120

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe & Ito (2008), which people with any common colour blindness can tell apart."""

LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters on every machine
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


Measured = tuple[float, float | None]
"""A mean and half the width of its 95 % interval (None: one seed only)."""


class ModelAccuracy(NamedTuple):
    """One model's mean test accuracy as fractions, and half of each 95 % interval (None: one seed only)."""

    model: str
    full: float
    clean: float
    full_half_width: float | None = None
    clean_half_width: float | None = None


class ModelSeverity(NamedTuple):
    """One model's test accuracy (a fraction) and mean distance from label to decision over all images, and half of
    each 95 % interval (None: one seed only)."""

    model: str
    accuracy: float
    severity: float
    accuracy_half_width: float | None = None
    severity_half_width: float | None = None


def contact_sheet(
    images: npt.NDArray[np.uint8], captions: Sequence[str], path: Path, columns: int = 10
) -> None:
    """Grey faces [N, 48, 48] in rows of `columns`, a caption over each."""
    with _faces(len(images), columns, path) as axes:
        for axis, image, caption in zip(axes, images, captions, strict=True):
            _face(axis, image, caption)


def confident_mistakes(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    confidence: npt.NDArray[np.floating],
    label_names: Sequence[str],
    path: Path,
    count: int = 24,
) -> None:
    """The `count` wrong decisions with the highest confidence (a fraction), the surest first.

    A picture of the model's faults and of the data's: many of these labels a human would question too.
    """
    wrong = np.flatnonzero(labels != predicted)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    title = "The most confident mistakes: label → decision" if len(surest) else "No mistakes"
    with _faces(len(surest), 8, path, title) as axes:
        for axis, n in zip(axes, surest, strict=True):
            decision = f"{label_names[predicted[n]]} {confidence[n]:.0%}"
            _face(axis, images[n], f"{label_names[labels[n]]}\n→ {decision}")


def confusion(
    counts: npt.NDArray[np.integer], labels: Sequence[str], path: Path, normalised: bool, title: str
) -> None:
    """Confusion matrix [K, K]: rows are labels, columns decisions; as counts or as per cent of each row."""
    # Colour shows the share of the row either way: by count, the largest class would outshine all others.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with canvas(path, 6.4, 5.6) as figure:
        axis = figure.subplots()
        if normalised:
            picture = _matrix(axis, shares, "Blues", (0, 1), labels, 100 * shares, ".0f")
        else:
            picture = _matrix(axis, shares, "Blues", (0, 1), labels, counts, "d")
        unit = "per cent of each row" if normalised else "number of images"
        axis.set(title=f"{title}\n{unit}", xlabel="decision", ylabel="label")
        share = PercentFormatter(1)
        figure.colorbar(picture, ax=axis, shrink=0.8, format=share, label="share of the label's images")


def gram(matrix: npt.NDArray[np.floating], labels: Sequence[str], path: Path, title: str) -> None:
    """Similarities [K, K] between -1 and 1 as an annotated heat map."""
    with canvas(path, 6.4, 5.6) as figure:
        axis = figure.subplots()
        picture = _matrix(axis, matrix, "PuOr", (-1, 1), labels, matrix, ".2f")
        axis.set_title(title)
        figure.colorbar(picture, ax=axis, shrink=0.8, label="similarity")


def reliability(
    labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.float64], path: Path, title: str
) -> None:
    """Accuracy against confidence in bins (Guo et al. 2017) over a histogram of the confidence."""
    count, accuracy, confidence = reliability_bins(labels, probabilities)
    error = expected_calibration_error(labels, probabilities)
    width = 1 / CALIBRATION_BINS
    left = np.arange(CALIBRATION_BINS) * width
    filled = count > 0
    with canvas(path, 5.6, 6.0) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot((0, 1), (0, 1), color="#777777", linestyle="--", label="perfectly calibrated")
        upper.bar(
            left,
            accuracy,
            width,
            align="edge",
            color=COLOURS[5],
            edgecolor="white",
            label="accuracy in the bin",
        )
        upper.plot(
            confidence[filled],
            accuracy[filled],
            "o",
            color=COLOURS[0],
            markersize=4,
            label="the same, at its mean confidence",
        )
        upper.set(
            ylabel="accuracy",
            ylim=(0, 1),
            xlim=(0, 1),
            title=f"{title}\nexpected calibration error {error:.1%}",
        )
        upper.legend(loc="upper left")
        lower.bar(left, count / count.sum(), width, align="edge", color="#999999", edgecolor="white")
        lower.set(xlabel="confidence (largest probability)", ylabel="images")
        for axis in (upper, lower):
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def per_class_bars(per_class: Mapping[str, Mapping[str, float]], path: Path, title: str) -> None:
    """Precision, recall and F1 of each class: the `per_class` entry of a metrics file."""
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    position = np.arange(len(per_class))
    with canvas(path, 8.0, 4.2) as figure:
        axis = figure.subplots()
        for offset, (key, name), colour in zip((-0.27, 0, 0.27), names.items(), COLOURS, strict=False):
            values = [scores[key] for scores in per_class.values()]
            axis.bar(position + offset, values, 0.25, color=colour, label=name)
        axis.set_xticks(position, [_with_support(name, scores) for name, scores in per_class.items()])
        axis.set(title=title, ylim=(0, 1), xlabel="class (images)", ylabel="score")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.grid(axis="y")
        figure.legend(ncols=3, loc="outside lower center")


def heat_maps(
    images: npt.NDArray[np.uint8], maps: npt.NDArray[np.floating], captions: Sequence[str], path: Path
) -> None:
    """Faces [M, 48, 48], each beside itself under its map [M, 48, 48] (zero or more), with a caption.

    Every map is scaled to its own largest value: it shows where the model looked, not how much.
    """
    pairs = 4
    rows = max(1, -(-len(images) // pairs))
    title = "Where the model looked (bright: the most)"
    with canvas(path, 2.45 * pairs, 1.45 * rows + 0.4, title) as figure:
        panels = figure.subfigures(rows, pairs, squeeze=False).flat
        pictures = zip(images, maps, captions, strict=True)
        for panel, (image, heat, caption) in zip(panels, pictures, strict=False):
            panel.suptitle(caption, fontsize=9)
            face, overlay = panel.subplots(1, 2)
            _face(face, image)
            _overlay(overlay, image, heat)


def class_mean_heat_maps(
    mean_faces: npt.NDArray[np.floating],
    mean_maps: npt.NDArray[np.floating],
    labels: Sequence[str],
    path: Path,
) -> None:
    """For each class its mean face [K, 48, 48] (grey, 0 to 255) over the same under its mean map.

    A class without images has NaN in both and stays blank.
    """
    # A mean of many faces is nearly flat: one stretch for all classes keeps them comparable.
    dark, bright = np.nanmin(mean_faces), np.nanmax(mean_faces)
    contrasted = 255 * (mean_faces - dark) / max(bright - dark, 1)
    title = "Mean face of each class, and where the model looked (bright: the most)"
    with canvas(path, 1.4 * len(labels), 3.4, title) as figure:
        upper, lower = figure.subplots(2, len(labels), squeeze=False)
        for k, label in enumerate(labels):
            _face(upper[k], contrasted[k], label)
            _overlay(lower[k], contrasted[k], mean_maps[k])


def validation_curves(curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]], path: Path) -> None:
    """Validation accuracy by epoch: per model a thin line for each seed's [(epoch, accuracy)], a bold mean.

    The mean ends where the shortest seed does.
    """
    styles = cycle((colour, line) for line in LINES for colour in COLOURS)
    with canvas(path, 9.0, max(4.8, 0.24 * len(curves) + 1)) as figure:
        axis = figure.subplots()
        for (model, runs), (colour, line) in zip(curves.items(), styles, strict=False):
            points = [np.asarray(run, dtype=np.float64) for run in runs]
            for run in points:
                axis.plot(run[:, 0], run[:, 1], line, color=colour, linewidth=0.8, alpha=0.4)
            shortest = min(len(run) for run in points)
            mean = np.mean([run[:shortest] for run in points], axis=0)
            axis.plot(mean[:, 0], mean[:, 1], line, color=colour, linewidth=2.2, label=model)
        axis.set(title="Accuracy on PublicTest by epoch (thin: one seed, bold: mean)")
        axis.set(xlabel="epoch", ylabel="accuracy")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        axis.grid()
        figure.legend(loc="outside right upper", fontsize=9, handlelength=3)


def speed_curves(runs: Mapping[str, Sequence[Sequence[tuple[float, float]]]], path: Path) -> None:
    """Accuracy on PublicTest against training time: per recipe, one line of (seconds, accuracy) per seed."""
    with canvas(path, 8.0, 4.5, "Accuracy on PublicTest against training time") as figure:
        axis = figure.add_subplot()
        for (recipe, lines), colour in zip(runs.items(), cycle(COLOURS)):
            for number, line in enumerate(lines):
                seconds, accuracy = zip(*line, strict=True)
                minutes = [second / 60 for second in seconds]
                axis.plot(
                    minutes, accuracy, "o-", markersize=3, color=colour, label=recipe if not number else None
                )
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda minutes, _: f"{minutes:g}"))
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_xlabel("minutes of training")
        axis.grid(axis="y")
        axis.legend(loc="lower right")


def model_bars(rows: Sequence[ModelAccuracy], path: Path) -> None:
    """Accuracy of each model on PrivateTest, full and without twins of training images, with 95 % intervals.

    Drawn as points on an axis that does not start at zero (bars there would lie), in the order given.
    """
    with canvas(path, 8.0, 0.42 * len(rows) + 1.6) as figure:
        axis = figure.subplots()
        series = (
            ("all of PrivateTest", COLOURS[0], "o", -0.14, [(r.full, r.full_half_width) for r in rows]),
            (
                "without twins in Training",
                COLOURS[1],
                "s",
                0.14,
                [(r.clean, r.clean_half_width) for r in rows],
            ),
        )
        for name, colour, marker, offset, values in series:
            height = np.arange(len(rows)) + offset
            means = [mean for mean, _ in values]
            halves = [half or 0.0 for _, half in values]
            axis.errorbar(means, height, xerr=halves, fmt=marker, color=colour, capsize=3, label=name)
            for mean, half, y in zip(means, halves, height, strict=True):
                axis.annotate(
                    f"{mean:.1%}",
                    (mean + half, y),
                    (6, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
        axis.set_yticks(range(len(rows)), [row.model for row in rows])
        axis.set(ylim=(len(rows) - 0.5, -0.5), xlabel="accuracy (line: 95% interval over seeds)")
        axis.set_title("Accuracy on PrivateTest")
        axis.margins(x=0.12)
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axis.grid(axis="x")
        figure.legend(loc="outside lower center", ncols=2)


def severity_scatter(rows: Sequence[ModelSeverity], distance: str, path: Path) -> None:
    """Accuracy against mean mistake severity under one named distance: better is right and down.

    Models that are right less than half as often as the best are named, not drawn: the others would be one spot.
    """
    styles = cycle((colour, marker) for marker in MARKERS for colour in COLOURS)
    best = max(row.accuracy for row in rows)
    shown = [row for row in rows if row.accuracy >= best / 2]
    left_out = [f"{row.model} ({row.accuracy:.1%}, {row.severity:.2f})" for row in rows if row not in shown]
    with canvas(path, 8.4, max(4.6, 0.24 * len(rows) + 1)) as figure:
        axis = figure.subplots()
        for row, (colour, marker) in zip(shown, styles, strict=False):
            axis.errorbar(
                row.accuracy, row.severity, xerr=row.accuracy_half_width, yerr=row.severity_half_width,
                fmt=marker, color=colour, markersize=7, elinewidth=0.8, label=row.model,
            )  # fmt: skip
        axis.set_title("Accuracy and severity on PrivateTest (better: right and down)")
        if left_out:
            figure.supxlabel(f"off the scale: {', '.join(left_out)}", fontsize=8)
        axis.set(xlabel="accuracy", ylabel=f"mean severity over all images ({distance} distance)")
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axis.margins(0.08)
        axis.grid()
        figure.legend(loc="outside right upper", fontsize=9)


def agreement_bars(
    rows: Sequence[tuple[str, Measured, Measured]], between_seeds: float | None, path: Path
) -> None:
    """How often each model decides as the posterior p of its seed: (name, as arg-max p, as arg-max S p), fractions.

    Each with the half width of its 95 % interval, or None. between_seeds: how often two posteriors of different
    seeds decide alike, as a line.
    """
    with canvas(path, 8.0, 0.42 * len(rows) + 1.8) as figure:
        axis = figure.subplots()
        height = np.arange(len(rows))
        for column, (label, mark) in enumerate((("arg-max p", "o"), ("arg-max S p", "s"))):
            means, half_widths = zip(*(row[1 + column] for row in rows), strict=True)
            axis.errorbar(
                means, height + (0.12 if column else -0.12), xerr=[half or 0.0 for half in half_widths],
                fmt=mark, color=COLOURS[column], capsize=2, label=label,
            )  # fmt: skip
        if between_seeds is not None:
            axis.axvline(between_seeds, color="#777777", linestyle="--", label="two seeds of cross-entropy")
        axis.set_yticks(height, [row[0] for row in rows])
        axis.set(ylim=(len(rows) - 0.5, -0.5), xlabel="share of PrivateTest decided alike")
        axis.set_title("Agreement of each cosine model with cross-entropy of the same seed")
        axis.xaxis.set_major_formatter(PercentFormatter(1))
        axis.grid(axis="x")
        figure.legend(loc="outside lower center", ncols=3)


def shares_of_decisions(
    rows: Sequence[tuple[str, npt.NDArray[np.floating], npt.NDArray[np.floating]]],
    labels: Sequence[str],
    path: Path,
) -> None:
    """How often each class is decided for: (model, found [K], as arg-max S p says [K]), one panel per class."""
    with canvas(path, 1.9 * len(labels), 0.3 * len(rows) + 1.8) as figure:
        axes = figure.subplots(1, len(labels), sharey=True)
        height = np.arange(len(rows))
        for k, (axis, label) in enumerate(zip(axes, labels, strict=True)):
            axis.plot([row[1][k] for row in rows], height, "o", color=COLOURS[0], label="found")
            axis.plot([row[2][k] for row in rows], height, "x", color=COLOURS[1], label="predicted by S p")
            axis.set_title(label)
            widest = max(max(row[1][k], row[2][k]) for row in rows)
            axis.set_xlim(0, 1.15 * widest or 1)
            axis.xaxis.set_major_locator(MaxNLocator(2))
            axis.xaxis.set_major_formatter(PercentFormatter(1))  # as many decimals as the ticks need
            axis.grid(axis="x")
        axes[0].set_yticks(height, [row[0] for row in rows])
        axes[0].set_ylim(len(rows) - 0.5, -0.5)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
        figure.suptitle("Share of PrivateTest decided for each class")


def spread_scatter(rows: Sequence[tuple[str, float, float, float | None]], path: Path) -> None:
    """Accuracy against how unequal the targets' cosines are: (model, spread, accuracy, half an interval)."""
    with canvas(path, 7.2, 4.8) as figure:
        axis = figure.subplots()
        for (name, spread, accuracy, half), (colour, marker) in zip(
            rows, ((colour, marker) for marker in MARKERS for colour in COLOURS), strict=False
        ):
            axis.errorbar(spread, accuracy, yerr=half or 0.0, fmt=marker, color=colour, capsize=3, label=name)
        axis.set(xlabel="standard deviation of the cosines between targets", ylabel="accuracy on PrivateTest")
        axis.set_title("Cosine loss: unequal cosines between targets and accuracy")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axis.grid()
        figure.legend(loc="outside right upper", fontsize=9)


def grams(matrices: Mapping[str, npt.NDArray[np.floating]], labels: Sequence[str], path: Path) -> None:
    """The cosines between targets [K, K] of several models, side by side on one scale."""
    columns = min(3, len(matrices))
    lines = -(-len(matrices) // columns)
    with canvas(path, 4.6 * columns, 4.2 * lines) as figure:
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axis, (name, matrix) in zip(axes, matrices.items(), strict=False):
            picture = _matrix(axis, matrix, "PuOr", (-1, 1), labels, matrix.round(2) + 0.0, ".2f")  # no -0.00
            axis.set_title(name)
        for axis in axes[len(matrices) :]:
            axis.set_axis_off()
        figure.colorbar(picture, ax=figure.axes, shrink=0.5, label="cosine")


def recall_differences(
    rows: Mapping[str, Mapping[str, tuple[float, float, float]]], labels: Sequence[str], path: Path
) -> None:
    """Recall minus the baseline's by model and class: (mean, low, high), fractions."""
    with canvas(path, 1.9 * len(labels), 0.34 * len(rows) + 1.6) as figure:
        axes = figure.subplots(1, len(labels), sharey=True)
        height = np.arange(len(rows))
        for axis, label in zip(axes, labels, strict=True):
            mean, low, high = np.array([row[label] for row in rows.values()]).T
            axis.errorbar(mean, height, xerr=(mean - low, high - mean), fmt="o", color=COLOURS[0], capsize=2)
            axis.axvline(0, color="#777777", linewidth=0.8)
            axis.set_title(label)
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}"))
            axis.grid(axis="x")
        axes[0].set_yticks(height, list(rows))
        axes[0].set_ylim(len(rows) - 0.5, -0.5)
        figure.suptitle("Recall minus the baseline's, in points, with 95% intervals over images and seeds")


@contextmanager
def canvas(path: Path, width: float, height: float, title: str = "") -> Iterator[Figure]:
    """A figure of that many inches, saved to `path` if the block succeeds: all of it or nothing."""
    # A matplotlibrc of the user's own must not change the pictures.
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained")
        if title:
            figure.suptitle(title)
        yield figure
        with replacing(path) as temporary:
            # Without the version of matplotlib that it would name, equal data gives equal bytes.
            figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


@contextmanager
def _faces(count: int, columns: int, path: Path, title: str = "") -> Iterator[list[Axes]]:
    """`count` axes for faces in rows of `columns`."""
    rows = max(1, -(-count // columns))
    with canvas(path, 1.15 * columns, 1.45 * rows + (0.4 if title else 0), title) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        yield list(axes[:count])


def _face(axis: Axes, image: npt.NDArray[np.generic], caption: str = "") -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    axis.set_axis_off()
    axis.set_title(caption, fontsize=9, pad=3)


def _overlay(axis: Axes, image: npt.NDArray[np.generic], heat: npt.NDArray[np.floating]) -> None:
    _face(axis, image)
    relative = heat / max(float(heat.max()), 1e-12)
    # The less heat, the more of the face shows through.
    axis.imshow(
        relative, cmap="inferno", vmin=0, vmax=1, alpha=0.8 * np.sqrt(np.nan_to_num(relative).clip(0, 1))
    )


def _matrix(
    axis: Axes,
    values: npt.NDArray[np.floating],
    colours: str,
    limits: tuple[float, float],
    labels: Sequence[str],
    numbers: npt.NDArray[np.generic],
    format_spec: str,
) -> AxesImage:
    """A square heat map of `values`, each cell bearing its entry of `numbers`."""
    picture = axis.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1])
    axis.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(labels)), labels)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    luminance = picture.to_rgba(values)[..., :3] @ (0.299, 0.587, 0.114)
    for (row, column), number in np.ndenumerate(numbers):
        colour = "black" if luminance[row, column] > 0.5 else "white"
        axis.text(column, row, format(number, format_spec), ha="center", va="center", color=colour)
    return picture


def _with_support(name: str, scores: Mapping[str, float]) -> str:
    return f"{name}\n({scores['support']:,.0f})" if "support" in scores else name
