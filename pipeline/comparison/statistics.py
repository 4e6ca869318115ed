"""Compute intervals and tests for the difference between two models on the same images.

Two things vary from run to run: the images that the test split happened to get, and the seed that trained the model. An
honest interval lets both vary. All values have the units of what is compared (fractions).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

ALPHA = 0.05
POWER = 0.80

DRAWS_AT_ONCE = 1 << 20
"""Weights that the bootstrap holds in memory at a time: 8 MB."""


class Difference(NamedTuple):
    """Mean of a - b, its 95 % interval and a two-sided p value."""

    mean: float
    low: float
    high: float
    p: float


class Interval(NamedTuple):
    """Mean, sample standard deviation and half the width of the 95 % interval; None with a single seed."""

    mean: float
    std: float | None
    half_width: float | None


def paired_bootstrap(
    a: npt.NDArray[np.bool_] | npt.NDArray[np.floating],
    b: npt.NDArray[np.bool_] | npt.NDArray[np.floating],
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Test mean score of a minus mean score of b, resampling images and seeds together.

    a, b: [S, N], one score per seed and image: whether it was right (bool), or any number such as a severity. Seed s of
    a is paired with seed s of b, image n with image n. Each resample draws N images (the same for all seeds) and S
    seeds with replacement and takes the mean difference; `low` and `high` are its 2.5 and 97.5 percentiles, and with R
    resamples d

        p = min(1, 2 (1 + min(#{d <= 0}, #{d >= 0})) / (R + 1)),

    so that p is never zero (Davison & Hinkley 1997, sections 4.4 and 5.4).

    Limits: with S = 1 only images vary, so the verdict is about these two networks and not about their recipes. With
    several seeds, noise that belongs to one image and one seed is counted more than once ("pigeonhole bootstrap", Owen
    2007), which widens the interval; and seeds, being few, vary too little, which narrows it. In simulations (`python
    -m benchmarks.power`) of equally good recipes, 66 % accurate, with exactly one of two networks right on 13 % of
    images, 2 to 5 seeds rejected in 2 to 3 % of cases where the seeds' true accuracies had a standard deviation of 0.4
    points, and in 7 to 14 % at 0.8 points; bootstrapping images alone rejected in 12 to 17 % and 33 to 35 %. A
    difference that is found can be trusted; one that is not found may still exist.

    Raises ValueError unless a and b are [S, N] with S, N >= 1.
    """
    if a.ndim != 2 or a.shape != b.shape or a.size == 0:
        raise ValueError(
            f"need two non-empty arrays [seeds, images] of one shape, got {a.shape} and {b.shape}"
        )
    difference = a.astype(np.float64) - b.astype(np.float64)
    seeds, images = difference.shape
    generator = np.random.default_rng(seed)

    # Images whose scores differ in the same way under every seed are interchangeable. Right or wrong leaves
    # at most 3^S such patterns, so drawing N images is drawing how often each of a few patterns occurs.
    patterns, counts = np.unique(difference, axis=1, return_counts=True)
    draws = np.empty(resamples)
    step = max(1, DRAWS_AT_ONCE // counts.size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        image_counts = generator.multinomial(images, counts / images, size=rows)
        seed_counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=rows)
        draws[start : start + rows] = ((image_counts @ patterns.T) * seed_counts).sum(axis=1)
    # Dividing last keeps sums of right and wrong whole, so that a difference of zero is zero exactly.
    draws /= images * seeds

    rarer_side = min((draws <= 0).sum(), (draws >= 0).sum())
    low, high = np.quantile(draws, [ALPHA / 2, 1 - ALPHA / 2])
    p = min(1.0, 2 * (1 + rarer_side) / (resamples + 1))
    return Difference(float(difference.mean()), float(low), float(high), float(p))


def paired_t(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Test mean of a minus mean of b over S >= 2 paired seeds: Student's t interval and test of the differences.

    For metrics without a value per image. The images are treated as fixed, so the test tells whether other seeds would
    differ in the same way on these images. p is 1 if all pairs are equal. Raises ValueError unless a and b have the
    same length of at least 2.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"need two sequences of one length of at least 2, got {len(a)} and {len(b)}")
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    mean, _, half_width = interval95(differences)
    assert half_width is not None
    p = 1.0 if not differences.any() else float(stats.ttest_1samp(differences, 0.0).pvalue)
    return Difference(mean, mean - half_width, mean + half_width, p)


def mcnemar(correct_a: npt.NDArray[np.bool_], correct_b: npt.NDArray[np.bool_]) -> float:
    """Return the exact two-sided p that two networks are right equally often on the same N images (McNemar 1947).

    Only images that exactly one of them gets right count: under equality each is a fair coin. 1.0 if there are none.
    Images vary, seeds do not: it compares two networks, not two recipes.
    """
    if correct_a.shape != correct_b.shape:
        raise ValueError(f"need one verdict per image from both, got {correct_a.shape} and {correct_b.shape}")
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((correct_b & ~correct_a).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return p values adjusted for m tests, in the order given (Holm 1979).

    The i-th smallest (from 0) is multiplied by m - i, is never below that of a smaller p, and is at most 1. Rejecting
    those below 5 % keeps the probability of any false rejection among all m below 5 %. Raises ValueError for a p value
    outside [0, 1], NaN included.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values must lie between 0 and 1, got {p.tolist()}")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def interval95(values: Sequence[float] | npt.NDArray[np.float64]) -> Interval:
    """Return the mean over seeds with its 95 % t interval: mean +- t(.975, S - 1) * std / sqrt(S), std with S - 1.

    One seed has a mean only. Raises ValueError without values.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise ValueError("an interval over seeds needs at least one value")
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, None, None)
    std = float(x.std(ddof=1))
    return Interval(mean, std, float(stats.t.ppf(1 - ALPHA / 2, x.size - 1) * std / np.sqrt(x.size)))


def minimum_detectable_difference(difference: Difference) -> float:
    """Return the smallest true difference that the test behind this interval finds at 5 % with about 80 % power.

        delta = (z_.975 + z_.80) * standard error, standard error = (high - low) / (2 z_.975)

    The interval reflects how images and seeds vary here; a normal distribution is assumed (Bloom 1995). In simulations
    (`python -m benchmarks.power`) with 2 to 5 seeds, a difference of that size was found in 72 to 88 % of cases.
    """
    z = stats.norm.ppf(1 - ALPHA / 2)
    standard_error = (difference.high - difference.low) / (2 * z)
    return float((z + stats.norm.ppf(POWER)) * standard_error)
