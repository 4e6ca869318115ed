"""Hand-made features of faces, and where in the image each of them lies."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.classical.faces import Faces
from pipeline.data.fer import IMAGE_SIZE
from pipeline.errors import UserError
from pipeline.landmarks.shapes import PAIRS, distances, normalised

Floats = npt.NDArray[np.floating]
Features = npt.NDArray[np.float32]


class FeatureSet(Protocol):
    """A kind of features. uses_landmarks: whether they are made of them, else of the pixels."""

    uses_landmarks: bool

    def require_packages(self) -> None:
        """Raise UserError if an optional package is missing."""

    def __call__(self, faces: Faces) -> Features:
        """Return the features, float32 [N, D]; NaN throughout for an image of which they are not known."""

    def maps(self, parts: Floats, chosen: npt.NDArray[np.integer], faces: Faces) -> Floats:
        """Return images [N, 48, 48] of `parts` [N, M], the contributions of the features `chosen` [M], where they
        lie."""


class Appearance:
    """Histograms of oriented gradients (Dalal & Triggs, CVPR 2005) and of uniform local binary patterns (Ojala et al.
    2002; on faces: Ahonen et al. 2006), on cells of 8 x 8 pixels, by scikit-image.

    HOG: 8 orientations, blocks of 2 x 2 cells, L2-Hys: 5 x 5 x 4 x 8 = 800. LBP: 8 neighbours at radius 1, the 58
    uniform patterns and the others: 36 x 59 = 2,124, as shares of the cell's pixels.
    """

    uses_landmarks = False
    cell = 8
    cells = IMAGE_SIZE // cell
    orientations = 8
    block = 2
    patterns = 59

    def require_packages(self) -> None:
        if find_spec("skimage") is None:
            raise UserError("HOG and LBP features need scikit-image: run `python -m pip install -e '.[classical]'`.")

    def __call__(self, faces: Faces) -> Features:
        from skimage.feature import hog
        from skimage.feature import local_binary_pattern as patterns

        size, cells = (self.cell, self.cell), self.cells
        made = np.empty((len(faces.images), len(self.cell_of())), np.float32)
        for row, image in enumerate(faces.images):
            gradients = hog(image, self.orientations, size, (self.block, self.block), block_norm="L2-Hys")
            codes = np.asarray(patterns(image, 8, 1, "nri_uniform"), np.intp)
            by_cell = codes.reshape(cells, self.cell, cells, self.cell).swapaxes(1, 2).reshape(cells**2, -1)
            counts = [np.bincount(cell, minlength=self.patterns) for cell in by_cell]
            made[row] = [*gradients, *(np.concatenate(counts) / self.cell**2)]
        return made

    def cell_of(self) -> npt.NDArray[np.intp]:
        """Return the cell of each feature, counted row by row: [D]."""
        blocks = self.cells - self.block + 1
        down, across, below, beside, _ = np.indices((blocks, blocks, self.block, self.block, self.orientations))
        gradients = (down + below) * self.cells + across + beside
        return np.concatenate([gradients.ravel(), np.repeat(np.arange(self.cells**2), self.patterns)])

    def maps(self, parts: Floats, chosen: npt.NDArray[np.integer], faces: Faces) -> Floats:
        of_cell = np.eye(self.cells**2)[self.cell_of()[chosen]]
        coarse = (parts @ of_cell).reshape(-1, self.cells, self.cells)
        return np.asarray(ndimage.zoom(coarse, (1, self.cell, self.cell), order=1, mode="nearest", grid_mode=True))


class Geometry:
    """The distances of all 2,278 pairs of the 68 landmarks, of faces of equal size.

    Place and size are removed as in Procrustes analysis; distances do not change with rotation.
    """

    uses_landmarks = True
    steps = 25

    def require_packages(self) -> None:
        """None is needed: landmarks come from a stage of their own."""

    def __call__(self, faces: Faces) -> Features:
        return distances(normalised(faces.points))

    def maps(self, parts: Floats, chosen: npt.NDArray[np.integer], faces: Faces) -> Floats:
        """Draw each distance as a line between its two landmarks; an image without landmarks stays 0."""
        drawn = np.zeros((len(parts), IMAGE_SIZE, IMAGE_SIZE))
        way = np.linspace(0, 1, self.steps)[:, None]
        first, second = PAIRS
        for image, part, points in zip(drawn, parts, faces.points, strict=True):
            if np.isnan(points).any():
                continue
            start, end = points[first[chosen], None], points[second[chosen], None]
            places = np.rint(start + way * (end - start)).astype(int).reshape(-1, 2)
            inside = ((places >= 0) & (places < IMAGE_SIZE)).all(axis=1)
            x, y = places[inside].T
            np.add.at(image, (y, x), np.repeat(part / self.steps, self.steps)[inside])
        return np.asarray(ndimage.gaussian_filter(drawn, (0, 1, 1)))
