"""Draw what a model makes of two views of a face, and which faces it is certain of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from scipy.stats import spearmanr

from pipeline.evaluation.class_maps import MirroredMaps
from pipeline.figures.canvas import COLOURS, canvas, face

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

MIN_FACES = 8
"""Faces behind a mean face: a mean of fewer shows a person."""
TOO_FEW = f"No class has {MIN_FACES} faces or more, of which a mean could be shown."
GROUPS = 10
"""Groups of equal size by uncertainty."""


def class_maps(mean_faces: Floats, maps: MirroredMaps | None, labels: Sequence[str], path: Path, title: str) -> None:
    """Draw each class's mean face [K, 48, 48], its map, that of the mirror image turned back, and their difference.

    A class without a mean face has NaN in it, stays blank and does not count. Without maps the figure says so.
    """
    known = np.isfinite(mean_faces.sum(axis=(1, 2)))
    if maps is None or not known.any():
        said = TOO_FEW if maps else "Only networks have class maps."
        with canvas(path, 1.3 * len(labels) + 0.6, 1.2, title) as figure:
            figure.text(0.5, 0.4, said, ha="center", va="center")
        return
    rows = ("mean face", "class map", "of the mirror image", "difference")
    shown = MirroredMaps(maps.own[known], maps.mirrored[known])
    low, high = float(np.min(shown)), float(np.max(shown))
    head = f"{title}\nclass maps of mean faces; difference {shown.disagreement:.1%} of the maps' variance"
    with canvas(path, 1.3 * len(labels) + 0.6, 5.6, head) as figure:
        axes = figure.subplots(len(rows), len(labels), squeeze=False)
        for k, label in enumerate(labels):
            for axis in axes[:, k]:
                axis.set_axis_off()
            face(axes[0, k], mean_faces[k], label)
            if known[k]:
                for axis, values in ((axes[1, k], maps.own[k]), (axes[2, k], maps.mirrored[k])):
                    axis.imshow(values, cmap="inferno", vmin=low, vmax=high)
                difference, most = maps.own[k] - maps.mirrored[k], max(high - low, 1e-12)
                axes[3, k].imshow(difference, cmap="RdBu", vmin=-most, vmax=most)
        for axis, name in zip(axes[:, 0], rows, strict=True):
            axis.text(-0.12, 0.5, name, transform=axis.transAxes, rotation=90, ha="right", va="center", fontsize=9)


def uncertainty(
    images: npt.NDArray[np.uint8],
    actual: Ints,
    uncertain: Floats,
    vote_entropy: Floats | None,
    labels: Sequence[str],
    path: Path,
    title: str,
    most: int,
) -> None:
    """Draw the mean of each class's most and least certain faces, and uncertainty against the entropy of the votes.

    images: [N, 48, 48]; uncertain: [N]; vote_entropy: in nats, [N], NaN without a vote, or None if there are no votes;
    most: faces behind a mean, at most a third of the class.
    """
    width = 1.15 * len(labels)
    with canvas(path, width + 4.2, 3.5, title) as figure:
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(width, 4.2))[0]
        axes = left.subplots(2, len(labels), squeeze=False)
        for k, label in enumerate(labels):
            ranked = np.flatnonzero(actual == k)
            ranked = ranked[np.argsort(uncertain[ranked], kind="stable")]
            count = min(most, len(ranked) // 3)
            for axis, chosen, name in (
                (axes[0, k], ranked[:count], label),
                (axes[1, k], ranked[len(ranked) - count :], ""),
            ):
                axis.set_axis_off()
                if count >= MIN_FACES:
                    face(axis, _stretched(images[chosen].mean(axis=0)), name)
                else:
                    axis.set_box_aspect(1)
                    axis.set_title(name, fontsize=9, pad=3)
                    axis.text(
                        0.5, 0.5, "too few\nfaces", transform=axis.transAxes, ha="center", va="center", fontsize=8
                    )
        for axis, name in zip(axes[:, 0], ("most certain", "least certain"), strict=True):
            axis.text(-0.12, 0.5, name, transform=axis.transAxes, rotation=90, ha="right", va="center", fontsize=9)
        axis = right.subplots()
        if vote_entropy is None:
            axis.set_axis_off()
        else:
            _against_votes(axis, uncertain, vote_entropy)


def _against_votes(axis: Axes, uncertain: Floats, vote_entropy: Floats) -> None:
    voted = ~np.isnan(vote_entropy)
    order = np.argsort(uncertain[voted], kind="stable")
    groups = [group for group in np.array_split(vote_entropy[voted][order], GROUPS) if len(group)]
    means = [float(group.mean()) for group in groups]
    errors = [1.96 * float(group.std()) / np.sqrt(len(group)) for group in groups]
    place = (np.arange(len(groups)) + 0.5) / len(groups)
    axis.errorbar(place, means, errors, fmt="o-", color=COLOURS[0], capsize=3)
    constant = len(set(uncertain[voted])) < 2 or len(set(vote_entropy[voted])) < 2
    rho = 0.0 if constant else float(spearmanr(uncertain[voted], vote_entropy[voted]).statistic)
    axis.set(
        title=f"Spearman's rank correlation {rho:.2f}",
        xlabel="images by the model's uncertainty (share)",
        ylabel="entropy of the votes (nats)",
        xlim=(0, 1),
    )
    axis.grid(axis="y")


def _stretched(mean_face: Floats) -> Floats:
    """Return a mean face, which is nearly flat, over the whole range of grey levels."""
    dark, bright = mean_face.min(), mean_face.max()
    return np.asarray(255 * (mean_face - dark) / max(bright - dark, 1))
