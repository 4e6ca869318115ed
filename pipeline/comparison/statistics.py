"""Compute intervals and tests for the difference between two models on the same images.

Two things vary from run to run: the images that the test split happened to get, and the seed that trained the model. An
honest interval lets both vary, so `crossed_t` is the judge of the study, reported with `bootstrap.paired_bootstrap`.
All values have the units of what is compared (fractions).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

ALPHA = 0.05
POWER = 0.80

LEAST_OF_SEEDS = 0.25
"""The least that seeds' means count as varying, of what the residual alone makes them vary by (`crossed_t`)."""
ROUNDING = 1e-9
"""What rounding may take from a whole number of degrees of freedom."""

Scores = npt.NDArray[np.bool_ | np.floating]
"""[S, N]: a number for each seed and image, such as whether it was right."""


class Difference(NamedTuple):
    """Mean of a - b, its 95 % interval, a two-sided p value, the standard error and its degrees of freedom."""

    mean: float
    low: float
    high: float
    p: float
    error: float
    dof: float


class Interval(NamedTuple):
    """Mean, sample standard deviation and half the width of the 95 % interval; None with a single seed."""

    mean: float
    std: float | None
    half_width: float | None


class MeanSquares(NamedTuple):
    """Mean squares of a table [S, N] between seeds, between images, and of what is left, each divided by S N.

    Their expectations are the parts of the variance of the table's mean: that of seeds, of images, or of neither, is in
    each (`crossed_t`).
    """

    seeds: float
    images: float
    residual: float

    @classmethod
    def of(cls, table: npt.NDArray[np.float64]) -> MeanSquares:
        """Compute them for a table with two seeds and two images or more."""
        seeds, images = table.shape
        by_seed, by_image = table.mean(axis=1, keepdims=True), table.mean(axis=0)
        left = table - by_seed - by_image + table.mean()
        residual = float((left**2).sum() / ((seeds - 1) * (images - 1)))
        return cls(
            float(by_seed.var(ddof=1) / seeds), float(by_image.var(ddof=1) / images), residual / (seeds * images)
        )


def crossed_t(a: Scores, b: Scores) -> Difference:
    """Test the mean of a minus the mean of b, where both seeds and images are random (crossed random effects).

    a, b: [S, N]; seed s of a is paired with seed s of b, image n with image n. Their differences are

        d[s, n] = difference + seed[s] + image[n] + residual[s, n],    all of mean zero and independent.

    With M = mean square / (S N), M_seeds is the variance of the seeds' means over S and M_images that of the images'
    means over N. The residual is in both, so that the variance of the mean of d is (Cornfield & Tukey 1956)

        SE^2 = max(M_seeds, M_residual / 4) + I,    I = max(0, M_images - M_residual).

    The image's component I is cut at zero. The seed's is not: M_seeds may be below M_residual, as it is by chance in
    more than half of all cases where seeds do not differ, and to cut it there as well makes the test reject in 2 % of
    these instead of 5. It must not vanish either: the means of few seeds, on few images, can be equal. A quarter does
    neither. The degrees of freedom are Satterthwaite's (1946),

        dof = (M + I)^2 / (M^2 / (S-1) + M_images^2 / (N-1) + M_residual^2 / ((S-1)(N-1))),

    with M = max(M_seeds, M_residual), because few seeds that agree by chance are no reason for many degrees of freedom;
    they are rounded down, because they are estimated themselves, but not below S - 1.

    With S = 1 nothing is known about other seeds: SE^2 = M_images, dof = N - 1, and the verdict is about these two
    networks, not about their recipes. p is at least 2^(1-m), m the number of images whose mean difference is not zero:
    as in an exact test of signs, two images that agree prove nothing.

    In simulations of equally good recipes on 3,589 images (`python -m benchmarks.power`; docs/benchmarks.md has the
    table), whose seeds' true accuracies deviate by 0 to 1.5 points, it rejected at 5 % in 4.0 to 5.6 % of cases for 5
    seeds, 4.6 to 5.1 % for 10, 1.9 to 5.0 % for 3, below 1 % for 2, and for 1 in 5 to 57 %, which no test of one seed
    can avoid. With 5 seeds that deviate by .25 points it found a difference of 1.5 points in 92 %.

    Raises ValueError unless a and b are [S, N] with S >= 1, N >= 2.
    """
    table = paired_differences(a, b)
    seeds, images = table.shape
    if images < 2:
        raise ValueError("one image says nothing about others: at least 2 are needed")
    if seeds == 1:
        variance, dof = float(table.var(ddof=1) / images), images - 1.0
    else:
        variance, dof = _variance_of_mean(MeanSquares.of(table), seeds, images)
    differing = int(np.count_nonzero(table.mean(axis=0)))
    return _t_test(float(table.mean()), variance**0.5, dof, smallest_p=min(1.0, 2.0 ** (1 - differing)))


