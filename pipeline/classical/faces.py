"""What a classifier without a network looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import FerData
from pipeline.landmarks.points import Landmarks, mirrored


@dataclass(frozen=True)
class Faces:
    """images: uint8 [N, 48, 48]; landmarks: those of these images, or None where nobody asked for them."""

    images: npt.NDArray[np.uint8]
    landmarks: Landmarks | None = None

    @classmethod
    def of(cls, data: FerData, rows: npt.NDArray[np.integer], landmarks: Landmarks | None) -> Faces:
        """Take some rows of a data set and of its landmarks."""
        some = landmarks and Landmarks(landmarks.points[rows], landmarks.found[rows])
        return cls(data.images[rows], some)

    def mirrored(self) -> Faces:
        """Return the mirror images, with the mirrored landmarks."""
        turned = self.landmarks and Landmarks(
            np.asarray(mirrored(self.landmarks.points), np.float32), self.landmarks.found
        )
        return Faces(self.images[:, :, ::-1], turned)

    @property
    def points(self) -> npt.NDArray[np.float64]:
        """The landmarks [N, 68, 2], NaN where they were not found."""
        assert self.landmarks is not None, "the settings are checked for this"
        points = self.landmarks.points.astype(np.float64)
        points[~self.landmarks.found] = np.nan
        return points
