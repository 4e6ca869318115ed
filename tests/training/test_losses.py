"""Every loss against plain Python, its gradient against finite differences, the originals against the README."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data.fer import LABELS
from pipeline.training.losses import (
    LOSSES,
    EmbeddingLoss,
    HingeRank,
    LogitLoss,
    Loss,
    UncertaintyLoss,
    cosines,
    cosines_to_label,
    expected_loss,
    make_loss,
    soft_loss,
    takes_soft_labels,
)
from tests.factories import loss_of

CLASSES, DIMENSIONS = 7, 5
SIZES = (1, 2, 3, 257)
OPTIONS: dict[str, list[dict[str, float]]] = {
    "cross_entropy": [{}, {"label_smoothing": 0.1}],
    "scaled_cosine": [{}, {"scale": 3.0}],
    "cosine_and_cross_entropy": [{}, {"weight": 2.0}],
    "hinge_rank": [{}, {"margin": 0.7}],
    "soft_labels": [{}, {"sharpness": 1.5}],
    "relative_uncertainty": [{}, {"dimensions": 3}, {"dimensions": 1, "weighted": False}],
    "self_cure": [{}, {"margin": 0.5, "share": 0.4}],
}
CASES = [(name, options) for name in LOSSES for options in OPTIONS.get(name, [{}])]
OF_THE_BATCH = {"relative_uncertainty", "self_cure"}
"""Losses in which the value of an image depends on the images beside it."""
SOFT = [(name, options) for name, options in CASES if takes_soft_labels(LOSSES[name])]
Vectors = list[list[float]]


def make(name: str, options: dict[str, float]) -> Loss:
    return loss_of(name, random_targets(), **options)


def random_targets() -> torch.Tensor:
    """Unit vectors with unequal angles between them, some beyond a right angle."""
    rows = torch.randn(CLASSES, DIMENSIONS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=1)


def batch(size: int, loss: Loss, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of the width that the loss wants, and labels."""
    generator = torch.Generator().manual_seed(seed)
    output = 2 * torch.randn(size, loss.output_dim, generator=generator, dtype=torch.float64)
    return output, torch.randint(CLASSES, (size,), generator=generator)


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)))


def log_softmax(scores: list[float]) -> list[float]:
    return [score - math.log(sum(math.exp(other) for other in scores)) for score in scores]


def plain_cross_entropy(f: Vectors, y: list[int], w: Vectors, label_smoothing: float = 0.0) -> float:
    total = 0.0
    for logits, label in zip(f, y, strict=True):
        for k, log_probability in enumerate(log_softmax(logits)):
            wanted = label_smoothing / len(logits) + (1 - label_smoothing if k == label else 0)
            total -= wanted * log_probability
    return total / len(f)


def plain_cosine(f: Vectors, y: list[int], w: Vectors) -> float:
    return sum(1 - cosine(w[label], output) for output, label in zip(f, y, strict=True)) / len(f)


def plain_absolute_cosine(f: Vectors, y: list[int], w: Vectors) -> float:
    return sum(1 - abs(cosine(w[label], output)) for output, label in zip(f, y, strict=True)) / len(f)


def plain_scaled_cosine(f: Vectors, y: list[int], w: Vectors, scale: float = 10.0) -> float:
    scores = [[scale * cosine(output, row) for row in w] for output in f]
    return sum(-log_softmax(row)[label] for row, label in zip(scores, y, strict=True)) / len(f)


def plain_cosine_and_cross_entropy(f: Vectors, y: list[int], w: Vectors, weight: float = 0.1) -> float:
    vectors, logits = [row[:DIMENSIONS] for row in f], [row[DIMENSIONS:] for row in f]
    return plain_cosine(vectors, y, w) + weight * plain_cross_entropy(logits, y, w)


def plain_hinge_rank(f: Vectors, y: list[int], w: Vectors, margin: float = 0.1) -> float:
    total = 0.0
    for output, label in zip(f, y, strict=True):
        scores = [sum(a * b for a, b in zip(output, row, strict=True)) for row in w]
        total += sum(max(0.0, margin - scores[label] + score) for j, score in enumerate(scores) if j != label)
    return total / len(f)


def plain_soft_labels(f: Vectors, y: list[int], w: Vectors, sharpness: float = 5.0) -> float:
    total = 0.0
    for logits, label in zip(f, y, strict=True):
        weights = [math.exp(-sharpness * (1 - cosine(w[k], w[label]))) for k in range(len(w))]
        for weight, log_probability in zip(weights, log_softmax(logits), strict=True):
            total -= weight / sum(weights) * log_probability
    return total / len(f)


