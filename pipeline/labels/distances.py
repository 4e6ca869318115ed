"""Measure how far apart two expressions are, independently of the vectors that trained a model.

Mistakes are weighed by these distances: float64 [K, K] in the order of the classes, symmetric, zero on the diagonal,
scaled so that the worst mistake costs 1. The affective and the human ones are known for FER-2013's seven classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import LABELS
from pipeline.data.votes import distribution

AFFECT: dict[str, tuple[float, float, float]] = {
    "angry": (-0.51, 0.59, 0.25),
    "disgust": (-0.60, 0.35, 0.11),
    "fear": (-0.64, 0.60, -0.43),
    "happy": (0.81, 0.51, 0.46),
    "sad": (-0.63, -0.27, -0.33),
    "surprise": (0.40, 0.67, -0.13),
    "neutral": (0.0, 0.0, 0.0),
}
"""Mean valence, arousal and dominance of the emotion terms (Russell & Mehrabian 1977, scale -1 to 1)."""


def affective_distance(classes: Sequence[str] = LABELS) -> npt.NDArray[np.float64]:
    """Return the Euclidean distance in valence, arousal and dominance (not cosine: neutral is the origin).

    classes: FER-2013's seven, in any order.
    """
    points = np.array([AFFECT[label] for label in classes])
    return _scaled(np.linalg.norm(points[:, None] - points[None], axis=2))


def mean_votes(labels: npt.NDArray[np.uint8], votes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64] | None:
    """Return the mean share of FER+ votes for each FER-2013 class: float64 [K, K]; None if a class has none.

    labels: [N], votes: [N, 10], of the Training split only, or the test set would judge itself.
    """
    shares, voted = distribution(votes)
    means = []
    for label in range(len(LABELS)):
        of_class = shares[voted & (labels == label)]
        if not len(of_class):
            return None
        means.append(of_class.mean(axis=0))
    return np.stack(means)


def human_distance(labels: npt.NDArray[np.uint8], votes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64] | None:
    """Return 1 - cosine between the `mean_votes` of two classes: close when annotators give them the same votes."""
    means = mean_votes(labels, votes)
    if means is None:
        return None
    units = means / np.linalg.norm(means, axis=1, keepdims=True)
    return _scaled(1 - units @ units.T)


def cosine_distance(gram: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return 1 - cosine between label vectors, from their Gram matrix [K, K]."""
    return _scaled(1 - gram)


def _scaled(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    distance = (distance + distance.T) / 2
    np.fill_diagonal(distance, 0.0)
    worst = distance.max()
    return np.asarray(distance / worst) if worst else distance
