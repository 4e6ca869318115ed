"""Draw the data and the label words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import SPLITS, FerData
from pipeline.figures.canvas import annotated_matrix, canvas, face, faces, scale


def contact_sheet(data: FerData, path: Path, per_class: int = 10) -> None:
    """Draw the first faces of every class, one row per class, with captions."""
    rows = np.concatenate([np.flatnonzero(data.labels == label)[:per_class] for label in range(len(data.classes))])
    with faces(len(rows), per_class, path) as axes:
        for axis, row in zip(axes, rows, strict=True):
            face(axis, data.images[row], f"{data.classes[data.labels[row]]} {row}\n{SPLITS[data.splits[row]]}")


def gram(matrix: npt.NDArray[np.floating], labels: Sequence[str], path: Path, title: str) -> None:
    """Draw similarities [K, K] between -1 and 1 as an annotated heat map."""
    with canvas(path, 6.4 * scale(len(labels)), 5.6 * scale(len(labels))) as figure:
        axis = figure.subplots()
        picture = annotated_matrix(axis, matrix, "PuOr", (-1, 1), labels, matrix, ".2f")
        axis.set_title(title)
        figure.colorbar(picture, ax=axis, shrink=0.8, label="similarity")