def plain_relative_uncertainty(
    f: Vectors, y: list[int], w: Vectors, dimensions: int = 64, weighted: bool = True
) -> float:
    logits, z = [row[: len(w)] for row in f], [row[len(w) :] for row in f]
    count = len(f)
    means = [sum(row[d] for row in z) / count for d in range(dimensions)]
    stds = [math.sqrt(sum((row[d] - mean) ** 2 for row in z) / count + 1e-5) for d, mean in enumerate(means)]
    u = [sum(math.exp((v - mean) / std) for v, mean, std in zip(row, means, stds, strict=True)) for row in z]
    total = 0.0
    for i in range(count):
        a = u[i] / (u[i] + u[i - 1]) if weighted else 0.5
        mixed = log_softmax([a * s + (1 - a) * t for s, t in zip(logits[i], logits[i - 1], strict=True)])
        total -= (mixed[y[i]] + mixed[y[i - 1]]) / 2
    return total / count


def plain_self_cure(f: Vectors, y: list[int], w: Vectors, margin: float = 0.07, share: float = 0.7) -> float:
    weights = [1 / (1 + math.exp(-row[-1])) for row in f]
    logits = [[a * score for score in row[:-1]] for a, row in zip(weights, f, strict=True)]
    ranked, upper = sorted(weights, reverse=True), max(1, int(share * len(f)))
    rest = ranked[upper:]
    gap = sum(ranked[:upper]) / upper - sum(rest) / len(rest) if rest else math.inf
    return plain_cross_entropy(logits, y, w) + max(0.0, margin - gap)


def visited(count: int) -> list[int]:
    """The samples that the README's loops visit."""
    return [0, *range(1, count - 2)]


def plain_original_first(f: Vectors, y: list[int], w: Vectors) -> float:
    return sum(-cosine(w[y[i]], f[i]) for i in visited(len(f)))


def plain_original_second(f: Vectors, y: list[int], w: Vectors) -> float:
    return sum(abs(cosine(w[1], f[i])) for i in visited(len(f))) / len(f)


PLAIN: dict[str, Callable[..., float]] = {
    "cross_entropy": plain_cross_entropy,
    "cosine": plain_cosine,
    "absolute_cosine": plain_absolute_cosine,
    "scaled_cosine": plain_scaled_cosine,
    "cosine_and_cross_entropy": plain_cosine_and_cross_entropy,
    "hinge_rank": plain_hinge_rank,
    "soft_labels": plain_soft_labels,
    "relative_uncertainty": plain_relative_uncertainty,
    "self_cure": plain_self_cure,
    "original_first": plain_original_first,
    "original_second": plain_original_second,
}


