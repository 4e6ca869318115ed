"""Find for each training image those with the most similar landmarks: the graph of LDL-ALSG (Chen et al., CVPR 2020).

Members of one group of near duplicates are no neighbours: they are the same photograph, and to learn from their labels
would be to vote among copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError
from pipeline.files import write_npz

Floats = npt.NDArray[np.floating]
CHUNK = 512
"""Rows compared with all others at a time: limits memory without changing results."""


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of each of N rows, the nearest first.

    index: int32 [N, k], rows; distance: float32 [N, k]; weight: float32 [N, k], exp(-distance^2 / (2 sigma^2)); sigma:
    the median distance to the k-th neighbour; found: bool [N]. A row whose landmarks were not found is nobody's
    neighbour, and where neighbours are missing the index is the row itself, the distance infinite and the weight 0.
    """

    index: npt.NDArray[np.int32]
    distance: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    sigma: float
    found: npt.NDArray[np.bool_]

    def save(self, path: Path) -> None:
        """Write the arrays as an `.npz`; `sigma` is float64 [1]."""
        arrays = {"index": self.index, "distance": self.distance, "weight": self.weight, "found": self.found}
        write_npz(path, arrays | {"sigma": np.array([self.sigma])}, compressed=True)

    @classmethod
    def load(cls, path: Path) -> Neighbours:
        """Read what `save` wrote. Raises UserError if there is no such file, or no neighbour in it."""
        if not path.exists():
            raise UserError(f"{path} is missing: run `dvc repro targets` first.")
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        if not arrays:
            raise UserError(f"{path} has no neighbours, as landmarks.source was none: run `dvc repro targets`.")
        sigma = float(arrays.pop("sigma")[0])
        return cls(**arrays, sigma=sigma)

    def permuted(self, random: np.random.Generator) -> Neighbours:
        """Return the neighbours of another row, drawn, for each row with landmarks: as many and as near, but no kin.

        A row may happen to be its own neighbour, or a near duplicate's: in chance proportion.
        """
        other = np.arange(len(self.index))
        known = np.flatnonzero(self.found)
        other[known] = random.permutation(known)
        return Neighbours(self.index[other], self.distance[other], self.weight[other], self.sigma, self.found)


def nearest(places: Floats, groups: npt.NDArray[np.integer], found: npt.NDArray[np.bool_], k: int) -> Neighbours:
    """Return the k nearest neighbours of each row by Euclidean distance.

    places: [N, D]; groups: int [N], rows of one group (0 or above) are no neighbours of each other; found: bool [N].
    """
    places = places.astype(np.float64)
    n = len(places)
    index = np.repeat(np.arange(n, dtype=np.int32)[:, None], k, axis=1)
    distance = np.full((n, k), np.inf, np.float32)
    candidates = np.flatnonzero(found)
    squares = (places[candidates] ** 2).sum(axis=1)
    for start in range(0, len(candidates), CHUNK):
        rows = candidates[start : start + CHUNK]
        squared = squares[start : start + CHUNK, None] + squares - 2 * places[rows] @ places[candidates].T
        same = (groups[rows, None] == groups[candidates]) & (groups[rows, None] >= 0)
        squared[same | (rows[:, None] == candidates)] = np.inf
        best = np.sort(np.argpartition(squared, min(k, len(candidates)) - 1, axis=1)[:, :k], axis=1)
        order = np.take_along_axis(squared, best, axis=1).argsort(axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        known = np.isfinite(np.take_along_axis(squared, best, axis=1))
        # Measured again: the difference of large numbers above is good for the order alone.
        apart = np.linalg.norm(places[rows, None] - places[candidates[best]], axis=2)
        width = best.shape[1]
        index[rows, :width] = np.where(known, candidates[best], rows[:, None])
        distance[rows, :width] = np.where(known, apart, np.inf)
    last = distance[:, -1][np.isfinite(distance[:, -1])]
    sigma = float(np.median(last)) if len(last) else 1.0
    weight = np.exp(-((distance / (sigma or 1.0)) ** 2) / 2).astype(np.float32)
    return Neighbours(index, distance, weight, sigma, found)
