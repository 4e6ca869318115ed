"""Values for each image: their means are scikit-learn's metrics, and their spread is what resampling finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from pipeline.comparison import per_image
from pipeline.comparison.statistics import crossed_t

Classes = npt.NDArray[np.integer]

DISTANCE = np.abs(np.subtract.outer(np.arange(5), np.arange(5))) / 4.0
SHARES = {0: 0.1, 1: 0.2, 2: 0.3, 4: 0.4}


def sample(n: int, seed: int = 0, skill: float = 0.6) -> tuple[Classes, Classes]:
    """Labels of five classes, the last one rare, and decisions that never are the fourth."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, n, p=[0.3, 0.3, 0.2, 0.14, 0.06])
    predicted = np.where(rng.random(n) < skill, labels, rng.integers(5, size=n))
    return labels, np.where(predicted == 3, 0, predicted)


def mean_recall(labels: Classes, predicted: Classes) -> float:
    recalls = recall_score(labels, predicted, average=None, labels=range(5), zero_division=0)
    return float(sum(share * recalls[k] for k, share in SHARES.items()))


def of_mistakes(labels: Classes, predicted: Classes) -> float:
    costs = [abs(int(y) - int(k)) / 4 for y, k in zip(labels, predicted, strict=True) if y != k]
    return sum(costs) / len(costs)


Values = Callable[[Classes, Classes], npt.NDArray[np.float64]]
Score = Callable[[Classes, Classes], float]
METRICS: dict[str, tuple[Values, Score]] = {
    "macro F1": (lambda y, k: per_image.macro_f1(y, k, 5), lambda y, k: f1_score(y, k, average="macro")),
    "balanced accuracy": (per_image.balanced_accuracy, balanced_accuracy_score),
    "reweighted": (lambda y, k: per_image.weighted_recalls(y, k, SHARES), mean_recall),
    "severity of mistakes": (lambda y, k: per_image.severity_of_mistakes(y, k, DISTANCE), of_mistakes),
}


@pytest.mark.parametrize("name", METRICS)
def test_the_mean_over_images_is_the_metric(name: str) -> None:
    values, score = METRICS[name]
    labels, predicted = sample(500)
    assert values(labels, predicted).mean() == pytest.approx(score(labels, predicted), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_the_spread_over_images_is_that_of_drawing_them_again(name: str) -> None:
    values, score = METRICS[name]
    labels, predicted = sample(1000)
    rng = np.random.default_rng(1)
    rows = rng.integers(1000, size=(200, 1000))
    drawn = np.std([score(labels[some], predicted[some]) for some in rows])
    one = values(labels, predicted)
    assert one.std() / np.sqrt(len(one)) == pytest.approx(drawn, rel=0.15)


def test_a_difference_of_macro_f1_is_tested_at_its_level() -> None:
    """Two models that are equally good on average, three seeds each."""
    p = []
    for trial in range(300):
        sides = [[per_image.macro_f1(*decided(trial, seed + 10 * side), 5) for seed in range(3)] for side in range(2)]
        p.append(crossed_t(*(np.stack(side) for side in sides)).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.08


def decided(trial: int, run: int) -> tuple[Classes, Classes]:
    """Labels that all runs of a trial share, and the decisions of one."""
    labels, _ = sample(300, trial)
    rng = np.random.default_rng([trial, run])
    return labels, np.where(rng.random(300) < 0.6, labels, rng.integers(5, size=300))


def test_the_spread_of_a_recall_is_that_of_the_images_of_its_class() -> None:
    labels, predicted = sample(500)
    values, of_class = per_image.weighted_recalls(labels, predicted, {4: 1.0}), labels == 4
    hits = (predicted == 4)[of_class]
    assert len(hits) < 50
    assert (values**2).mean() - values.mean() ** 2 == pytest.approx(hits.var(ddof=1) * 500 / len(hits))


def test_severity_is_a_lookup() -> None:
    labels, predicted = np.array([0, 4, 2]), np.array([0, 1, 4])
    assert per_image.severity(labels, predicted, DISTANCE).tolist() == [0, 0.75, 0.5]
    assert per_image.severity_of_mistakes(labels[:1], predicted[:1], DISTANCE).tolist() == [0]


def test_a_class_that_neither_occurs_nor_is_decided_counts_as_zero() -> None:
    labels = predicted = np.array([0, 0, 1])
    assert per_image.macro_f1(labels, predicted, 4).mean() == pytest.approx(0.5)
    assert per_image.balanced_accuracy(labels, predicted).mean() == pytest.approx(1.0)
    assert per_image.counts(labels) == {0: 2, 1: 1}