def test_every_loss_has_a_plain_counterpart_and_every_option_a_case() -> None:
    assert set(PLAIN) == set(LOSSES)
    for name, kind in LOSSES.items():
        fields = {field.name for field in dataclasses.fields(kind)} - {"targets"}  # type: ignore[arg-type]
        assert fields == {option for options in OPTIONS.get(name, []) for option in options}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_value_is_that_of_plain_python(name: str, options: dict[str, float], size: int) -> None:
    loss = make(name, options)
    output, labels = batch(size, loss)
    expected = PLAIN[name](output.tolist(), labels.tolist(), loss.targets.tolist(), **options)
    assert loss(output, labels).shape == ()
    assert loss(output, labels).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    in_float32 = loss_of(name, loss.targets.float(), **options)
    assert in_float32(output.float(), labels).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradient_is_that_of_finite_differences(name: str, options: dict[str, float], size: int) -> None:
    loss = make(name, options)
    output, labels = batch(size, loss)
    leaf = output.clone().requires_grad_()
    loss(leaf, labels).backward()
    assert leaf.grad is not None

    step = 1e-6
    generator = torch.Generator().manual_seed(2)
    for _ in range(12):  # directions across the whole batch, then single numbers
        direction = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        slope = (loss(output + step * direction, labels) - loss(output - step * direction, labels)) / (2 * step)
        assert (leaf.grad * direction).sum().item() == pytest.approx(slope.item(), rel=1e-6, abs=1e-8)
    for row in {0, max(0, size - 3), size - 1}:
        for column in range(output.shape[1]):
            direction = torch.zeros_like(output)
            direction[row, column] = step
            slope = (loss(output + direction, labels) - loss(output - direction, labels)) / (2 * step)
            assert leaf.grad[row, column].item() == pytest.approx(slope.item(), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_zero_output_gives_a_finite_loss_and_gradient(name: str, options: dict[str, float], dtype: torch.dtype) -> None:
    loss = loss_of(name, random_targets().to(dtype), **options)
    output, labels = batch(5, loss)
    for zeros in ([0], [0, 1, 2, 3, 4]):
        leaf = output.to(dtype, copy=True)
        leaf[zeros] = 0
        leaf.requires_grad_()
        value = loss(leaf, labels)
        value.backward()
        assert leaf.grad is not None
        assert torch.isfinite(value)
        assert torch.isfinite(leaf.grad).all()
        assert torch.isfinite(loss.scores(leaf)).all()


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "original_second"])
def test_minimising_the_loss_makes_the_scores_name_the_label(name: str) -> None:
    """Descend from a random start, one sample per class; two more, since the originals skip the last two."""
    loss = make(name, {})
    labels = torch.tensor([*range(CLASSES), 0, 1])
    output = batch(len(labels), loss)[0].requires_grad_()
    optimizer = torch.optim.Adam([output], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss(output, labels).backward()
        optimizer.step()
    scores = loss.scores(output)
    assert scores.shape == (len(labels), CLASSES)
    assert scores[:CLASSES].argmax(dim=1).tolist() == list(range(CLASSES))


def test_the_second_original_does_not_know_the_labels() -> None:
    """Minimising it turns every output away from the second label, whatever the right one is."""
    loss = make("original_second", {})
    output, labels = batch(20, loss)
    assert loss(output, labels) == loss(output, (labels + 3) % CLASSES)
    output.requires_grad_()
    optimizer = torch.optim.Adam([output], lr=0.01)
    for _ in range(500):
        optimizer.zero_grad()
        loss(output, labels).backward()
        optimizer.step()
    assert loss.scores(output)[:-2, 1].max().item() < 0.02


@pytest.mark.parametrize("name", ["original_first", "original_second"])
def test_the_originals_give_the_last_two_samples_no_gradient(name: str) -> None:
    loss = make(name, {})
    output, labels = batch(6, loss)
    output.requires_grad_()
    loss(output, labels).backward()
    assert output.grad is not None
    assert output.grad.abs().sum(dim=1).gt(0).tolist() == [True] * 4 + [False] * 2


# The original README's classes, statement by statement. `.numpy().tolist()` is `.tolist()` on numpy arrays.
# Keras: cosine_similarity(a, b) and CosineSimilarity()(a, b) of two vectors are *minus* their cosine.

README_ORDER = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def keras_cosine_similarity(a: Any, b: Any) -> float:
    a, b = np.asarray(a), np.asarray(b)
    return -float(np.sum(a / np.linalg.norm(a) * (b / np.linalg.norm(b))))


def readme_first(weight: list[np.ndarray], y_true: np.ndarray, y_pred: np.ndarray) -> float:
    y_true_n = y_true.tolist()[0]
    t = weight[y_true_n.index(int(max(y_true_n)))]
    y_pred_n = y_pred.tolist()[0]
    loss = keras_cosine_similarity(t, y_pred_n)
    for i in range(1, len(y_true.tolist()) - 2):
        y_true_n = y_true.tolist()[i]
        t = weight[y_true_n.index(int(max(y_true_n)))]
        y_pred_n = y_pred.tolist()[i]
        loss += keras_cosine_similarity(t, y_pred_n)
    return float(np.sum(loss))


def readme_second(weight: list[np.ndarray], y_true: np.ndarray, y_pred: np.ndarray) -> float:
    batch_size = len(y_true)
    y_true_n = y_true.tolist()[0]
    y_pred_n = y_pred.tolist()[0]
    difference_n = abs(keras_cosine_similarity(weight[int(max(y_true_n))], y_pred_n))
    for n in range(1, len(y_true.tolist()) - 2):
        y_true_n = y_true.tolist()[n]
        y_pred_n = y_pred.tolist()[n]
        difference = abs(keras_cosine_similarity(weight[int(max(y_true_n))], y_pred_n))
        difference_n = difference + difference_n
    return float(difference_n / batch_size)


@pytest.mark.parametrize("size", [*SIZES, 4, 5])
@pytest.mark.parametrize(("name", "readme"), [("original_first", readme_first), ("original_second", readme_second)])
def test_the_originals_are_the_readmes_loops(
    name: str, readme: Callable[[list[np.ndarray], np.ndarray, np.ndarray], float], size: int
) -> None:
    """Labels are paired by name: the README's order of the classes is not FER-2013's."""
    loss = make(name, {})
    output, labels = batch(size, loss, seed=size)
    weight = [loss.targets[LABELS.index(label)].numpy() for label in README_ORDER]
    one_hot = np.zeros((size, CLASSES))
    one_hot[np.arange(size), [README_ORDER.index(LABELS[label]) for label in labels]] = 1.0
    expected = readme(weight, one_hot, output.numpy())
    assert loss(output, labels).item() == pytest.approx(expected, rel=1e-12)


def test_cosines_of_every_pair() -> None:
    targets = random_targets()
    output, labels = batch(9, make("cosine", {}))
    table = cosines(output, 3 * targets)  # lengths do not matter
    for n in range(9):
        for k in range(CLASSES):
            assert table[n, k].item() == pytest.approx(cosine(output[n].tolist(), targets[k].tolist()))
        assert cosines_to_label(output, labels, targets)[n].item() == pytest.approx(table[n, labels[n]].item())


@pytest.mark.parametrize("name", ["cosine", "absolute_cosine", "scaled_cosine", "original_first", "original_second"])
def test_losses_on_vectors_ignore_the_length_of_the_output(name: str) -> None:
    loss = make(name, {})
    output, labels = batch(8, loss)
    assert loss(1000 * output, labels).item() == pytest.approx(loss(output, labels).item())
    torch.testing.assert_close(loss.scores(1000 * output), loss.scores(output))


@pytest.mark.parametrize("name", LOSSES)
def test_outputs_are_as_many_as_the_loss_says(name: str) -> None:
    loss = make(name, {})
    more = {"cosine_and_cross_entropy": CLASSES, "relative_uncertainty": 64, "self_cure": 1}
    assert loss.output_dim == (CLASSES if isinstance(loss, LogitLoss) else DIMENSIONS) + more.get(name, 0)
    output, _ = batch(4, loss)
    assert loss.scores(output).shape == (4, CLASSES)
    if isinstance(loss, EmbeddingLoss):
        torch.testing.assert_close(loss.cosines(output), cosines(output[:, :DIMENSIONS], loss.targets))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_losses_are_made_by_name_from_targets_of_any_precision(name: str, options: dict[str, float]) -> None:
    made = make_loss(name, options, random_targets().numpy())
    assert type(made) is LOSSES[name]
    assert made.targets.dtype == torch.float32
    output, labels = batch(9, made)
    expected = make(name, options)(output, labels)
    assert made(output.float(), labels).item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].probabilistic])
