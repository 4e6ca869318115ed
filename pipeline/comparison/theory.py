"""Test the prediction of docs/losses.md: does the cosine loss decide as cross-entropy with costs would?

With fixed unit targets the cosine loss is minimised, at the posterior p, by an output along W^T p, so it decides for
arg-max over k of (S p)_k, S = W W^T: cross-entropy followed by `CostSensitive` with cost 1 - S. If so, a cosine model
agrees with that decoder on cross-entropy of the same seed as often as two seeds of cross-entropy agree, and predicts
each class as often as S p does.

Decisions differ on few images. Scores differ on all: at the minimum they are c_k = cos(f, w_k) = (S p)_k / sqrt(p^T S
p), without a parameter to fit. A run keeps softmax(c), and so c up to one constant for each image: both sides are
compared after their mean over the classes is subtracted.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.floating]
Classes = npt.NDArray[np.integer]

SMALLEST_SQUARE = 1e-12
"""The square of the length below which an output counts as zero (`losses.EPSILON`)."""
RELABELLINGS_AT_ONCE = 256
"""Relabellings of S held in memory at a time: 4 MB of each term for the images of PrivateTest."""
TOLERANCE = 1e-6
"""R^2 within which two relabellings are equal: they are computed in single precision."""


def agreement(a: Classes, b: Classes) -> float:
    """Return the share of images on which two models decide alike."""
    return float((a == b).mean())


def shares(decided: Classes, classes: int) -> Floats:
    """Return the share of each class among the decisions: [K], summing to one."""
    return np.bincount(decided, minlength=classes) / len(decided)


def spread(gram: Floats) -> float:
    """Return the standard deviation of the cosines between different classes: 0 if all costs are equal."""
    return float(gram[np.triu_indices(len(gram), 1)].std())


def centred(scores: Floats) -> Floats:
    """Return scores [N, K] minus their mean over the classes: what softmax leaves of them."""
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))


def expected_cosines(posterior: Floats, gram: Floats) -> Floats:
    """Return cos(f, w_k) at the minimum of the cosine loss: (S p)_k / sqrt(p^T S p), [N, K], for f along W^T p."""
    similar = posterior @ gram
    square = (posterior * similar).sum(axis=1, keepdims=True)
    return np.asarray(similar / np.sqrt(np.maximum(square, SMALLEST_SQUARE)))


def score_fit(scores: Floats, posterior: Floats, gram: Floats) -> float:
    """Return R^2 of `expected_cosines` as a prediction of scores [N, K], both centred; nothing is fitted.

    R^2 = 1 - sum (c - expected)^2 / sum c^2 over images and classes: 1 if the prediction is exact, 0 if it is no better
    than equal scores for all classes, negative if it is worse.
    """
    observed = centred(scores)
    errors = observed - centred(expected_cosines(posterior, gram))
    return float(1 - (errors**2).sum() / (observed**2).sum())


def scaled_score_fit(scores: Floats, posterior: Floats, gram: Floats) -> float:
    """Return R^2 as `score_fit` does after the prediction is multiplied by the one factor that fits best."""
    observed, expected = centred(scores), centred(expected_cosines(posterior, gram))
    both = (observed * expected).sum()
    return float(both * both / ((observed**2).sum() * (expected**2).sum()))


def relabelled_fits(scores: Floats, posterior: Floats, gram: Floats) -> Floats:
    """Return `score_fit` under each of the K! relabellings of the classes of S, the true one first: [K!].

    The terms of R^2 are quadratic forms of p and c, so all images are matrix products with the entries of S and of S H
    S, where H subtracts the mean over classes: sum c^2 R^2 = sum 2 c^T S p / d - p^T S H S p / d^2 with d^2 = p^T S p.
    """
    classes = len(gram)
    first, second = np.triu_indices(classes)
    twice = np.where(first == second, 1, 2)
    p, c = posterior, centred(scores)
    squares = (twice * p[:, first] * p[:, second]).T.astype(np.float32)
    products = ((c[:, first] * p[:, second] + c[:, second] * p[:, first]) * twice / 2).T.astype(np.float32)
    gram, outer = gram.astype(np.float32), (centred(gram) @ gram).astype(np.float32)
    orders = relabellings(classes)
    explained = np.empty(len(orders))
    for start in range(0, len(orders), RELABELLINGS_AT_ONCE):
        order = orders[start : start + RELABELLINGS_AT_ONCE]
        entries = order[:, first], order[:, second]
        inverse = 1 / np.sqrt(np.maximum(gram[entries] @ squares, np.float32(SMALLEST_SQUARE)))
        terms = (gram[entries] @ products) * inverse * 2 - (outer[entries] @ squares) * inverse**2
        explained[start : start + len(order)] = terms.sum(axis=1, dtype=np.float64)
    return np.asarray(explained / (c**2).sum())


def relabelling_p(fits: Floats) -> float:
    """Return the exact p of `relabelled_fits`: the share of relabellings that fit at least as well as the true one.

    The hypothesis under test is that it does not matter which class has which vector. p is 1 / K! at least.
    """
    return float((fits >= fits[0] - TOLERANCE).mean())


def relabellings(classes: int) -> npt.NDArray[np.intp]:
    """Return all orders of the classes, the identity first: [K!, K]."""
    return np.array(list(permutations(range(classes))), np.intp)


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
    orders = relabellings(len(gram))
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
