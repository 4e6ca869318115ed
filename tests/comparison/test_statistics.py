"""The study's test, its bounds and corrections: against plain computations, and simulations whose truth is known."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from benchmarks.power import POINTS, SEED_POINTS, rejected, results, two_models
from pipeline.comparison.statistics import (
    Difference,
    MeanSquares,
    crossed_t,
    holm,
    interval95,
    mcnemar,
    minimum_detectable_difference,
    tost,
    upper_bound,
)
from pipeline.files import read_json

Floats = npt.NDArray[np.float64]

SIMULATIONS = 2000
"""As many as leave a rate of 5 % a standard error of .5 %."""


def drawn(seeds: int, images: int, of_seeds: float, of_images: float, left: float = 1.0) -> tuple[Floats, Floats]:
    """Scores whose differences have these standard deviations between seeds, between images, and beside both."""
    rng = np.random.default_rng([seeds, images])
    b = rng.normal(size=(seeds, images))
    effects = of_seeds * rng.normal(size=(seeds, 1)) + of_images * rng.normal(size=images)
    return b + 0.1 + effects + left * rng.normal(size=b.shape), b


def test_simulated_models_look_like_those_on_fer2013() -> None:
    """As accurate as the typical model of the study, and their mistakes as far the same (one hardly learns at all)."""
    rows = read_json(Path(__file__).parents[2] / "results/fer2013/ablation.json")
    trained = [row["test.accuracy"] for row in rows[1:] if row["decoder"] == "argmax"]
    a, b = two_models(np.random.default_rng(0), seeds=40, images=3589, points=2.0)
    assert b.mean() == pytest.approx(np.median([row["mean"] for row in trained]), abs=0.03)
    assert (a[0] != b[0]).mean() == pytest.approx(np.median([row["disagreement"] for row in trained]), abs=0.02)
    assert a.mean() - b.mean() == pytest.approx(0.02, abs=0.008)


def test_simulated_differences_have_the_variance_components_of_the_studys_rows() -> None:
    """In squared points of the mean of one seed: images .05, seed and image together .33 (a mean over 18 rows)."""
    rng = np.random.default_rng(1)
    squares = []
    for _ in range(40):
        a, b = two_models(rng, seeds=5, images=3589)
        squares.append(MeanSquares.of(a.astype(float) - b))
    of_images = np.mean([one.images - one.residual for one in squares])
    assert 1e4 * of_images == pytest.approx(0.051, abs=0.015)
    assert 1e4 * 5 * np.mean([one.residual for one in squares]) == pytest.approx(0.333, abs=0.03)


def test_crossed_t_is_the_formula_of_sums_of_squares() -> None:
    """Written as the textbook does, with sums of squares from the totals."""
    seeds, images = 4, 60
    a, b = drawn(seeds, images, of_seeds=0.4, of_images=0.8)
    d = (a - b).tolist()
    total = sum(map(sum, d))
    correction = total**2 / (seeds * images)
    of_seeds = sum(sum(row) ** 2 for row in d) / images - correction
    of_images = sum(sum(column) ** 2 for column in zip(*d, strict=True)) / seeds - correction
    left = sum(x * x for row in d for x in row) - correction - of_seeds - of_images
    ms_seeds, ms_images, ms_left = of_seeds / 3, of_images / 59, left / (3 * 59)
    variance = (ms_seeds + ms_images - ms_left) / (seeds * images)
    dof = math.floor(
        (ms_seeds + ms_images - ms_left) ** 2 / (ms_seeds**2 / 3 + ms_images**2 / 59 + ms_left**2 / (3 * 59))
    )
    found = crossed_t(a, b)
    assert ms_left < min(ms_seeds, ms_images)  # no component is cut
    mean = total / (seeds * images)
    assert found.mean == pytest.approx(mean)
    assert found.error == pytest.approx(math.sqrt(variance))
    assert found.dof == dof
    half = stats.t(dof).ppf(0.975) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half))
    assert found.p == pytest.approx(2 * stats.t(dof).cdf(-abs(mean) / math.sqrt(variance)))


def test_without_a_part_of_its_own_neither_seeds_nor_images_count() -> None:
    """If seeds agree it is the t test over images, and if images agree that over seeds."""
    over_images = crossed_t(*drawn(3, 50, of_seeds=0, of_images=1, left=0))
    plain = stats.ttest_1samp(np.subtract(*drawn(3, 50, of_seeds=0, of_images=1, left=0))[0], 0)
    assert (over_images.p, over_images.dof) == pytest.approx((plain.pvalue, 49))
    over_seeds = crossed_t(*drawn(6, 40, of_seeds=1, of_images=0, left=0))
    plain = stats.ttest_1samp(np.subtract(*drawn(6, 40, of_seeds=1, of_images=0, left=0))[:, 0], 0)
    assert (over_seeds.p, over_seeds.dof) == pytest.approx((plain.pvalue, 5))


def test_seeds_that_agree_by_chance_give_no_degrees_of_freedom() -> None:
    """Columns that cancel leave seeds' means equal: less than their residual alone would make them differ."""
    rng = np.random.default_rng(2)
    left = rng.normal(size=(3, 200))
    left -= left.mean(axis=1, keepdims=True)
    found = crossed_t(0.2 + left, np.zeros_like(left))
    assert 0.4 < found.error / (left.std() / math.sqrt(left.size)) < 0.8
    assert found.dof < 10