def test_the_softmax_of_the_scores_is_what_a_probabilistic_loss_trains(name: str) -> None:
    """Over labels that occur with shares p, the loss is smallest where softmax(scores) is p: it is proper.

    The options are such that labels are not softened and the cosine beside cross-entropy weighs nothing.
    """
    options = {"soft_labels": {"sharpness": 1e4}, "cosine_and_cross_entropy": {"weight": 1e4}}
    loss = loss_of(name, torch.eye(CLASSES, dtype=torch.float64), **options.get(name, {}))
    wanted = torch.tensor([4, 3, 1, 1, 1, 1, 1])
    labels = torch.repeat_interleave(torch.arange(CLASSES), wanted)
    output = 0.1 * batch(1, loss)[0]
    output.requires_grad_()
    optimizer = torch.optim.LBFGS([output], max_iter=300, line_search_fn="strong_wolfe")

    def value() -> torch.Tensor:
        optimizer.zero_grad()
        risk = loss(output.expand(len(labels), -1), labels)
        risk.backward()
        return risk

    optimizer.step(value)
    found = loss.scores(output).softmax(1)[0].detach()
    torch.testing.assert_close(found, wanted / wanted.sum(), atol=1e-3, rtol=1e-3, check_dtype=False)


def test_very_sharp_soft_labels_are_cross_entropy_and_flat_ones_are_uniform() -> None:
    output, labels = batch(9, make("cross_entropy", {}))
    sharp, flat = make("soft_labels", {"sharpness": 1e4}), make("soft_labels", {"sharpness": 1e-9})
    assert sharp(output, labels).item() == pytest.approx(make("cross_entropy", {})(output, labels).item())
    uniform = -output.log_softmax(1).mean()
    assert flat(output, labels).item() == pytest.approx(uniform.item())


def test_hinge_rank_is_zero_once_every_class_is_a_margin_behind() -> None:
    loss = HingeRank(torch.eye(CLASSES, dtype=torch.float64), margin=0.5)
    output = 0.5 * torch.eye(CLASSES, dtype=torch.float64)
    labels = torch.arange(CLASSES)
    assert loss(output, labels).item() == pytest.approx(0, abs=1e-15)
    assert loss(0.9 * output, labels).item() == pytest.approx(6 * 0.05)


