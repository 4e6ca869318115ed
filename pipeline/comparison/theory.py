"""Test the prediction of docs/losses.md: does the cosine loss decide as cross-entropy with costs would?

With fixed unit targets the cosine loss is minimised, at the posterior p, by an output along W^T p, so it decides for
arg-max over k of (S p)_k, S = W W^T: cross-entropy followed by `CostSensitive` with cost 1 - S. If so, a cosine model
agrees with that decoder on cross-entropy of the same seed as often as two seeds of cross-entropy agree, and predicts
each class as often as S p does.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.floating]
Classes = npt.NDArray[np.integer]


def agreement(a: Classes, b: Classes) -> float:
    """Return the share of images on which two models decide alike."""
    return float((a == b).mean())


def shares(decided: Classes, classes: int) -> Floats:
    """Return the share of each class among the decisions: [K], summing to one."""
    return np.bincount(decided, minlength=classes) / len(decided)


def spread(gram: Floats) -> float:
    """Return the standard deviation of the cosines between different classes: 0 if all costs are equal."""
    return float(gram[np.triu_indices(len(gram), 1)].std())


def confusion_correlation(gram: Floats, confusion: Floats) -> tuple[float, float]:
    """Correlate cosines S with confusion: Spearman's rank correlation and Mantel's p (Mantel 1967).

    confusion: counts [K, K], rows the labels, none of them empty. It is normalised by row and symmetrised first;
    diagonals are left out. p is two-sided and exact: the share of all K! relabellings of S whose correlation is at
    least as far from zero. Raises ValueError for a class without images, and for constant cosines or confusions, for
    which no correlation is defined.
    """
    if not confusion.sum(axis=1).all():
        raise ValueError("a class without images has no shares")
    rates = confusion / confusion.sum(axis=1, keepdims=True)
    first, second = np.triu_indices(len(gram), 1)
    wanted = _standardised(stats.rankdata((rates + rates.T)[first, second]))
    ranks = np.zeros_like(gram)
    ranks[first, second] = ranks[second, first] = _standardised(stats.rankdata(gram[first, second]))
    orders = np.array(list(permutations(range(len(gram)))))  # the identity comes first
    correlations = ranks[orders[:, first], orders[:, second]] @ wanted
    beyond = np.abs(correlations) >= abs(correlations[0]) - 1e-12
    return float(correlations[0]), float(beyond.mean())


def _standardised(values: Floats) -> Floats:
    """Return the values with mean 0 and length 1, so that a product of two is their correlation."""
    centred = values - values.mean()
    length = np.linalg.norm(centred)
    if length == 0:
        raise ValueError("values that are all equal correlate with nothing")
    return np.asarray(centred / length)
