"""The prediction of docs/losses.md put to the test: does the cosine loss decide as cross-entropy plus costs would?

With fixed unit targets the cosine loss is minimised, at the posterior p, by an output along W^T p, so it
decides for arg-max over k of (S p)_k, S = W W^T: cross-entropy followed by `CostSensitive` with cost 1 - S. If
that is what happens, a cosine model agrees with that decoder on cross-entropy of the same seed as often as two
seeds of cross-entropy agree, and calls each class as often as S p says.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.floating]
Classes = npt.NDArray[np.integer]


def agreement(a: Classes, b: Classes) -> float:
    """Share of images on which two models decide alike."""
    return float((a == b).mean())


def mutual_agreement(decisions: Sequence[Classes]) -> float:
    """Mean agreement of all pairs: what two seeds of one recipe have in common."""
    return float(np.mean([agreement(a, b) for a, b in combinations(decisions, 2)]))


def shares(decided: Classes, classes: int) -> Floats:
    """How often each class is decided for: [K], adding up to one."""
    return np.bincount(decided, minlength=classes) / len(decided)


def spread(gram: Floats) -> float:
    """Standard deviation of the cosines between different classes: 0 where costs are all equal."""
    return float(gram[np.triu_indices(len(gram), 1)].std())


def confusion_correlation(gram: Floats, confusion: Floats, permutations: int = 10_000) -> tuple[float, float]:
    """Do classes that are close in S get confused? Spearman's rank correlation and Mantel's p (Mantel 1967).

    confusion: counts [K, K], rows the labels. It is made shares of each row and symmetric first; diagonals
    are left out. p is two-sided: the share of relabellings of S (the identity among them) whose correlation is
    at least as far from zero.
    """
    rates = confusion / confusion.sum(axis=1, keepdims=True)
    rates = (rates + rates.T) / 2
    pairs = np.triu_indices(len(gram), 1)
    wanted = stats.rankdata(rates[pairs])
    found = float(stats.pearsonr(stats.rankdata(gram[pairs]), wanted).statistic)
    generator = np.random.default_rng(0)
    beyond = 1
    for _ in range(permutations):
        order = generator.permutation(len(gram))
        relabelled = stats.rankdata(gram[np.ix_(order, order)][pairs])
        beyond += abs(np.corrcoef(relabelled, wanted)[0, 1]) >= abs(found) - 1e-12
    return found, beyond / (permutations + 1)
