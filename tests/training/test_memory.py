"""Each memory against plain arithmetic over a few epochs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.training.images import BatchLabels, Images
from pipeline.training.memory import MEMORIES, Memory, Neighbours, Relabel, SmallLoss, restore

CLASSES = 3
GIVEN = torch.tensor([0, 1, 2, 0, 1])
IMAGES = Images(
    torch.zeros(5, 1, 8, 8, dtype=torch.uint8), GIVEN,
    neighbours=torch.tensor([[1, 2], [0, 2], [4, 0], [0, 1], [3, 0]]),
    affinities=torch.tensor([[3.0, 1.0], [1.0, 1.0], [0.5, 0.0], [0.0, 0.0], [1.0, 3.0]]),
)  # fmt: skip
ROWS = torch.tensor([3, 0, 4])


def scores(*probabilities: tuple[float, float, float]) -> Tensor:
    return torch.tensor(probabilities).log()


def hard(memory: Memory) -> list[int]:
    """The labels of all images as a step would learn them."""
    return memory.labels(torch.arange(5), BatchLabels(GIVEN)).hard.tolist()


def test_relabelling_waits_then_follows_a_clearly_higher_probability() -> None:
    memory = Relabel(start=0.5, margin=0.2).make(IMAGES, CLASSES)
    said = scores((0.35, 0.5, 0.15), (0.1, 0.31, 0.59), (0.2, 0.6, 0.2))
    memory.start_epoch(1, 4)
    memory.add(ROWS, said)
    assert hard(memory) == GIVEN.tolist()
    memory.start_epoch(2, 4)
    memory.add(ROWS, said)  # .5 - .35 is less than the margin, .59 - .1 more, and the last is as labelled
    assert hard(memory) == [2, 1, 2, 0, 1]
    memory.add(torch.tensor([0]), scores((0.45, 0.3, 0.25)))  # less than the margin above its new label
    memory.add(torch.tensor([1]), scores((0.7, 0.1, 0.2)))
    assert hard(memory) == [2, 0, 2, 0, 1]
    assert IMAGES.labels.tolist() == GIVEN.tolist()


def test_with_a_margin_of_one_no_label_changes() -> None:
    memory = Relabel(start=0.0, margin=1.0).make(IMAGES, CLASSES)
    memory.start_epoch(0, 4)
    memory.add(ROWS, scores((1e-9, 1 - 2e-9, 1e-9), (1e-9, 1e-9, 1 - 2e-9), (1, 1e-9, 1e-9)))
    assert hard(memory) == GIVEN.tolist()


def test_weights_of_the_labels_stay_with_a_new_label() -> None:
    memory = Relabel().make(IMAGES, CLASSES)
    weights = torch.tensor([1.0, 2.0, 3.0])
    assert memory.labels(ROWS, BatchLabels(GIVEN[ROWS], weights=weights)).weights is weights


def test_the_least_likely_labels_are_dropped_after_a_start() -> None:
    memory = SmallLoss(start=0.5, dropped=0.4).make(IMAGES, CLASSES)
    everyone = torch.arange(5)

    def kept() -> list[float]:
        weights = memory.labels(everyone, BatchLabels(GIVEN)).weights
        assert weights is not None
        return weights.tolist()

    # Of the given label: .2, .5, .7, .4, .1
    said = scores((0.2, 0.4, 0.4), (0.2, 0.5, 0.3), (0.1, 0.2, 0.7), (0.4, 0.3, 0.3), (0.8, 0.1, 0.1))
    memory.start_epoch(0, 4)
    memory.add(everyone, said)
    memory.start_epoch(1, 4)
    assert kept() == [1, 1, 1, 1, 1]
    memory.start_epoch(2, 4)
    assert kept() == [0, 1, 1, 1, 0]
    doubled = memory.labels(everyone, BatchLabels(GIVEN, weights=torch.full((5,), 2.0)))
    assert doubled.weights is not None
    assert doubled.weights.tolist() == [0, 2, 2, 2, 0]
    memory.add(everyone, scores(*[(0.98, 0.01, 0.01)] * 5))  # the mean of both epochs, and of the uniform start
    memory.start_epoch(3, 4)
    assert kept() == [1, 0, 1, 1, 0]


@pytest.mark.parametrize("start", [0.0, 0.9])
def test_nothing_is_dropped_before_anything_was_said_nor_for_a_share_of_nothing(start: float) -> None:
    memory = SmallLoss(start=start, dropped=0.4).make(IMAGES, CLASSES)
    memory.start_epoch(0, 4)
    weights = memory.labels(ROWS, BatchLabels(GIVEN[ROWS])).weights
    assert weights is not None
    assert weights.tolist() == [1, 1, 1]
    none = SmallLoss(start=0.0, dropped=0.0).make(IMAGES, CLASSES)
    none.start_epoch(3, 4)
    weights = none.labels(ROWS, BatchLabels(GIVEN[ROWS])).weights
    assert weights is not None
    assert weights.tolist() == [1, 1, 1]


def test_neighbours_share_their_mean_predictions() -> None:
    memory = Neighbours(weight=0.5).make(IMAGES, CLASSES)
    said = {0: (0.8, 0.1, 0.1), 1: (0.2, 0.6, 0.2), 2: (0.1, 0.1, 0.8), 3: (0.4, 0.3, 0.3), 4: (0.3, 0.3, 0.4)}
    memory.start_epoch(0, 3)
    first = memory.labels(ROWS, BatchLabels(GIVEN[ROWS]))
    assert first.soft is None  # nothing has been said yet
    memory.add(torch.arange(5), scores(*said.values()))
    for epoch, share in ((1, 0.25), (2, 0.5)):
        memory.start_epoch(epoch, 3)
        found = memory.labels(torch.arange(5), BatchLabels(GIVEN)).soft
        assert found is not None
        assert IMAGES.neighbours is not None
        assert IMAGES.affinities is not None
        for i in range(5):
            affinity = IMAGES.affinities[i].tolist()
            for k in range(CLASSES):
                own = float(GIVEN[i] == k)
                if sum(affinity) == 0:  # no landmarks were found
                    assert found[i, k].item() == own
                    continue
                around = sum(
                    a * (said[j][k] + 1 / CLASSES) / 2
                    for a, j in zip(affinity, IMAGES.neighbours[i].tolist(), strict=True)
                ) / sum(affinity)
                assert found[i, k].item() == pytest.approx((1 - share) * own + share * around, abs=1e-6)


def test_neighbours_of_no_weight_change_nothing() -> None:
    memory, labels = Neighbours(weight=0.0).make(IMAGES, CLASSES), BatchLabels(GIVEN[ROWS])
    memory.start_epoch(2, 3)
    assert memory.labels(ROWS, labels) is labels


def test_soft_labels_are_mixed_with_those_of_the_neighbours() -> None:
    memory = Neighbours(weight=0.5).make(IMAGES, CLASSES)
    memory.start_epoch(1, 2)
    soft = torch.full((3, CLASSES), 1 / CLASSES)
    found = memory.labels(ROWS, BatchLabels(GIVEN[ROWS], soft)).soft
    assert found is not None
    torch.testing.assert_close(found, soft)


def test_images_without_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="no neighbours"):
        Neighbours().make(replace(IMAGES, neighbours=None), CLASSES)


@pytest.mark.parametrize("name", MEMORIES)
def test_what_a_memory_holds_is_restored(name: str) -> None:
    def told() -> Memory:
        memory = MEMORIES[name]().make(IMAGES, CLASSES)
        memory.start_epoch(3, 4)
        memory.add(ROWS, scores((0.05, 0.9, 0.05), (0.05, 0.05, 0.9), (0.05, 0.9, 0.05)))
        return memory

    first, second = told(), MEMORIES[name]().make(IMAGES, CLASSES)
    restore(second, {key: tensor.clone() for key, tensor in first.tensors.items()})
    for memory in (first, second):
        memory.start_epoch(3, 4)
    wanted, found = (m.labels(torch.arange(5), BatchLabels(GIVEN)) for m in (first, second))
    assert torch.equal(wanted.hard, found.hard)
    for one, other in ((wanted.soft, found.soft), (wanted.weights, found.weights)):
        assert (one is None and other is None) or torch.equal(one, other)  # type: ignore[arg-type]
