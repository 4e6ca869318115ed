"""The prediction test on worlds in which it is known to hold, or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.decode import Answer, CostSensitive
from pipeline.losses import Cosine
from pipeline.prediction import (
    agreement,
    confusion_correlation,
    mutual_agreement,
    shares,
    spread,
)

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
        decided, CostSensitive(similarity)(Answer(posteriors.log().numpy(), posteriors.numpy(), None))
    )


def test_agreement_and_shares() -> None:
    a, b, c = np.array([0, 1, 2, 3]), np.array([0, 1, 0, 0]), np.array([0, 0, 0, 0])
    assert agreement(a, b) == 0.5
    assert mutual_agreement([a, b, c]) == pytest.approx((0.5 + 0.25 + 0.75) / 3)
    assert shares(b, 4).tolist() == [0.75, 0.25, 0, 0]


def test_spread_is_zero_only_where_all_costs_are_equal() -> None:
    assert spread(0.6 * np.eye(K) + 0.4) == pytest.approx(0, abs=1e-12)
    assert spread(gram()) > 0.1


def test_confusion_that_follows_the_gram_matrix_is_found() -> None:
    similarity = gram()
    counts = 100 * np.exp(2 * similarity)
    np.fill_diagonal(counts, 1000)
    correlation, p = confusion_correlation(similarity, counts, permutations=2000)
    assert correlation > 0.9
    assert p < 0.01


def test_confusion_that_has_nothing_to_do_with_it_is_not() -> None:
    rng = np.random.default_rng(4)
    p_values = [
        confusion_correlation(gram(n), rng.integers(1, 200, (K, K)), permutations=200)[1] for n in range(60)
    ]
    assert np.mean(np.array(p_values) < 0.05) < 0.15  # 5 % expected of 60


def test_mantels_p_of_a_perfect_match_counts_the_identity() -> None:
    similarity = gram()
    _, p = confusion_correlation(similarity, np.exp(similarity), permutations=100)
    assert p == pytest.approx(1 / 101, abs=0.02)