def _variance_of_mean(squares: MeanSquares, seeds: int, images: int) -> tuple[float, float]:
    """Return SE^2 and its degrees of freedom, as `crossed_t` states them."""
    of_images = max(0.0, squares.images - squares.residual)
    variance = max(squares.seeds, squares.residual * LEAST_OF_SEEDS) + of_images
    cautious = max(squares.seeds, squares.residual)
    if cautious + of_images == 0:
        return 0.0, images - 1.0
    of_variance = (
        cautious**2 / (seeds - 1)
        + squares.images**2 / (images - 1)
        + squares.residual**2 / ((seeds - 1) * (images - 1))
    )
    dof = (cautious + of_images) ** 2 / of_variance
    return variance, max(seeds - 1.0, float(np.floor(dof + ROUNDING)))


def _t_test(mean: float, error: float, dof: float, smallest_p: float = 0.0) -> Difference:
    """Return Student's interval and two-sided test of zero; p is 1 if the mean is zero."""
    half = t_quantile(1 - ALPHA / 2, dof) * error
    with np.errstate(divide="ignore"):
        p = 1.0 if mean == 0 else float(2 * stats.t.sf(np.divide(abs(mean), error), dof))
    return Difference(mean, mean - half, mean + half, max(p, smallest_p), error, dof)


def paired_differences(a: Scores, b: Scores) -> npt.NDArray[np.float64]:
    """Return a - b, [S, N]. Raises ValueError unless both have this shape and are not empty."""
    if a.ndim != 2 or a.shape != b.shape or a.size == 0:
        raise ValueError(f"need two non-empty arrays [seeds, images] of one shape, got {a.shape} and {b.shape}")
    return np.asarray(a.astype(np.float64) - b.astype(np.float64))


def tost(difference: Difference, margin: float) -> float:
    """Return the p of equivalence: of the true difference lying within +- margin.

    Two one-sided tests (Schuirmann 1987): p = max(P(T >= (mean + margin) / SE), P(T <= (mean - margin) / SE)). It is
    below .05 if and only if the 90 % interval lies within the margin.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        above, below = np.divide([margin + difference.mean, margin - difference.mean], difference.error)
    return float(stats.t.sf(min(above, below), difference.dof))


def upper_bound(difference: Difference, tests: int = 1) -> float:
    """Return mean + t(1 - .05 / m, dof) SE: all m = `tests` bounds of a family hold together in 95 % of cases.

    One-sided, corrected by Bonferroni: true whatever the tests have in common, such as a baseline.
    """
    return difference.mean + t_quantile(1 - ALPHA / tests, difference.dof) * difference.error


def minimum_detectable_difference(difference: Difference, tests: int = 1) -> float:
    """Return the smallest true difference that the test finds at 5 % with about 80 % power.

        delta = (t(1 - .05 / 2m, dof) + t(.80, dof)) SE        (Bloom 1995)

    m = `tests`: how many are corrected together; Holm asks that of the first to be found (Bonferroni's level).
    """
    threshold = t_quantile(1 - ALPHA / (2 * tests), difference.dof) + t_quantile(POWER, difference.dof)
    return threshold * difference.error


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
    return Interval(mean, std, float(t_quantile(1 - ALPHA / 2, x.size - 1) * std / np.sqrt(x.size)))


@cache
def t_quantile(probability: float, dof: float) -> float:
    """Return what Student's t with `dof` degrees of freedom stays below with this probability.

    A report asks for the same few thousands of times, and SciPy takes 0.2 ms for each.
    """
    return float(stats.t.ppf(probability, dof))