@pytest.mark.parametrize(("name", "options"), [case for case in SOFT if case[0] not in OF_THE_BATCH])
@pytest.mark.parametrize("size", SIZES)
def test_the_loss_under_each_label_is_the_loss_of_that_label(name: str, options: dict[str, float], size: int) -> None:
    loss = soft_loss(make(name, options))
    output, labels = batch(size, loss)
    each = loss.under_each(output)
    assert each.shape == (size, CLASSES)
    for k in range(CLASSES):
        alone = [loss(output[b : b + 1], labels.new_tensor([k])) for b in range(size)]
        torch.testing.assert_close(each[:, k], torch.stack(alone))


@pytest.mark.parametrize(("name", "options"), SOFT)
def test_one_hot_labels_give_the_loss_and_its_gradient(name: str, options: dict[str, float]) -> None:
    loss = soft_loss(make(name, options))
    output, labels = batch(17, loss)
    output.requires_grad_()
    one_hot = torch.nn.functional.one_hot(labels, CLASSES).double()
    gradients = []
    for value in (loss(output, labels), expected_loss(loss, output, one_hot)):
        gradients.append((value.detach(), *torch.autograd.grad(value, output)))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("name", "options"), SOFT)
def test_soft_labels_and_weights_are_a_plain_sum(name: str, options: dict[str, float]) -> None:
    loss = soft_loss(make(name, options))
    output, _ = batch(5, loss)
    generator = torch.Generator().manual_seed(2)
    labels = torch.rand(5, CLASSES, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.0, 1.0, 0.5, 2.0, 0.25], dtype=torch.float64)
    each = loss.under_each(output).tolist()
    sums = [sum(q * v for q, v in zip(*pair, strict=True)) for pair in zip(labels.tolist(), each, strict=True)]
    plain = sum(w * s for w, s in zip(weights.tolist(), sums, strict=True)) / 3.75
    assert expected_loss(loss, output, labels, weights).item() == pytest.approx(plain)
    assert expected_loss(loss, output, labels).item() == pytest.approx(sum(sums) / 5)
    assert expected_loss(loss, output, labels, 0 * weights).item() == 0  # and not a division by nothing


@pytest.mark.parametrize("name", ["original_first", "original_second"])
def test_the_originals_have_no_value_for_an_image_and_a_class(name: str) -> None:
    with pytest.raises(ValueError, match="no value for each image and class"):
        soft_loss(make(name, {}))


def test_self_cure_with_weights_of_one_and_no_margin_is_cross_entropy() -> None:
    loss = make("self_cure", {"margin": 0.0})
    output, labels = batch(17, loss)
    output[:, -1] = 50
    expected = torch.nn.functional.cross_entropy(output[:, :-1], labels)
    assert loss(output, labels).item() == pytest.approx(expected.item(), abs=1e-12)


def test_relative_uncertainty_of_equal_images_is_cross_entropy() -> None:
    loss = make("relative_uncertainty", {})
    one, _ = batch(1, loss)
    output, labels = one.expand(9, -1), torch.full((9,), 2)
    expected = torch.nn.functional.cross_entropy(loss.scores(output), labels)
    assert loss(output, labels).item() == pytest.approx(expected.item(), abs=1e-12)


def test_of_a_pair_the_more_uncertain_image_weighs_more_and_is_told() -> None:
    loss = make("relative_uncertainty", {"dimensions": 4})
    assert isinstance(loss, UncertaintyLoss)
    sure, unsure = torch.zeros(1, CLASSES + 4), torch.zeros(1, CLASSES + 4)
    unsure[:, CLASSES:] = 1.0
    unsure[0, 0] = 1.0  # its logits alone have anything to say
    output = torch.cat([sure, unsure]).double()
    assert loss.uncertainty(output).tolist() == pytest.approx([math.exp(-1), math.e], rel=1e-3)
    share = math.e / (math.e + math.exp(-1))
    mixed = torch.tensor([share] + 6 * [0.0], dtype=torch.float64)
    expected = -mixed.log_softmax(0)[0]
    assert loss(output, torch.tensor([0, 0])).item() == pytest.approx(expected.item(), rel=1e-4)


def test_self_cure_is_uncertain_where_its_weight_is_small() -> None:
    loss = make("self_cure", {})
    assert isinstance(loss, UncertaintyLoss)
    output, _ = batch(5, loss)
    expected = [1 - 1 / (1 + math.exp(-value)) for value in output[:, -1].tolist()]
    assert loss.uncertainty(output).tolist() == pytest.approx(expected)