def test_one_seed_is_a_t_test_over_images() -> None:
    a, b = drawn(1, 30, of_seeds=0, of_images=0)
    plain = stats.ttest_1samp((a - b)[0], 0)
    low, high = plain.confidence_interval()
    found = crossed_t(a, b)
    assert found[:4] == pytest.approx(((a - b).mean(), low, high, plain.pvalue))
    assert found.dof == 29


def test_the_mirror_image_of_a_difference_is_its_negative() -> None:
    a, b = two_models(np.random.default_rng(3), seeds=3, images=200, points=4.0)
    one, other = crossed_t(a, b), crossed_t(b, a)
    assert other == (-one.mean, -one.high, -one.low, one.p, one.error, one.dof)


def test_a_seed_is_paired_with_its_own() -> None:
    """Luck that both recipes share, seed by seed, drops out of their difference."""
    b = np.array([[True] * 50 + [False] * 50, [False] * 100, [True] * 25 + [False] * 75])
    a = b.copy()
    a[:, 90:] = True
    assert crossed_t(a, b).error < crossed_t(a[::-1], b).error


def test_no_difference_and_agreement_of_few_images_prove_nothing() -> None:
    none = np.ones((2, 100), bool)
    assert crossed_t(none, none)[:4] == (0.0, 0.0, 0.0, 1.0)
    few = none.copy()
    few[:, :3] = False
    assert crossed_t(few, none).p == 0.25  # three coins that fall alike, either way
    assert crossed_t(np.ones((1, 2), bool), np.zeros((1, 2), bool)).p == 0.5
    assert crossed_t(none, ~none)[:3] == (1.0, 1.0, 1.0)
    assert crossed_t(none, ~none).p < 1e-20


@pytest.mark.parametrize(
    ("a", "b"), [((3, 10), (2, 10)), ((3, 10), (3, 9)), ((10,), (10,)), ((0, 10), (0, 10)), ((2, 0), (2, 0))]
)
def test_arrays_that_do_not_pair_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="seeds, images"):
        crossed_t(np.zeros(a, bool), np.zeros(b, bool))


def test_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        crossed_t(np.zeros((3, 1)), np.ones((3, 1)))


@pytest.mark.medium
@pytest.mark.parametrize("seed_points", SEED_POINTS)
def test_five_per_cent_are_five_per_cent_however_much_five_seeds_differ(seed_points: float) -> None:
    found = results(crossed_t, SIMULATIONS, seeds=5, seed_points=seed_points)
    assert 0.04 <= rejected(found) <= 0.06


@pytest.mark.medium
@pytest.mark.parametrize("seeds", [1, 2, 3, 10])
def test_with_other_numbers_of_seeds_like_those_of_the_study_it_is_seldom_more(seeds: int) -> None:
    found = results(crossed_t, 500, seeds=seeds, seed_points=0.25 if seeds > 1 else 0.0)
    assert rejected(found) <= 0.065


@pytest.mark.medium
def test_a_point_and_a_half_is_found() -> None:
    """By the seeds of the study nearly always, and mostly if it is the first of eleven rows that Holm corrects."""
    found = results(crossed_t, 300, seeds=5, points=POINTS, seed_points=0.25)
    assert rejected(found) >= 0.9
    assert np.mean([holm([one.p, *[0.5] * 10])[0] <= 0.05 for one in found]) >= 0.5


def test_equivalence_is_the_90_per_cent_interval_within_the_margin() -> None:
    for mean in (-0.006, 0.0, 0.004):
        difference = Difference(mean, 0.0, 0.0, 1.0, 0.003, 12.0)
        half = stats.t(12).ppf(0.95) * 0.003
        assert (tost(difference, 0.01) < 0.05) == (abs(mean) + half < 0.01)
    one_sided = stats.t(12).cdf(-(0.01 - 0.004) / 0.003)
    assert tost(Difference(0.004, 0.0, 0.0, 1.0, 0.003, 12.0), 0.01) == pytest.approx(one_sided)
    assert tost(Difference(0.02, 0.02, 0.02, 0.0, 0.0, 9.0), 0.01) == 1
    assert tost(Difference(0.0, 0.0, 0.0, 1.0, 0.0, 9.0), 0.01) == 0


