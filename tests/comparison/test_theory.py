"""The prediction test on worlds in which it is known to hold, or not."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.comparison.theory import (
    agreement,
    confusion_correlation,
    relabelled_fits,
    relabelling_p,
    relabellings,
    scaled_score_fit,
    score_fit,
    shares,
    spread,
)
from pipeline.evaluation.decoders import CostSensitive, ModelOutput
from pipeline.training.losses import Cosine

K = 7


def gram(seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(K, 6)) + 0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


def test_the_output_that_minimises_the_cosine_loss_decides_as_cost_sensitive_does() -> None:
    """The claim itself: at a posterior p the best output is along W^T p, whatever the vectors."""
    torch.manual_seed(0)
    targets = torch.nn.functional.normalize(torch.randn(K, 6, dtype=torch.float64) + 0.5, dim=1)
    similarity = (targets @ targets.T).numpy()
    posteriors = torch.distributions.Dirichlet(torch.ones(K, dtype=torch.float64)).sample((30,))
    loss = Cosine(targets)
    output = torch.randn(30, 6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([output], max_iter=500, line_search_fn="strong_wolfe")

    def risk() -> torch.Tensor:
        optimizer.zero_grad()
        per_class = 1 - loss.cosines(output)  # the loss, were each class the label
        value = (posteriors * per_class).sum()
        value.backward()
        return value

    optimizer.step(risk)
    decided = loss.scores(output).argmax(1).numpy()
    np.testing.assert_array_equal(
        decided, CostSensitive(similarity)(ModelOutput(posteriors.log().numpy(), posteriors.numpy(), None))
    )


def test_agreement_and_shares() -> None:
    a, b = np.array([0, 1, 2, 3]), np.array([0, 1, 0, 0])
    assert agreement(a, b) == 0.5
    assert shares(b, 4).tolist() == [0.75, 0.25, 0, 0]


def test_spread_is_zero_only_where_all_costs_are_equal() -> None:
    assert spread(0.6 * np.eye(K) + 0.4) == pytest.approx(0, abs=1e-12)
    assert spread(gram()) > 0.1


def test_confusion_that_follows_the_gram_matrix_is_found() -> None:
    similarity = gram()
    counts = 100 * np.exp(2 * similarity)
    np.fill_diagonal(counts, 1000)
    correlation, p = confusion_correlation(similarity, counts)
    assert correlation > 0.9
    assert p < 0.01


def test_confusion_that_has_nothing_to_do_with_it_is_not() -> None:
    rng = np.random.default_rng(4)
    p_values = [confusion_correlation(gram(n), rng.integers(1, 200, (K, K)) / 1.0)[1] for n in range(60)]
    assert np.mean(np.array(p_values) < 0.05) < 0.15  # 5 % expected of 60


def test_mantels_p_of_a_perfect_match_counts_the_identity() -> None:
    similarity = gram()
    confusion = np.exp(similarity) / np.exp(similarity).sum(axis=1, keepdims=True)
    confusion = 100 * (confusion + confusion.T)
    np.fill_diagonal(confusion, 1000 - confusion.sum(axis=1) + confusion.diagonal())  # rows of equal sums
    rho, p = confusion_correlation(confusion, confusion)
    assert rho == pytest.approx(1)
    assert p == 1 / math.factorial(K)


def test_the_exact_test_is_that_of_a_plain_loop() -> None:
    size, rng = 4, np.random.default_rng(1)
    similarity, counts = gram()[:size, :size], rng.integers(1, 200, (size, size)) / 1.0
    rates = counts / counts.sum(axis=1, keepdims=True)
    pairs = list(combinations(range(size), 2))
    wanted = [rates[i, j] + rates[j, i] for i, j in pairs]
    plain = [
        stats.spearmanr([similarity[order[i], order[j]] for i, j in pairs], wanted).statistic
        for order in permutations(range(size))
    ]
    rho, p = confusion_correlation(similarity, counts)
    assert rho == pytest.approx(plain[0])
    assert p == np.mean(np.abs(plain) >= abs(plain[0]) - 1e-12)


@pytest.mark.parametrize(
    ("similarity", "counts"),
    [(np.eye(K), np.ones((K, K))), (gram(), np.diag([0.0, *[5.0] * (K - 1)])), (gram(), np.ones((K, K)))],
)
def test_what_cannot_correlate_is_refused(similarity: np.ndarray, counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"class without images|correlate with nothing"):
        confusion_correlation(similarity, counts)


def vectors(seed: int = 0, classes: int = K) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(classes, 12)) + 0.5
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def posteriors(images: int = 300, classes: int = K, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), images)


def kept(outputs: np.ndarray, targets: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """The scores that a run keeps of these outputs: the logarithm of the softmax of their cosines."""
    lengths = np.linalg.norm(outputs, axis=1)[:, None] * np.linalg.norm(targets, axis=1)
    cosines = outputs @ targets.T / lengths
    cosines += noise * np.random.default_rng(2).normal(size=cosines.shape)
    return np.asarray(cosines - np.log(np.exp(cosines).sum(axis=1, keepdims=True)))


def test_scores_of_outputs_along_the_weighted_targets_are_predicted_by_s_alone() -> None:
    targets, p = vectors(), posteriors()
    similarity = targets @ targets.T
    exact = kept(3 * p @ targets, targets)
    assert score_fit(exact, p, similarity) == pytest.approx(1)
    assert relabelling_p(relabelled_fits(exact, p, similarity)) == 1 / math.factorial(K)
    noisy = kept(p @ targets, targets, noise=0.1)
    assert 0.7 < score_fit(noisy, p, similarity) < 0.99
    assert score_fit(noisy, p, similarity) > scaled_score_fit(noisy, p, np.eye(K)) + 0.05
    assert relabelling_p(relabelled_fits(noisy, p, similarity)) == 1 / math.factorial(K)


def test_scores_that_know_no_similarities_are_predicted_without_them() -> None:
    targets, p = vectors(), posteriors()
    similarity = targets @ targets.T
    plain = kept(p, np.eye(K), noise=0.1)  # the cosine loss towards one-hot targets
    assert score_fit(plain, p, np.eye(K)) > score_fit(plain, p, similarity) + 0.1
    assert relabelling_p(relabelled_fits(plain, p, np.eye(K))) == 1  # nothing to relabel


def test_similarities_that_belong_to_other_classes_fit_no_better_than_any() -> None:
    """Over worlds in which S is drawn apart from the scores, p is uniform: about one in twenty is below .05."""
    p_values = []
    for seed in range(40):
        theirs, mine, p = vectors(seed, 4), vectors(100 + seed, 4), posteriors(60, 4, seed)
        p_values.append(relabelling_p(relabelled_fits(kept(p @ theirs, theirs), p, mine @ mine.T)))
    assert np.mean(np.array(p_values) <= 0.05) < 0.2
    assert 0.35 < np.mean(p_values) < 0.7


def test_the_fit_of_scores_is_that_of_plain_arithmetic() -> None:
    targets, p = vectors(3), posteriors(20)
    similarity, scores = targets @ targets.T, kept(p @ targets, targets, noise=0.3)
    observed, expected = [], []
    for c, q in zip(scores.tolist(), p.tolist(), strict=True):
        similar = [sum(similarity[k, j] * q[j] for j in range(K)) for k in range(K)]
        length = math.sqrt(sum(a * b for a, b in zip(q, similar, strict=True)))
        observed += [value - sum(c) / K for value in c]
        expected += [(value - sum(similar) / K) / length for value in similar]
    errors = [(a - b) ** 2 for a, b in zip(observed, expected, strict=True)]
    assert score_fit(scores, p, similarity) == pytest.approx(1 - sum(errors) / sum(a * a for a in observed))
    assert scaled_score_fit(scores, p, similarity) == pytest.approx(np.corrcoef(observed, expected)[0, 1] ** 2)
    shifted = scores + np.random.default_rng(0).normal(size=(20, 1))
    assert score_fit(shifted, p, similarity) == pytest.approx(score_fit(scores, p, similarity))


def test_every_relabelling_is_the_fit_of_the_relabelled_matrix() -> None:
    targets, p = vectors(4, 4), posteriors(50, 4)
    similarity, scores = targets @ targets.T, kept(p @ targets, targets, noise=0.3)
    plain = [score_fit(scores, p, similarity[np.ix_(order, order)]) for order in permutations(range(4))]
    assert relabelled_fits(scores, p, similarity) == pytest.approx(plain, abs=1e-5)
    assert relabellings(4).tolist() == [list(order) for order in permutations(range(4))]
