"""Intervals and tests against plain computations, and against simulations whose truth is known."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.power import two_models
from pipeline.comparison.statistics import (
    Difference,
    holm,
    interval95,
    mcnemar,
    minimum_detectable_difference,
    paired_bootstrap,
    paired_t,
)
from pipeline.files import read_json

Scores = npt.NDArray[np.bool_] | npt.NDArray[np.float64]


def rejection_rate(
    simulations: int,
    resamples: int,
    *,
    seeds: int,
    images: int,
    points: float = 0.0,
    seed_points: float = 0.0,
) -> float:
    rng = np.random.default_rng(7)
    p = [
        paired_bootstrap(*two_models(rng, seeds, images, points, seed_points), resamples=resamples).p
        for _ in range(simulations)
    ]
    return float(np.mean(np.array(p) <= 0.05))


def scores(rng: np.random.Generator, kind: type[np.generic], **model: Any) -> tuple[Scores, Scores]:
    """Right or wrong of two simulated models, or numbers of which no two are alike."""
    a, b = two_models(rng, **model)
    return (a, b) if kind is np.bool_ else (a * rng.random(a.shape), b * rng.random(b.shape))


def test_simulated_models_look_like_those_on_fer2013() -> None:
    """As accurate as the typical model of the study, and their mistakes as far the same (one hardly learns at all)."""
    rows = read_json(Path(__file__).parents[2] / "results/fer2013/ablation.json")
    trained = [row["test.accuracy"] for row in rows[1:] if row["decoder"] == "argmax"]
    a, b = two_models(np.random.default_rng(0), seeds=40, images=3589, points=2.0)
    assert b.mean() == pytest.approx(np.median([row["mean"] for row in trained]), abs=0.03)
    assert (a[0] != b[0]).mean() == pytest.approx(
        np.median([row["disagreement"] for row in trained]), abs=0.02
    )
    assert a.mean() - b.mean() == pytest.approx(0.02, abs=0.008)


@pytest.mark.medium
def test_bootstrap_rejects_five_per_cent_when_nothing_differs() -> None:
    assert 0.02 <= rejection_rate(300, 400, seeds=1, images=600) <= 0.09


@pytest.mark.medium
def test_bootstrap_allows_for_seeds_that_differ() -> None:
    """Images alone would reject in 33 to 35 % of these cases."""
    assert rejection_rate(200, 400, seeds=3, images=3589, seed_points=0.8) <= 0.09
    assert rejection_rate(200, 400, seeds=5, images=3589, seed_points=0.8) <= 0.09


@pytest.mark.medium
def test_bootstrap_finds_two_points() -> None:
    assert rejection_rate(40, 1000, seeds=1, images=3589, points=2.0) >= 0.6
    assert rejection_rate(40, 1000, seeds=3, images=3589, points=2.0) >= 0.8


@pytest.mark.medium
def test_bootstrap_finds_two_points_among_many_rows() -> None:
    """Holm asks most of a row where no other differs: p times their number."""
    rng = np.random.default_rng(8)
    p = [
        paired_bootstrap(
            *two_models(rng, seeds=5, images=3589, points=2.0, seed_points=0.4), resamples=2000
        ).p
        for _ in range(40)
    ]
    assert np.mean([holm([value, *[0.5] * 23])[0] <= 0.05 for value in p]) >= 0.6  # 76 % of 400


def test_bootstrap_of_images_matches_drawing_them_one_by_one() -> None:
    rng = np.random.default_rng(1)
    a, b = two_models(rng, seeds=1, images=400, points=6.0)
    difference = a[0].astype(float) - b[0]
    draws = np.array([rng.choice(difference, 400).mean() for _ in range(4000)])
    result = paired_bootstrap(a, b)
    assert result.mean == pytest.approx(difference.mean())
    assert result.low == pytest.approx(np.quantile(draws, 0.025), abs=0.003)
    assert result.high == pytest.approx(np.quantile(draws, 0.975), abs=0.003)
    assert result.p == pytest.approx(2 * min((draws <= 0).mean(), (draws >= 0).mean()), abs=0.02)


@pytest.mark.parametrize("kind", [np.bool_, np.float64])
def test_bootstrap_of_images_and_seeds_matches_drawing_them_one_by_one(kind: type[np.generic]) -> None:
    rng = np.random.default_rng(2)
    a, b = scores(rng, kind, seeds=3, images=200, points=3.0, seed_points=3.0)
    difference = a.astype(float) - b
    draws = []
    for _ in range(4000):
        seeds, images = rng.integers(3, size=3), rng.integers(200, size=200)
        draws.append(difference[np.ix_(seeds, images)].mean())
    result = paired_bootstrap(a, b)
    assert result.mean == pytest.approx(difference.mean())
    assert result.low == pytest.approx(np.quantile(draws, 0.025), abs=0.006)
    assert result.high == pytest.approx(np.quantile(draws, 0.975), abs=0.006)


def test_bootstrap_pairs_seed_with_seed() -> None:
    """Luck that both recipes share, seed by seed, drops out of their difference."""
    b = np.array([[True] * 50 + [False] * 50, [False] * 100])
    a = b.copy()
    a[:, 99] = True
    unpaired = paired_bootstrap(a[::-1], b)
    paired = paired_bootstrap(a, b)
    assert paired.high - paired.low < 0.05 < unpaired.high - unpaired.low


def test_bootstrap_is_repeatable_symmetric_and_independent_of_batching(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = two_models(np.random.default_rng(3), seeds=2, images=300, points=2.0)
    forward, backward = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert paired_bootstrap(a, b) == forward
    assert paired_bootstrap(a, b, seed=1) != forward
    assert backward.mean == -forward.mean
    assert backward.low == pytest.approx(-forward.high, abs=0.004)
    monkeypatch.setattr("pipeline.comparison.statistics.DRAWS_AT_ONCE", 1000)
    batched = paired_bootstrap(a, b)
    assert batched.low == pytest.approx(forward.low, abs=0.004)
    assert batched.p == pytest.approx(forward.p, abs=0.02)


@pytest.mark.medium
@pytest.mark.parametrize("kind", [np.bool_, np.float64])
def test_ten_thousand_resamples_of_privatetest_take_seconds(kind: type[np.generic]) -> None:
    """Five seeds on 3,589 images: right or wrong, and severities, of which no two are alike."""
    rng = np.random.default_rng(4)
    a, b = scores(rng, kind, seeds=5, images=3589, points=2.0)
    start = time.process_time()  # this process's own work, however busy the machine
    paired_bootstrap(a, b, resamples=10_000)
    assert time.process_time() - start < 10


def test_bootstrap_p_is_never_zero_and_one_without_any_difference() -> None:
    right, wrong = np.ones((2, 100), bool), np.zeros((2, 100), bool)
    assert paired_bootstrap(right, wrong, resamples=999) == (1.0, 1.0, 1.0, 0.002)
    assert paired_bootstrap(right, right, resamples=999) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("a", "b"), [((3, 10), (2, 10)), ((3, 10), (3, 9)), ((10,), (10,)), ((0, 10), (0, 10)), ((2, 0), (2, 0))]
)
def test_bootstrap_refuses_arrays_that_do_not_pair(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="seeds, images"):
        paired_bootstrap(np.zeros(a, bool), np.zeros(b, bool))


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
    assert np.mean([abs(i.mean - 0.7) <= (i.half_width or 0) for i in intervals]) == pytest.approx(
        0.95, abs=0.02
    )


def test_interval_of_one_seed_is_its_value_alone() -> None:
    assert interval95([0.7]) == (0.7, None, None)
    with pytest.raises(ValueError, match="at least one"):
        interval95([])


def test_minimum_detectable_difference_by_hand() -> None:
    found = minimum_detectable_difference(Difference(0.0, -0.0196, 0.0196, 1.0))
    assert found == pytest.approx(2.801585 * 0.01, rel=1e-4)


@pytest.mark.medium
@pytest.mark.parametrize("seed_points", [0.0, 0.4])
def test_minimum_detectable_difference_is_found_in_about_80_of_100_cases(seed_points: float) -> None:
    rng, images, seeds = np.random.default_rng(4), 3589, 5
    limit = statistics.mean(
        [
            minimum_detectable_difference(
                paired_bootstrap(*two_models(rng, seeds, images, seed_points=seed_points), 300)
            )
            for _ in range(10)
        ]
    )
    p = [
        paired_bootstrap(*two_models(rng, seeds, images, 100 * limit, seed_points), 300).p for _ in range(100)
    ]
    assert 0.65 < np.mean(np.array(p) <= 0.05) < 0.95


def test_paired_t_is_the_textbook_one() -> None:
    a, b = [0.21, 0.24, 0.20], [0.19, 0.20, 0.19]
    differences = [x - y for x, y in zip(a, b, strict=True)]
    mean = sum(differences) / 3
    std = math.sqrt(sum((d - mean) ** 2 for d in differences) / 2)
    half = 4.302652729911275 * std / math.sqrt(3)  # t(.975) with two degrees of freedom
    found = paired_t(a, b)
    assert found[:3] == pytest.approx((mean, mean - half, mean + half))
    t = mean / (std / math.sqrt(3))
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))  # the distribution function for two degrees
    assert paired_t(b, a) == pytest.approx((-found.mean, -found.high, -found.low, found.p))


def test_paired_t_of_equal_seeds_finds_nothing_and_needs_two() -> None:
    assert paired_t([0.2, 0.3], [0.2, 0.3]) == (0.0, 0.0, 0.0, 1.0)
    for a, b in (([0.2], [0.1]), ([0.2, 0.1], [0.1])):
        with pytest.raises(ValueError, match="at least 2"):
            paired_t(a, b)


def test_paired_t_rejects_five_per_cent_when_nothing_differs() -> None:
    rng = np.random.default_rng(5)
    p = [paired_t(*rng.normal(size=(2, 3))).p for _ in range(1000)]
    assert 0.03 <= np.mean(np.array(p) <= 0.05) <= 0.07