def test_bounds_hold_for_a_whole_family_at_once() -> None:
    """Eleven rows that share a baseline, and none of which differs from it: all bounds are above zero."""
    rng = np.random.default_rng(6)
    held, each = [], []
    for _ in range(200):
        shared, rows = (rng.normal(size=(5, 30)), rng.normal(size=(11, 5, 30)) + rng.normal(size=(11, 5, 1)) / 2)
        tests = [crossed_t(row, shared) for row in rows]
        held.append(all(upper_bound(test, 11) >= 0 for test in tests))
        each.append(all(upper_bound(test) >= 0 for test in tests))
    assert np.mean(each) < 0.85
    assert np.mean(held) >= 0.92
    single = Difference(0.01, 0.0, 0.0, 1.0, 0.004, 8.0)
    assert upper_bound(single) == pytest.approx(0.01 + stats.t(8).ppf(0.95) * 0.004)


def test_minimum_detectable_difference_by_hand() -> None:
    found = Difference(0.0, 0.0, 0.0, 1.0, 0.01, 1e9)
    assert minimum_detectable_difference(found) == pytest.approx(2.801585 * 0.01, rel=1e-4)
    # Bonferroni's level for ten tests is that of z = 2.807.
    assert minimum_detectable_difference(found, 10) == pytest.approx((2.807034 + 0.841621) * 0.01, rel=1e-4)


@pytest.mark.medium
@pytest.mark.parametrize("seed_points", [0.25, 0.8])
def test_a_detectable_difference_is_found_in_about_80_of_100_cases(seed_points: float) -> None:
    size = np.mean(
        [minimum_detectable_difference(one) for one in results(crossed_t, 100, seeds=5, seed_points=seed_points)]
    )
    found = results(crossed_t, 300, seeds=5, points=100 * float(size), seed_points=seed_points)
    assert 0.65 < rejected(found) < 0.95


@pytest.mark.parametrize(("only_a", "only_b"), [(8, 2), (2, 8), (5, 5), (1, 0), (30, 12)])
def test_mcnemar_matches_counting_coin_tosses(only_a: int, only_b: int) -> None:
    a = np.array([True] * only_a + [False] * only_b + [True] * 20 + [False] * 7)
    b = np.array([False] * only_a + [True] * only_b + [True] * 20 + [False] * 7)
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
    assert mcnemar(a, b) == pytest.approx(min(1.0, 2 * tail))


def test_mcnemar_rejects_five_per_cent_when_nothing_differs_and_finds_two_points() -> None:
    rng = np.random.default_rng(5)

    def rejections(points: float) -> float:
        pairs = (two_models(rng, seeds=1, images=3589, points=points) for _ in range(200))
        return float(np.mean([mcnemar(a[0], b[0]) <= 0.05 for a, b in pairs]))

    assert rejections(0.0) <= 0.09  # an exact test of whole numbers stays below its level
    assert rejections(2.0) >= 0.6


def test_mcnemar_of_equal_verdicts_is_one() -> None:
    assert mcnemar(np.array([True, False]), np.array([True, False])) == 1.0


def test_mcnemar_refuses_different_images() -> None:
    with pytest.raises(ValueError, match="one verdict per image"):
        mcnemar(np.ones(1, bool), np.ones(5, bool))


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8, 0.7]), [1, 1, 1])
    np.testing.assert_allclose(holm([0.02, 0.02]), [0.04, 0.04])
    assert holm([]).shape == (0,)


def test_holm_is_the_closed_bonferroni_test() -> None:
    """Holm's p of a hypothesis is the largest Bonferroni p over all sets of hypotheses that hold it."""
    p = np.random.default_rng(0).random(6) * 0.3
    for i in range(6):
        sets = (s for size in range(1, 7) for s in itertools.combinations(range(6), size) if i in s)
        assert holm(p)[i] == pytest.approx(min(1, max(len(s) * min(p[list(s)]) for s in sets)))


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_probability(bad: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, bad])


def test_interval_by_hand() -> None:
    mean, std, half = interval95([0.70, 0.72, 0.71])
    assert mean == pytest.approx(0.71)
    assert std == pytest.approx(0.01)
    assert half == pytest.approx(4.302653 * 0.01 / math.sqrt(3))  # t table: two degrees of freedom, .975


def test_interval_holds_the_truth_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(0)
    intervals = [interval95(rng.normal(0.7, 0.01, 3)) for _ in range(1000)]
    assert np.mean([abs(i.mean - 0.7) <= (i.half_width or 0) for i in intervals]) == pytest.approx(0.95, abs=0.02)


def test_interval_of_one_seed_is_its_value_alone() -> None:
    assert interval95([0.7]) == (0.7, None, None)
    with pytest.raises(ValueError, match="at least one"):
        interval95([])
