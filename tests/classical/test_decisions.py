"""Decision functions against scikit-learn's, and contributions against what they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import AdaBoostClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.svm import LinearSVC

from pipeline.classical import classifiers
from pipeline.classical.decisions import Decision, Kernel, Linear, Stumps

RANDOM = np.random.default_rng(0)
N, D, K = 140, 6, 7
LABELS = np.arange(N) % K
X = RANDOM.normal(size=(N, D)).astype(np.float32) + np.eye(K, D)[LABELS] * 2
LINEAR = Linear(RANDOM.normal(size=(K, D)), RANDOM.normal(size=K))
KERNEL = Kernel(RANDOM.normal(size=(9, D)), RANDOM.normal(size=(K, 9)), RANDOM.normal(size=K), np.array([0.3]))
STUMPS = Stumps(
    feature=np.array([0, 2, 2]), threshold=np.array([0.0, 1.0, -1.0]), below=np.array([1, 3, 3]),
    above=np.array([2, 1, 5]), votes=np.array([1.0, 2.0, 0.5]), classes=np.array([K]),
)  # fmt: skip


def test_a_linear_svm_is_scikit_learns() -> None:
    svm = LinearSVC(C=0.5, tol=0.01, max_iter=1000, random_state=3, dual=True).fit(X, LABELS)
    np.testing.assert_allclose(classifiers._svm(X, LABELS, 0.5, 3).scores(X), svm.decision_function(X), rtol=1e-9)


def test_nystroem_and_a_linear_svm_are_a_sum_of_kernels() -> None:
    kernel = Nystroem(gamma=0.2, n_components=20, random_state=0).fit(X)
    svm = LinearSVC(random_state=0, dual=True).fit(kernel.transform(X), LABELS)
    found = Kernel(kernel.components_, svm.coef_ @ kernel.normalization_, svm.intercept_, np.array([0.2]))
    np.testing.assert_allclose(found.scores(X), svm.decision_function(kernel.transform(X)), atol=1e-5)


def test_boosted_stumps_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "LAZY", 0.5)
    kept = []

    class Kept(AdaBoostClassifier):  # type: ignore[misc]
        def fit(self, *arguments: Any) -> Kept:
            kept.append(self)
            super().fit(*arguments)
            return self

    monkeypatch.setattr("sklearn.ensemble.AdaBoostClassifier", Kept)
    stumps = classifiers._boost(X, LABELS, 40, 5)
    (boosted,) = kept
    other = RANDOM.normal(size=(200, D)).astype(np.float32)
    np.testing.assert_allclose(stumps.scores(other), boosted.decision_function(other), atol=1e-12)
    np.testing.assert_array_equal(stumps.scores(other).argmax(axis=1), boosted.predict(other))


def test_stumps_vote_as_they_say() -> None:
    x = np.zeros((2, D))
    x[0], x[1, [0, 2]] = 0.0, (0.5, 2.0)
    np.testing.assert_array_equal(STUMPS.named(x), [[1, 3, 5], [2, 1, 5]])
    share = np.zeros(K)
    share[[1, 3, 5]] = np.array([1.0, 2.0, 0.5]) / 3.5
    np.testing.assert_allclose(STUMPS.scores(x)[0], (share * K - 1) / (K - 1))
    assert STUMPS.contributions(x, np.array([3, 1]))[:, 2].tolist() == [2.0, 2.0]
    assert STUMPS.contributions(x, np.array([3, 2]))[:, 0].tolist() == [0.0, 1.0]


def test_linear_contributions_add_up_to_the_score() -> None:
    classes = RANDOM.integers(0, K, N)
    parts = LINEAR.contributions(X, classes)
    scores = LINEAR.scores(X)[np.arange(N), classes] - LINEAR.bias[classes]
    np.testing.assert_allclose(parts.sum(axis=1), scores, rtol=1e-6)


def test_kernel_contributions_are_input_times_gradient() -> None:
    """By finite differences."""
    x, classes, step = X[:5].astype(float), np.array([0, 3, 6, 2, 2]), 1e-6
    expected = np.empty((5, D))
    for d in range(D):
        moved = x.copy()
        moved[:, d] += step
        change = (KERNEL.scores(moved) - KERNEL.scores(x))[np.arange(5), classes] / step
        expected[:, d] = x[:, d] * change
    np.testing.assert_allclose(KERNEL.contributions(x, classes), expected, atol=1e-5)


@pytest.mark.parametrize("decision", [LINEAR, KERNEL, STUMPS], ids=["linear", "kernel", "stumps"])
def test_a_decision_is_its_arrays(decision: Decision) -> None:
    again = type(decision).of(decision.arrays())
    np.testing.assert_array_equal(again.scores(X), decision.scores(X))
    x: npt.NDArray[np.float64] = X.astype(float)
    assert again.scores(x).shape == (N, K)
