"""Mixes against plain loops, and the labels with the pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.training.images import BatchLabels
from pipeline.training.losses import CrossEntropy
from pipeline.training.mix import MIXES, CutMix, Mix, Mixture, MixUp, mixed_labels

CLASSES, SIZE, COUNT = 7, 12, 4000


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    own, other = torch.rand(2, 5, 1, SIZE, SIZE, generator=generator)
    return own, other


def drawn(mix: Mix) -> Mixture:
    return mix.draw(COUNT, SIZE, np.random.default_rng(1))


def test_cutmix_pastes_its_box_and_keeps_the_label_by_the_area_that_is_left() -> None:
    mix = CutMix(share=1.0)
    mixture = mix.draw(5, SIZE, np.random.default_rng(1))
    own, other = pair()
    found = mix.images(own, other, mixture)
    for n, (top, bottom, left, right) in enumerate(mixture.boxes.tolist()):
        expected, pasted = own[n].clone(), 0
        for row in range(top, bottom):
            for column in range(left, right):
                expected[0, row, column] = other[n, 0, row, column]
                pasted += 1
        assert torch.equal(found[n], expected)
        assert mixture.kept[n].item() == pytest.approx(1 - pasted / SIZE**2)


def test_mixup_averages_pixels_by_the_label() -> None:
    mix = MixUp(share=1.0)
    mixture = mix.draw(5, SIZE, np.random.default_rng(1))
    own, other = pair()
    for n, kept in enumerate(mixture.kept.tolist()):
        torch.testing.assert_close(mix.images(own, other, mixture)[n], kept * own[n] + (1 - kept) * other[n])


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_concerns_its_share_of_the_images(name: str) -> None:
    mixture = drawn(MIXES[name](share=0.3))  # type: ignore[call-arg]
    assert (mixture.kept < 1).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert mixture.kept.min() >= 0


@pytest.mark.parametrize("name", MIXES)
def test_a_share_of_nothing_leaves_images_and_labels(name: str) -> None:
    mix: Mix = MIXES[name](share=0.0)  # type: ignore[call-arg]
    mixture = mix.draw(5, SIZE, np.random.default_rng(1))
    own, other = pair()
    assert torch.equal(mix.images(own, other, mixture), own)
    loss = CrossEntropy(torch.eye(CLASSES))
    output, labels = torch.randn(5, CLASSES), BatchLabels(torch.arange(5))
    mixed = mixed_labels(labels, mixture.kept, CLASSES)
    assert mixed.value(loss, output).item() == pytest.approx(labels.value(loss, output).item(), abs=1e-6)


def test_the_strength_follows_alpha() -> None:
    """Beta(alpha, alpha) has the variance 1 / (4 (2 alpha + 1))."""
    for alpha in (0.3, 1.0, 4.0):
        kept = drawn(MixUp(share=1.0, alpha=alpha)).kept
        assert kept.mean().item() == pytest.approx(0.5, abs=0.03)
        assert kept.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_the_loss_of_mixed_labels_is_the_mixed_loss() -> None:
    """kept L(y_i) + (1 - kept) L(y_j), weighted as the two images are."""
    loss = CrossEntropy(torch.eye(CLASSES).double())
    output = torch.randn(3, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hard, kept = torch.tensor([2, 0, 6]), torch.tensor([0.75, 1.0, 0.25])
    weights = torch.tensor([1.0, 0.5, 2.0])
    surprise = (-output.log_softmax(1)).tolist()
    plain = sum(k * surprise[i][hard[i]] + (1 - k) * surprise[i][hard[i - 1]] for i, k in enumerate(kept.tolist()))
    assert mixed_labels(BatchLabels(hard), kept, CLASSES).value(loss, output).item() == pytest.approx(plain / 3)
    v = weights.tolist()
    weighed = sum(
        k * v[i] * surprise[i][hard[i]] + (1 - k) * v[i - 1] * surprise[i][hard[i - 1]]
        for i, k in enumerate(kept.tolist())
    )
    total = sum(k * v[i] + (1 - k) * v[i - 1] for i, k in enumerate(kept.tolist()))
    mixed = mixed_labels(BatchLabels(hard, weights=weights), kept, CLASSES)
    assert mixed.value(loss, output).item() == pytest.approx(weighed / total)


def test_images_without_weight_mix_to_none() -> None:
    labels = BatchLabels(torch.tensor([1, 2]), weights=torch.zeros(2))
    mixed = mixed_labels(labels, torch.tensor([0.5, 0.5]), CLASSES)
    assert mixed.value(CrossEntropy(torch.eye(CLASSES)), torch.randn(2, CLASSES)) == 0
