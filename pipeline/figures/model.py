"""Draw one model: its mistakes, its confidence, and where it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import confusion_matrix

from pipeline import config
from pipeline.evaluation.metrics import CALIBRATION_BINS, expected_calibration_error, reliability_bins, vote_entropy
from pipeline.evaluation.models import Model
from pipeline.figures import views
from pipeline.figures.canvas import COLOURS, annotated_matrix, canvas, face, faces, font_size, scale
from pipeline.files import JsonDict

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


def draw(
    folder: Path, title: str, model: Model, images: npt.NDArray[np.uint8], rows: Ints, actual: Ints, predicted: Ints,
    probabilities: Floats, uncertain: Floats, votes: npt.NDArray[np.uint8] | None, metrics: JsonDict,
    settings: config.EvaluateParams,
) -> None:  # fmt: skip
    """Draw all figures of one model, from the test split: images [N, 48, 48] and their rows in the data set.

    votes: uint8 [N, 10], or None.
    """
    classes = list(metrics["per_class"])
    counts = confusion_matrix(actual, predicted, labels=range(len(classes)))
    confusion(counts, classes, folder / "confusion.png", normalised=False, title=title)
    confusion(counts, classes, folder / "confusion_normalised.png", normalised=True, title=title)
    reliability(actual, probabilities, folder / "reliability.png", title)
    per_class_bars(metrics["per_class"], folder / "per_class.png", title)
    confidence = probabilities.max(axis=1)
    confident_mistakes(images, actual, predicted, confidence, classes, folder / "mistakes.png")

    shown = surest_of_each(actual, predicted, confidence, settings.heat_maps)
    maps = model.heat_maps(rows[shown], predicted[shown])
    captions = [
        f"{classes[predicted[n]]} (right)"
        if predicted[n] == actual[n]
        else f"{classes[predicted[n]]}, is {classes[actual[n]]}"
        for n in shown
    ]
    heat_maps(images[shown], maps, captions, folder / "heat_maps.png")

    sample = np.concatenate([np.flatnonzero(actual == k)[: settings.class_mean_faces] for k in range(len(classes))])
    maps = model.heat_maps(rows[sample], actual[sample])
    mean_faces = class_means(images[sample], actual[sample], len(classes), views.MIN_FACES)
    mean_maps = class_means(maps, actual[sample], len(classes), views.MIN_FACES)
    class_mean_heat_maps(mean_faces, mean_maps, classes, folder / "class_heat_maps.png")

    views.class_maps(mean_faces, model.class_maps(np.nan_to_num(mean_faces)), classes, folder / "class_maps.png", title)
    views.uncertainty(
        images, actual, uncertain, None if votes is None else vote_entropy(votes), classes,
        folder / "uncertainty.png", title, settings.class_mean_faces,
    )  # fmt: skip


def surest_of_each(actual: Ints, predicted: Ints, confidence: Floats, count: int) -> npt.NDArray[np.intp]:
    """Return the most confident decisions, half right and half wrong (or fewer), class by class in turn."""
    chosen: list[int] = []
    for right in (True, False):
        pool = np.flatnonzero((actual == predicted) == right)
        pool = pool[np.argsort(-confidence[pool], kind="stable")]
        rank_in_class = np.array([np.sum(actual[pool[:i]] == actual[n]) for i, n in enumerate(pool)], dtype=int)
        chosen += pool[np.argsort(rank_in_class, kind="stable")][: (count + 1) // 2].tolist()
    return np.array(chosen, dtype=np.intp)


def class_means(values: npt.NDArray[Any], actual: Ints, classes: int, fewest: int = 1) -> Floats:
    """Return the mean over the images of each class: [N, H, W] -> [K, H, W], NaN for one of less than `fewest`."""
    empty = np.full(values.shape[1:], np.nan)
    groups = [values[actual == k] for k in range(classes)]
    return np.stack([group.mean(axis=0) if len(group) >= fewest else empty for group in groups])


def confident_mistakes(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    confidence: npt.NDArray[np.floating],
    label_names: Sequence[str],
    path: Path,
    count: int = 24,
) -> None:
    """Draw the `count` wrong decisions with the highest confidence (a fraction), most confident first.

    The figure shows the model's faults and the data's: a human would question many of these labels too.
    """
    wrong = np.flatnonzero(labels != predicted)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    title = "The most confident mistakes: label → decision" if len(surest) else "No mistakes"
    with faces(len(surest), 8, path, title) as axes:
        for axis, n in zip(axes, surest, strict=True):
            decision = f"{label_names[predicted[n]]} {confidence[n]:.0%}"
            face(axis, images[n], f"{label_names[labels[n]]}\n→ {decision}")


def confusion(counts: npt.NDArray[np.integer], labels: Sequence[str], path: Path, normalised: bool, title: str) -> None:
    """Draw the confusion matrix [K, K]: rows are labels, columns decisions; as counts or as per cent of each row."""
    # Colour shows the share of the row in both cases: by count, the largest class would outshine all others.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with canvas(path, 6.4 * scale(len(labels)), 5.6 * scale(len(labels))) as figure:
        axis = figure.subplots()
        if normalised:
            picture = annotated_matrix(axis, shares, "Blues", (0, 1), labels, 100 * shares, ".0f")
        else:
            picture = annotated_matrix(axis, shares, "Blues", (0, 1), labels, counts, "d")
        unit = "per cent of each row" if normalised else "number of images"
        axis.set(title=f"{title}\n{unit}", xlabel="decision", ylabel="label")
        share = PercentFormatter(1)
        figure.colorbar(picture, ax=axis, shrink=0.8, format=share, label="share of the label's images")


def reliability(
    labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.float64], path: Path, title: str
) -> None:
    """Draw accuracy against confidence in bins (Guo et al. 2017) above a histogram of the confidence."""
    count, accuracy, confidence = reliability_bins(labels, probabilities)
    error = expected_calibration_error(labels, probabilities)
    width = 1 / CALIBRATION_BINS
    left = np.arange(CALIBRATION_BINS) * width
    filled = count > 0
    with canvas(path, 5.6, 6.0) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot((0, 1), (0, 1), color="#777777", linestyle="--", label="perfectly calibrated")
        upper.bar(left, accuracy, width, align="edge", color=COLOURS[5], edgecolor="white", label="accuracy in the bin")
        upper.plot(
            confidence[filled],
            accuracy[filled],
            "o",
            color=COLOURS[0],
            markersize=4,
            label="the same, at its mean confidence",
        )
        upper.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1), title=f"{title}\nexpected calibration error {error:.1%}")
        upper.legend(loc="upper left")
        lower.bar(left, count / count.sum(), width, align="edge", color="#999999", edgecolor="white")
        lower.set(xlabel="confidence (largest probability)", ylabel="images")
        for axis in (upper, lower):
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def per_class_bars(per_class: Mapping[str, Mapping[str, float]], path: Path, title: str) -> None:
    """Draw precision, recall and F1 of each class: the `per_class` entry of a metrics file."""
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    position = np.arange(len(per_class))
    crowded = len(per_class) * max(map(len, per_class)) > 84
    with canvas(path, 8.0 * scale(len(per_class)), 4.2) as figure:
        axis = figure.subplots()
        for offset, (key, name), colour in zip((-0.27, 0, 0.27), names.items(), COLOURS, strict=False):
            values = [scores[key] for scores in per_class.values()]
            axis.bar(position + offset, values, 0.25, color=colour, label=name)
        axis.set_xticks(position, [_with_support(name, scores) for name, scores in per_class.items()])
        if crowded:
            axis.tick_params("x", labelrotation=40)
        axis.set(title=title, ylim=(0, 1), xlabel="class (images)", ylabel="score")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.grid(axis="y")
        figure.legend(ncols=3, loc="outside lower center")


def heat_maps(
    images: npt.NDArray[np.uint8], maps: npt.NDArray[np.floating], captions: Sequence[str], path: Path
) -> None:
    """Draw faces [M, 48, 48], each next to itself under its map [M, 48, 48] (zero or more), with a caption.

    Every map is scaled to its own largest value: it shows where the model looked, not how much.
    """
    pairs = 4
    rows = max(1, -(-len(images) // pairs))
    title = "Where the model looked (bright: the most)"
    with canvas(path, 2.45 * pairs, 1.45 * rows + 0.4, title) as figure:
        panels = figure.subfigures(rows, pairs, squeeze=False).flat
        pictures = zip(images, maps, captions, strict=True)
        for panel, (image, heat, caption) in zip(panels, pictures, strict=False):
            panel.suptitle(caption, fontsize=font_size(caption, 34))
            left, right = panel.subplots(1, 2)
            face(left, image)
            _overlay(right, image, heat)


def class_mean_heat_maps(
    mean_faces: npt.NDArray[np.floating], mean_maps: npt.NDArray[np.floating], labels: Sequence[str], path: Path
) -> None:
    """Draw for each class its mean face [K, 48, 48] (grey, 0 to 255) above the same face under its mean map.

    A class without a mean face has NaN in both and stays blank.
    """
    title = "Mean face of each class, and where the model looked (bright: the most)"
    if not np.isfinite(mean_faces).any():
        with canvas(path, 7.0, 1.2, title) as figure:
            figure.text(0.5, 0.4, views.TOO_FEW, ha="center", va="center")
        return
    # A mean of many faces is nearly flat: one stretch for all classes keeps them comparable.
    dark, bright = np.nanmin(mean_faces), np.nanmax(mean_faces)
    contrasted = 255 * (mean_faces - dark) / max(bright - dark, 1)
    with canvas(path, max(1.4 * len(labels), 7.0), 3.4, title) as figure:  # the title takes seven inches
        upper, lower = figure.subplots(2, len(labels), squeeze=False)
        for k, label in enumerate(labels):
            face(upper[k], contrasted[k], label)
            _overlay(lower[k], contrasted[k], mean_maps[k])


def _overlay(axis: Axes, image: npt.NDArray[np.generic], heat: npt.NDArray[np.floating]) -> None:
    face(axis, image)
    relative = heat / max(float(heat.max()), 1e-12)
    # The less heat, the more of the face shows through.
    axis.imshow(relative, cmap="inferno", vmin=0, vmax=1, alpha=0.8 * np.sqrt(np.nan_to_num(relative).clip(0, 1)))


def _with_support(name: str, scores: Mapping[str, float]) -> str:
    return f"{name}\n({scores['support']:,.0f})" if "support" in scores else name
