"""Metrics against plain computations, one image at a time."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import balanced_accuracy_score, f1_score

from pipeline.data.fer import LABELS, VOTE_COLUMNS
from pipeline.evaluation.metrics import (
    apply_temperature,
    entropy,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
    split_metrics,
    uncertainty_metrics,
    vote_entropy,
    vote_metrics,
)
from pipeline.files import flatten

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

ANGRY, DISGUST, FEAR, HAPPY, SAD, SURPRISE, NEUTRAL = range(7)
DISTANCES = {"affective": np.abs(np.subtract.outer(np.arange(7.0), np.arange(7.0)))}


def softmax(scores: Floats) -> Floats:
    e: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def example(n: int = 400, seed: int = 0, sharpness: float = 2.0) -> tuple[Ints, Floats]:
    """Labels and the probabilities of a model that is right about two times in three."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(7, size=n)
    scores = rng.normal(size=(n, 7))
    scores[np.arange(n), labels] += 1.5
    return labels, softmax(sharpness * scores)


def ballots(*counts: dict[str, int]) -> npt.NDArray[np.uint8]:
    """FER+ rows from {column: votes} dictionaries."""
    rows = np.zeros((len(counts), len(VOTE_COLUMNS)), np.uint8)
    for row, count in zip(rows, counts, strict=True):
        for name, number in count.items():
            row[VOTE_COLUMNS.index(name)] = number
    return rows


def score(
    labels: Ints,
    probabilities: Floats,
    predicted: Ints | None = None,
    temperature: float = 1.0,
    votes: npt.NDArray[np.uint8] | None = None,
) -> dict[str, Any]:
    decisions = probabilities.argmax(axis=1) if predicted is None else predicted
    return split_metrics(labels, decisions, decisions, probabilities, temperature, DISTANCES, votes)


def test_scores_of_decisions_match_counting_by_hand() -> None:
    labels, probabilities = example()
    predicted = probabilities.argmax(axis=1)
    metrics = score(labels, probabilities)

    hits = [int(a == b) for a, b in zip(labels, predicted, strict=True)]
    assert metrics["images"] == 400
    assert metrics["accuracy"] == pytest.approx(sum(hits) / 400)
    for k, name in enumerate(LABELS):
        true_positives = sum(1 for a, b in zip(labels, predicted, strict=True) if a == b == k)
        support, said = (labels == k).sum(), (predicted == k).sum()
        entry = metrics["per_class"][name]
        assert entry["support"] == support
        assert entry["recall"] == pytest.approx(true_positives / support)
        assert entry["precision"] == pytest.approx(true_positives / said)
        assert entry["f1"] == pytest.approx(2 * true_positives / (support + said))
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_accuracy_flip_uses_its_own_decisions_and_nothing_else_does() -> None:
    labels, probabilities = example()
    plain = score(labels, probabilities)
    flipped = split_metrics(labels, probabilities.argmax(axis=1), labels, probabilities, 1.0, DISTANCES)
    assert flipped["accuracy_flip"] == 1.0
    assert {**flipped, "accuracy_flip": plain["accuracy"]} == plain


def test_top2_and_nll_match_one_image_at_a_time() -> None:
    labels, probabilities = example()
    metrics = score(labels, probabilities)
    in_top2 = [y in sorted(range(7), key=p.__getitem__)[-2:] for y, p in zip(labels, probabilities, strict=True)]
    surprise = [-math.log(p[y]) for y, p in zip(labels, probabilities, strict=True)]
    assert metrics["top2"] == pytest.approx(sum(in_top2) / 400)
    assert metrics["nll"] == pytest.approx(sum(surprise) / 400)


def test_decoder_changes_decisions_but_not_what_judges_the_probabilities() -> None:
    labels, probabilities = example()
    plain, other = score(labels, probabilities), score(labels, probabilities, predicted=(labels + 1) % 7)
    assert other["accuracy"] == 0.0
    for key in ("top2", "nll", "ece", "nll_calibrated", "ece_calibrated"):
        assert other[key] == plain[key]


def test_severity_over_all_is_error_rate_times_severity_of_mistakes() -> None:
    labels, probabilities = example()
    predicted = probabilities.argmax(axis=1)
    severity = score(labels, probabilities)["severity"]["affective"]
    costs = [abs(int(a) - int(b)) for a, b in zip(labels, predicted, strict=True) if a != b]
    assert severity["mistakes"] == pytest.approx(sum(costs) / len(costs))
    assert severity["all"] == pytest.approx(sum(costs) / 400)


def test_severity_is_read_from_the_label_to_the_decision() -> None:
    one_way = {"one_way": np.zeros((7, 7))}
    one_way["one_way"][ANGRY, HAPPY] = 3.0
    labels, predicted = np.array([ANGRY, HAPPY]), np.array([HAPPY, ANGRY])
    metrics = split_metrics(labels, predicted, predicted, np.full((2, 7), 1 / 7), 1.0, one_way)
    assert metrics["severity"]["one_way"] == {"all": 1.5, "mistakes": 1.5}


