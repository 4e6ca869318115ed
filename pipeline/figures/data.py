"""Pictures of the data and of the label words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.figures.canvas import annotated_matrix, canvas, face, faces


def contact_sheet(
    images: npt.NDArray[np.uint8], captions: Sequence[str], path: Path, columns: int = 10
) -> None:
    """Grey faces [N, 48, 48] in rows of `columns`, a caption over each."""
    with faces(len(images), columns, path) as axes:
        for axis, image, caption in zip(axes, images, captions, strict=True):
            face(axis, image, caption)


def gram(matrix: npt.NDArray[np.floating], labels: Sequence[str], path: Path, title: str) -> None:
    """Similarities [K, K] between -1 and 1 as an annotated heat map."""
    with canvas(path, 6.4, 5.6) as figure:
        axis = figure.subplots()
        picture = annotated_matrix(axis, matrix, "PuOr", (-1, 1), labels, matrix, ".2f")
        axis.set_title(title)
        figure.colorbar(picture, ax=axis, shrink=0.8, label="similarity")
