"""The bootstrap of images and seeds against drawing them one by one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks.power import two_models
from pipeline.comparison.bootstrap import paired_bootstrap


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
    assert result.error == pytest.approx(draws.std(), rel=0.05)


def test_bootstrap_of_images_and_seeds_matches_drawing_them_one_by_one() -> None:
    rng = np.random.default_rng(2)
    a, b = two_models(rng, seeds=3, images=200, points=3.0, seed_points=3.0)
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


def test_bootstrap_is_repeatable_symmetric_and_independent_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = two_models(np.random.default_rng(3), seeds=2, images=300, points=2.0)
    forward, backward = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert paired_bootstrap(a, b) == forward
    assert paired_bootstrap(a, b, seed=1) != forward
    assert backward.mean == -forward.mean
    assert backward.low == pytest.approx(-forward.high, abs=0.004)
    monkeypatch.setattr("pipeline.comparison.bootstrap.AT_ONCE", 1000)
    blocks = paired_bootstrap(a, b)
    assert blocks.low == pytest.approx(forward.low, abs=0.004)
    assert blocks.p == pytest.approx(forward.p, abs=0.02)


@pytest.mark.medium
def test_two_hundred_thousand_resamples_of_privatetest_take_seconds() -> None:
    a, b = two_models(np.random.default_rng(4), seeds=5, images=3589, points=2.0)
    start = time.process_time()  # this process's own work, however busy the machine
    paired_bootstrap(a, b, resamples=200_000)
    assert time.process_time() - start < 5


def test_bootstrap_p_is_never_zero_and_one_without_any_difference() -> None:
    right, wrong = np.ones((2, 100), bool), np.zeros((2, 100), bool)
    assert paired_bootstrap(right, wrong, resamples=999)[:4] == (1.0, 1.0, 1.0, 0.002)
    assert paired_bootstrap(right, right, resamples=999)[:4] == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(("a", "b"), [((3, 10), (2, 10)), ((10,), (10,)), ((2, 0), (2, 0))])
def test_bootstrap_refuses_arrays_that_do_not_pair(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="seeds, images"):
        paired_bootstrap(np.zeros(a, bool), np.zeros(b, bool))
