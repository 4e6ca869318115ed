"""From what a model says to its decision, against plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.evaluation.decoders import (
    DECODERS,
    ArgMax,
    CostSensitive,
    Decoder,
    DecoderSpec,
    Inverse,
    ModelOutput,
    Nearest,
    softmax,
)

CLASSES = 7
EYE = np.eye(CLASSES)


def output(count: int = 40, seed: int = 0) -> ModelOutput:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (count, CLASSES))
    return ModelOutput(scores, softmax(scores), rng.uniform(-1, 1, (count, CLASSES)))


def gram(seed: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(CLASSES, 9))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_that_of_plain_python(dtype: type[np.floating]) -> None:
    scores = np.random.default_rng(0).normal(0, 3, (50, 7)).astype(dtype)
    probabilities = softmax(scores)
    assert probabilities.dtype == np.float64
    for row, found in zip(scores.tolist(), probabilities.tolist(), strict=True):
        total = sum(math.exp(score) for score in row)
        assert found == pytest.approx([math.exp(score) / total for score in row], rel=1e-6)
        assert sum(found) == pytest.approx(1, abs=1e-12)


def test_softmax_of_scores_that_would_overflow() -> None:
    found = softmax(np.array([[1e4, 0.0, 1e4], [-1e4, -1e4 + math.log(3), -2e4]], np.float64))
    np.testing.assert_allclose(found, [[0.5, 0, 0.5], [0.25, 0.75, 0]], rtol=1e-9)


def test_argmax_takes_the_highest_score_and_the_first_of_equals() -> None:
    scores = np.array([[0.1, 0.9, 0.2], [-3, -2, -1], [5, 1, 5], [0, 0, 0]], np.float64)
    assert ArgMax()(ModelOutput(scores, softmax(scores), None)).tolist() == [1, 2, 0, 0]


def test_nearest_is_the_label_vector_at_the_smallest_distance() -> None:
    rng = np.random.default_rng(2)
    labels, outputs = rng.normal(size=(7, 5)), rng.normal(size=(40, 5))
    labels /= np.linalg.norm(labels, axis=1, keepdims=True)
    outputs /= np.linalg.norm(outputs, axis=1, keepdims=True)
    wanted = [min(range(7), key=lambda k: math.dist(output, labels[k])) for output in outputs]
    scores = rng.normal(size=(40, 7))  # play no part
    assert Nearest()(ModelOutput(scores, softmax(scores), outputs @ labels.T)).tolist() == wanted


@pytest.mark.parametrize("decoder", [Nearest(), Inverse(EYE)])
def test_a_vector_is_needed_where_vectors_are_compared(decoder: Decoder) -> None:
    scores = np.zeros((1, 7))
    with pytest.raises(ValueError, match="no vector"):
        decoder(ModelOutput(scores, softmax(scores), None))


@pytest.mark.parametrize("seed", range(5))
def test_inverse_finds_the_most_probable_class_in_the_output_that_the_cosine_loss_aims_at(seed: int) -> None:
    """Whatever the vectors: f of any length along W^T p decodes to arg-max p, which the nearest vector often is not."""
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=(CLASSES, 12)) + 0.5
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    posterior = rng.dirichlet(np.full(CLASSES, 0.5), 200)
    outputs = rng.uniform(0.1, 9, (200, 1)) * (posterior @ targets)
    cosines = np.array([[w @ f / math.sqrt(w @ w) / math.sqrt(f @ f) for w in targets] for f in outputs])
    said = ModelOutput(cosines, softmax(cosines), cosines)
    found = DecoderSpec.parse("inverse").make(0, targets)(said)
    assert found.tolist() == [row.index(max(row)) for row in posterior.tolist()]
    assert (Nearest()(said) != found).any()


def test_inverse_of_orthogonal_vectors_is_the_nearest() -> None:
    said = output()
    np.testing.assert_array_equal(Inverse(EYE)(said), Nearest()(said))


def test_what_has_no_inverse_is_refused() -> None:
    dependent = np.eye(CLASSES)[[0, 1, 2, 3, 4, 5, 5]]
    with pytest.raises(UserError, match="'inverse' needs label vectors that are linearly independent"):
        DecoderSpec.parse("inverse").make(0, dependent)


def test_cost_sensitive_takes_the_class_of_least_expected_cost() -> None:
    similarity, said = gram(), output()
    for probabilities, found in zip(said.probabilities.tolist(), CostSensitive(similarity)(said).tolist(), strict=True):
        costs = [sum((1 - similarity[k][j]) * probabilities[j] for j in range(CLASSES)) for k in range(CLASSES)]
        assert found == costs.index(min(costs))


def test_least_cost_is_the_highest_sum_of_similarities_by_hand() -> None:
    similarity = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]])
    probabilities = np.array([[0.31, 0.29, 0.4], [0.1, 0.1, 0.8]])
    # (S p) of the first: .571, .569, .4; of the second: .19, .19, .8
    found = CostSensitive(similarity)(ModelOutput(np.log(probabilities), probabilities, None))
    assert found.tolist() == [0, 2]


def test_with_equal_costs_the_most_probable_class_is_cheapest() -> None:
    said = output()
    equal = 0.7 * EYE + 0.3  # every mistake costs the same
    np.testing.assert_array_equal(CostSensitive(equal)(said), ArgMax()(said))


def test_unequal_costs_can_prefer_a_less_probable_class_between_two_others() -> None:
    similarity = np.eye(3)
    similarity[0, 2] = similarity[2, 0] = similarity[1, 2] = similarity[2, 1] = 0.8
    scores = np.log(np.array([[0.4, 0.35, 0.25]]))
    assert CostSensitive(similarity)(ModelOutput(scores, softmax(scores), None)).tolist() == [2]


def test_two_views_are_averaged_as_probabilities() -> None:
    first, second = output(seed=3), output(seed=4)
    both = first.averaged(second)
    np.testing.assert_allclose(both.probabilities, (first.probabilities + second.probabilities) / 2)
    np.testing.assert_array_equal(ArgMax()(both), both.probabilities.argmax(axis=1))
    np.testing.assert_allclose(softmax(both.scores), both.probabilities)
    assert both.cosines is not None
    assert first.cosines is not None
    assert second.cosines is not None
    np.testing.assert_allclose(both.cosines, (first.cosines + second.cosines) / 2)


def test_two_views_without_vectors_have_no_cosines_and_sure_ones_stay_finite() -> None:
    sure = ModelOutput(np.array([[1e4, 0.0]]), np.array([[1.0, 0.0]]), None)
    both = sure.averaged(sure)
    assert both.cosines is None
    assert np.isfinite(both.scores).all()
    assert ArgMax()(both).tolist() == [0]


def make(name: str) -> Decoder:
    """A decoder of that name; those that weigh mistakes or invert cosines are made of a Gram matrix."""
    kind: Callable[..., Decoder] = DECODERS[name]
    return kind(gram()) if DECODERS[name].weighs or DECODERS[name].inverts else kind()


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_names_one_class_per_row(name: str) -> None:
    found = make(name)(output(30))
    assert found.shape == (30,)
    assert found.dtype == np.int64
    assert set(found.tolist()) <= set(range(CLASSES))


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_read_what_they_say_they_need(name: str) -> None:
    """What a decoder does not need may be anything: its decisions stay."""
    kind, said, other = DECODERS[name], output(seed=5), output(seed=6)
    decided = make(name)(said)
    for field, needed in [("probabilities", kind.needs_probabilities), ("cosines", kind.needs_vectors)]:
        changed = replace(said, **{field: getattr(other, field)})
        assert np.array_equal(make(name)(changed), decided) == (not needed), field