def test_severity_without_mistakes_is_zero() -> None:
    labels, probabilities = example()
    assert score(labels, probabilities, predicted=labels)["severity"]["affective"] == {"all": 0.0, "mistakes": 0.0}


def test_keys_are_the_same_and_numbers_finite_whatever_the_data() -> None:
    labels, probabilities = example()
    votes = ballots(*[{"happiness": 9, "fear": 1}] * 400)
    usual = score(labels, probabilities, votes=votes)
    one_image = score(np.array([HAPPY]), np.eye(7)[[SAD]], votes=ballots({"NF": 10}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two_classes = score(np.array([HAPPY, SAD]), np.eye(7)[[HAPPY, NEUTRAL]], votes=votes[:2])
    assert list(flatten(usual)) == list(flatten(one_image)) == list(flatten(two_classes))
    for metrics in (usual, one_image, two_classes):
        json.dumps(metrics, allow_nan=False)
    assert two_classes["balanced_accuracy"] == 0.5
    assert two_classes["macro_f1"] == pytest.approx(1 / 7)
    assert "votes" not in score(labels, probabilities)


def test_takes_labels_of_a_byte_and_probabilities_of_single_precision() -> None:
    labels, probabilities = example()
    single = probabilities.astype(np.float32).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = score(labels.astype(np.uint8), single)
    assert flatten(metrics) == pytest.approx(flatten(score(labels, probabilities)), abs=1e-6)


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="no images"):
        score(np.empty(0, int), np.empty((0, 7)))


def test_calibration_error_matches_a_loop_over_bins() -> None:
    labels, probabilities = example(1000)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    total = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            total += inside.sum() / 1000 * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(labels, probabilities) == pytest.approx(total)


def test_calibration_error_of_known_cases() -> None:
    certain = np.eye(7)[[HAPPY] * 4]
    assert expected_calibration_error(np.array([HAPPY] * 4), certain) == 0.0
    assert expected_calibration_error(np.array([HAPPY, SAD, SAD, SAD]), certain) == 0.75
    # Says three quarters, is right three times in four, once with a class other than the first of its bin.
    three_quarters = np.array([[0.75, 0.25, 0, 0, 0, 0, 0]] * 4)
    assert expected_calibration_error(np.array([ANGRY, ANGRY, ANGRY, DISGUST]), three_quarters) == 0.0


def test_reliability_bins_close_on_the_right_and_leave_empty_bins_at_zero() -> None:
    probabilities = np.array([[0.5, 0.5, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]])
    bins = reliability_bins(np.array([ANGRY, ANGRY]), probabilities, bins=2)
    assert bins.images.tolist() == [1, 1]
    assert bins.confidence.tolist() == [0.5, 1.0]
    assert reliability_bins(np.array([ANGRY]), probabilities[1:], bins=2).accuracy.tolist() == [0.0, 1.0]


def test_temperature_divides_scores() -> None:
    scores = np.random.default_rng(0).normal(size=(50, 7))
    np.testing.assert_allclose(apply_temperature(softmax(scores), 2.5), softmax(scores / 2.5))
    np.testing.assert_allclose(apply_temperature(softmax(scores), 1.0), softmax(scores))


def test_fitted_temperature_is_the_best_on_a_fine_grid() -> None:
    labels, probabilities = example(2000, sharpness=3.0)
    fitted = fit_temperature(labels, probabilities)

    def nll(temperature: float) -> float:
        p = probabilities ** (1 / temperature)
        p = p / p.sum(axis=1, keepdims=True)
        return float(-np.log(p[np.arange(len(labels)), labels]).mean())

    grid = np.geomspace(0.05, 20, 4000)
    assert fitted == pytest.approx(grid[np.argmin([nll(t) for t in grid])], rel=2e-3)
    assert fitted > 1.2


def test_fitted_temperature_undoes_a_known_one() -> None:
    rng = np.random.default_rng(1)
    truth = softmax(1.5 * rng.normal(size=(20_000, 7)))
    labels = (truth.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    assert fit_temperature(labels, truth) == pytest.approx(1.0, abs=0.04)
    assert fit_temperature(labels, apply_temperature(truth, 0.4)) == pytest.approx(2.5, abs=0.1)


def test_calibration_lowers_nll_and_ece_of_an_overconfident_model() -> None:
    labels, probabilities = example(2000, sharpness=4.0)
    metrics = score(labels, probabilities, temperature=fit_temperature(labels, probabilities))
    assert metrics["nll_calibrated"] < metrics["nll"]
    assert metrics["ece_calibrated"] < metrics["ece"]


def test_impossible_probabilities_cost_36_nats_not_infinity() -> None:
    metrics = score(np.array([HAPPY]), np.eye(7)[[SAD]])
    assert metrics["nll"] == pytest.approx(52 * math.log(2))
    assert 0.05 <= fit_temperature(np.array([HAPPY]), np.eye(7)[[SAD]]) <= 20


def test_accuracy_against_votes_counts_clear_majorities_only() -> None:
    votes = ballots({"happiness": 9, "sadness": 1}, {"anger": 8, "fear": 2}, {"happiness": 5, "sadness": 5}, {"NF": 10})
    metrics = vote_metrics(np.array([HAPPY, SAD, HAPPY, HAPPY]), np.full((4, 7), 1 / 7), votes)
    assert metrics["images"] == 2
    assert metrics["accuracy"] == 0.5


def test_in_fer_pluss_own_test_contempt_is_a_mistake_for_every_model() -> None:
    votes = ballots(
        {"happiness": 9, "sadness": 1}, {"contempt": 8, "fear": 2}, {"happiness": 4, "sadness": 3, "fear": 3}
    )
    metrics = vote_metrics(np.array([HAPPY, HAPPY, HAPPY]), np.full((3, 7), 1 / 7), votes)
    assert metrics["barsoum_images"] == 2
    assert metrics["barsoum_accuracy"] == 0.5
    assert metrics["accuracy"] == 1.0  # over the first and the third


def test_divergences_from_votes_match_sums_by_hand() -> None:
    votes = ballots({"happiness": 8, "surprise": 2}, {"neutral": 6, "sadness": 4}, {"NF": 10})
    _, probabilities = example(3)
    p = probabilities
    kl = [
        0.8 * math.log(0.8 / p[0, HAPPY]) + 0.2 * math.log(0.2 / p[0, SURPRISE]),
        0.6 * math.log(0.6 / p[1, NEUTRAL]) + 0.4 * math.log(0.4 / p[1, SAD]),
    ]
    q = np.zeros((2, 7))
    q[0, [HAPPY, SURPRISE]], q[1, [NEUTRAL, SAD]] = (0.8, 0.2), (0.6, 0.4)
    metrics = vote_metrics(p.argmax(axis=1), p, votes)
    assert metrics["kl"] == pytest.approx(sum(kl) / 2, abs=1e-5)
    assert metrics["js"] == pytest.approx((jensenshannon(q, p[:2], axis=1) ** 2).mean())


def test_divergences_from_votes_at_their_ends() -> None:
    votes = ballots({"happiness": 10})
    agree = vote_metrics(np.array([HAPPY]), np.eye(7)[[HAPPY]], votes)
    oppose = vote_metrics(np.array([SAD]), np.eye(7)[[SAD]], votes)
    assert agree["kl"] == pytest.approx(0, abs=1e-6)
    assert agree["kl"] >= 0
    assert agree["js"] == 0
    assert oppose["kl"] == pytest.approx(-math.log(1e-7), abs=1e-5)
    assert oppose["js"] == pytest.approx(math.log(2))


def test_uncertainty_is_held_against_the_entropy_of_the_votes() -> None:
    """Ranks alone count; images without a vote for the seven do not."""
    votes = np.zeros((5, 10), np.uint8)
    votes[:, 0] = [10, 9, 7, 5, 0]  # neutral
    votes[:, 1] = [0, 1, 3, 5, 0]  # happiness
    votes[4, 9] = 10  # not a face
    certain = np.full((5, 7), 0.001)
    certain[:, 0] = 1 - 0.006
    same = uncertainty_metrics(np.array([0.1, 2.0, 3.0, 40.0, -9.0]), certain, votes)
    assert same == {"uncertainty": pytest.approx(1), "entropy": 0}  # all probabilities are alike
    swapped = uncertainty_metrics(np.array([0.1, 3.0, 2.0, 40.0, -9.0]), certain, votes)
    assert swapped["uncertainty"] == pytest.approx(1 - 6 * 2 / (4 * 15))  # Spearman's formula


def test_entropy_in_nats() -> None:
    p = np.array([[1.0, 0, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0, 0], [1 / 7] * 7])
    assert entropy(p) == pytest.approx([0, np.log(2), np.log(7)])
    votes = np.zeros((2, 10), np.uint8)
    votes[0, :2] = 5
    assert vote_entropy(votes)[0] == pytest.approx(np.log(2))
    assert np.isnan(vote_entropy(votes)[1])


@pytest.mark.parametrize("names", [("no", "yes"), ("calm", "cross", "happily surprised"), tuple("abcdefghijkl")])
def test_any_number_of_classes_is_measured(names: tuple[str, ...]) -> None:
    count, rng = len(names), np.random.default_rng(len(names))
    labels = rng.integers(count, size=300)
    scores = rng.normal(size=(300, count))
    scores[np.arange(300), labels] += 1.0
    probabilities = softmax(scores)
    predicted = probabilities.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = split_metrics(labels, predicted, predicted, probabilities, 1.0, {}, classes=names)
    assert tuple(found["per_class"]) == names
    for k, name in enumerate(names):
        hits = int(((labels == k) & (predicted == k)).sum())
        assert found["per_class"][name]["recall"] == pytest.approx(hits / (labels == k).sum())
        assert found["per_class"][name]["precision"] == pytest.approx(hits / (predicted == k).sum())
    ranks = (probabilities > probabilities[np.arange(300), labels][:, None]).sum(axis=1)
    assert found["accuracy"] == pytest.approx((ranks == 0).mean())
    assert found["top2"] == pytest.approx((ranks < 2).mean())
    assert found["nll"] == pytest.approx(-np.log(probabilities[np.arange(300), labels]).mean())
    assert found["severity"] == {}
    json.dumps(found, allow_nan=False)
