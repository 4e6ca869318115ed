"""Provide what all figures share: canvas, colours, faces and matrices.

Figures are drawn on canvases of their own (no pyplot, no global state), in colours that colour-blind readers can tell
apart, at a size that stays readable in a README.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pipeline.files import replacing

DPI = 120

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe & Ito (2008), which people with any common colour blindness can tell apart."""

LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters on every machine
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titley": 1.0,  # no ticks are above: to look for some for each of a hundred faces takes half the time
    "text.parse_math": False,  # a name may have two dollar signs
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def canvas(path: Path, width: float, height: float, title: str = "") -> Iterator[Figure]:
    """Yield a figure of that many inches; save it to `path` if the block succeeds, completely or not at all."""
    # A matplotlibrc of the user's own must not change the pictures.
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained")
        if title:
            figure.suptitle(title)
        yield figure
        with replacing(path) as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # of another script: it becomes a box
            # Without the version of matplotlib that it would name, equal data gives equal bytes.
            figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


@contextmanager
def faces(count: int, columns: int, path: Path, title: str = "") -> Iterator[list[Axes]]:
    """Return `count` axes for faces in rows of `columns`."""
    rows = max(1, -(-count // columns))
    with canvas(path, 1.15 * columns, 1.45 * rows + (0.4 if title else 0), title) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        yield list(axes[:count])


def font_size(text: str, letters: int) -> float:
    """Return the size at which the longest line of a caption fits where `letters` of 9 points do."""
    longest = max(map(len, text.split("\n")))
    return 9 * min(1.0, letters / max(longest, 1))


def scale(classes: int) -> float:
    """Return how much larger than for FER-2013's seven a matrix of classes is drawn."""
    return max(1.0, classes / 7)


def face(axis: Axes, image: npt.NDArray[np.generic], caption: str = "") -> None:
    """Draw one face."""
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    axis.set_axis_off()
    axis.set_title(caption, fontsize=font_size(caption, 17), pad=3)


def annotated_matrix(
    axis: Axes,
    values: npt.NDArray[np.floating],
    colours: str,
    limits: tuple[float, float],
    labels: Sequence[str],
    numbers: npt.NDArray[np.generic],
    format_spec: str,
) -> AxesImage:
    """Draw a square heat map of `values`, each cell labelled with its entry of `numbers`."""
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
