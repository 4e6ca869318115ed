"""The second reading against plain counts on small ballots."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.data.fer import LABELS, VOTE_COLUMNS, VOTES_OF_LABELS
from pipeline.evaluation import pairs
from pipeline.evaluation.pairs import pair_metrics, pairs_of


def ballot(**counts: int) -> list[int]:
    """Ten votes by the class's name; what is left is for *unknown*."""
    row = [0] * len(VOTE_COLUMNS)
    for label, count in counts.items():
        row[VOTES_OF_LABELS[LABELS.index(label)]] = count
    row[VOTE_COLUMNS.index("unknown")] = 10 - sum(counts.values())
    return row


def chances(*ranked: str) -> list[float]:
    """Probabilities that fall in that order of classes."""
    order = [*ranked, *(label for label in LABELS if label not in ranked)]
    return [2.0 ** -order.index(label) / (2 - 2.0**-6) for label in LABELS]


VOTES = np.array(
    [
        ballot(fear=5, surprise=5),
        ballot(fear=6, surprise=3, sad=1),
        ballot(happy=7, neutral=3),
        ballot(angry=4, sad=3, fear=3),  # the second is not ahead of the third
        ballot(happy=8, sad=2),  # too few for a second
        ballot(happy=10),
        ballot(),  # nothing of the seven
    ],
    np.uint8,
)
GUESSES = np.array(
    [
        chances("surprise", "fear"),
        chances("fear", "sad"),
        chances("neutral", "happy"),
        chances("angry", "sad"),
        chances("happy", "sad"),
        chances("happy", "sad"),
        chances("happy", "sad"),
    ]
)


def test_a_pair_needs_votes_and_a_lead() -> None:
    found, has_pair = pairs_of(VOTES)
    assert has_pair.tolist() == [True, True, True, False, False, False, False]
    assert [[LABELS[k] for k in row] for row in found[:3]] == [
        ["fear", "surprise"], ["fear", "surprise"], ["happy", "neutral"],
    ]  # fmt: skip


def test_pairs_are_compared_as_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "ENOUGH", 2)
    found = pair_metrics(GUESSES, VOTES)
    assert found["images"] == 3
    assert found["exact"] == pytest.approx(2 / 3)
    assert found["jaccard"] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert found["emotions"] == {
        "images": 2, "exact": 0.5, "jaccard": pytest.approx((1 + 1 / 3) / 2),
    }  # fmt: skip
    assert (found["pairs"], found["macro"]) == (1, 0.5)  # of fear and surprise alone there are two


def test_the_second_probability_tells_who_has_a_second_reading() -> None:
    random = np.random.default_rng(0)
    votes = np.array([random.multinomial(10, np.full(10, 0.1)) for _ in range(300)], np.uint8)
    votes[::2, VOTES_OF_LABELS[3]] += 10
    guesses = random.dirichlet(np.ones(7), 300)
    _, has_pair = pairs_of(votes)
    voted = votes[:, list(VOTES_OF_LABELS)].sum(axis=1) > 0
    second = np.array([sorted(row)[-2] for row in guesses])
    assert pair_metrics(guesses, votes)["auc"] == pytest.approx(roc_auc_score(has_pair[voted], second[voted]))


def test_the_six_measures_are_those_of_plain_arithmetic() -> None:
    random = np.random.default_rng(1)
    votes = np.array([random.multinomial(10, random.dirichlet(np.ones(10))) for _ in range(20)], np.uint8)
    guesses = random.dirichlet(np.ones(7), 20)
    plain: dict[str, list[float]] = {
        name: [] for name in ("chebyshev", "clark", "canberra", "kl", "cosine", "intersection")
    }
    for row, p in zip(votes.tolist(), guesses.tolist(), strict=True):
        counts = [row[column] for column in VOTES_OF_LABELS]
        if not sum(counts):
            continue
        d = [count / sum(counts) for count in counts]
        both = list(zip(d, p, strict=True))
        plain["chebyshev"].append(max(abs(a - b) for a, b in both))
        plain["clark"].append(math.sqrt(sum(((a - b) / (a + b)) ** 2 for a, b in both)))
        plain["canberra"].append(sum(abs(a - b) / (a + b) for a, b in both))
        plain["kl"].append(sum(a * math.log(a / b) for a, b in both if a))
        plain["cosine"].append(sum(a * b for a, b in both) / math.hypot(*d) / math.hypot(*p))
        plain["intersection"].append(sum(min(a, b) for a, b in both))
    found = pair_metrics(guesses, votes)["ldl"]
    assert found == {
        name: pytest.approx(sum(values) / len(values), rel=1e-5) for name, values in plain.items()
    }


def test_nobody_who_agrees_or_votes_is_no_error() -> None:
    nobody = pair_metrics(GUESSES[:1], np.array([ballot()], np.uint8))
    assert nobody["images"] == nobody["exact"] == nobody["auc"] == nobody["macro"] == 0
    assert set(nobody["ldl"].values()) == {0.0}
