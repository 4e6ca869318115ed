"""Hold the landmarks of a data set: 68 points of each image in the order of iBUG 300-W (Sagonas et al. 2013).

0 to 16 jaw, 17 to 26 brows, 27 to 35 nose, 36 to 47 eyes, 48 to 67 mouth. *Left* is the left of the image. x points to
the right and y down, in pixels; whole numbers are the middles of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import IMAGE_SIZE
from pipeline.errors import UserError
from pipeline.files import write_npz

Points = npt.NDArray[np.floating]

COUNT = 68
MIRRORED = (
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
)  # fmt: skip
"""For each point, the point that takes its place in the mirror image."""
OUTER_CORNERS = (36, 45)
"""The outer corners of the eyes: errors are given as shares of their distance, as for 300-W."""


@dataclass(frozen=True)
class Landmarks:
    """points: float32 [N, 68, 2]; found: bool [N], whether they can be relied on."""

    points: npt.NDArray[np.float32]
    found: npt.NDArray[np.bool_]

    def save(self, path: Path) -> None:
        """Write both arrays as an `.npz`."""
        write_npz(path, {"points": self.points, "found": self.found}, compressed=True)

    @classmethod
    def load(cls, path: Path) -> Landmarks | None:
        """Read what `save` or `save_none` wrote; None for the latter. Raises UserError if there is no such file."""
        if not path.exists():
            raise UserError(f"{path} is missing: run `dvc repro targets` first.")
        with np.load(path, allow_pickle=False) as archive:
            return cls(archive["points"], archive["found"]) if "points" in archive else None


def of_all(points: npt.NDArray[np.float32]) -> Landmarks:
    """Return landmarks [N, 68, 2] that are all known."""
    return Landmarks(points, np.ones(len(points), bool))


def save_none(path: Path) -> None:
    """Write an archive without arrays, which says that nobody asked for landmarks."""
    write_npz(path, {})


def mirrored(points: Points) -> Points:
    """Return the landmarks of the mirror images: [..., 68, 2] -> [..., 68, 2]."""
    swapped = points[..., MIRRORED, :].copy()
    swapped[..., 0] = IMAGE_SIZE - 1 - swapped[..., 0]
    return swapped


def relative_error(one: Points, other: Points) -> npt.NDArray[np.float64]:
    """Return the mean distance of two sets of points [N, 68, 2] by image, over that of the eyes' outer corners."""
    left, right = OUTER_CORNERS
    eyes = np.linalg.norm(one[:, left] - one[:, right], axis=1)
    apart = np.linalg.norm(one - other, axis=2).mean(axis=1)
    return np.asarray(np.divide(apart, eyes, out=np.full(len(one), np.inf), where=eyes > 0))
