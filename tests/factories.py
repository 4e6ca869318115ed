"""Made-up runs and rows whose answers are known, for tests of what is concluded and shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import confusion_matrix, recall_score
from torch import Tensor

from pipeline.comparison.families import Family
from pipeline.comparison.records import RunRecord
from pipeline.comparison.rows import ComparisonRow, MetricSummary, PairedTest
from pipeline.data.fer import LABELS
from pipeline.training.consistency import FlipMaps, ScaleMaps
from pipeline.training.images import Images
from pipeline.training.losses import LOSSES, Loss
from pipeline.training.memory import Neighbours, Relabel, SmallLoss
from pipeline.training.method import AutoAugment, Method
from pipeline.training.mix import CutMix, MixUp

IMAGES = 700
ACTUAL = np.random.default_rng(9).integers(0, len(LABELS), IMAGES)


def made_up(
    seed: int, skill: float, targets: str = "one_hot", loss: str = "cosine", gram: npt.NDArray[np.float64] | None = None
) -> RunRecord:
    """Decisions that are right with the chance `skill`, and probabilities whose arg-max they are."""
    rng = np.random.default_rng([seed, int(1000 * skill)])
    predicted = np.where(rng.random(IMAGES) < skill, ACTUAL, rng.integers(0, len(LABELS), IMAGES))
    probabilities = rng.dirichlet(np.full(len(LABELS), 0.3), IMAGES)
    top = probabilities.argmax(axis=1)
    rows = np.arange(IMAGES)
    probabilities[rows, top], probabilities[rows, predicted] = (
        probabilities[rows, predicted],
        probabilities.max(axis=1),
    )
    right = predicted == ACTUAL
    recalls = recall_score(ACTUAL, predicted, average=None, labels=range(len(LABELS)))
    return RunRecord(
        metrics={
            "decoder": "argmax", "decoders": {}, "loss": loss, "targets": targets,
            "settings": {"loss": {"name": loss, "options": {}, "targets": targets}},
            "training": {"precision": "bf16"}, "machine": {"threads": 1},
            "history": [{"epoch": 0, "val_accuracy": 0.5}],
            "gram": (np.eye(len(LABELS)) if gram is None else gram).tolist(),
            "confusion": confusion_matrix(ACTUAL, predicted).tolist(), "temperature": 1.0,
            "test": {
                "accuracy": float(right.mean()),
                "accuracy_flip": float(right.mean()),
                "images": IMAGES,
                "per_class": {label: {"recall": float(r)} for label, r in zip(LABELS, recalls, strict=True)},
            },
            "val": {"accuracy": 0.5}, "test_clean": {"accuracy": float(right.mean())},
        },
        index=np.arange(IMAGES, dtype=np.int32),
        actual=ACTUAL.astype(np.uint8),
        test=np.ones(IMAGES, bool),
        clean=np.ones(IMAGES, bool),
        voted=np.zeros(IMAGES, bool),
        probabilities=probabilities.astype(np.float16),
        predicted={"argmax": predicted.astype(np.uint8)},
        right_flip={"argmax": right},
        right_votes={"argmax": right},
    )  # fmt: skip


def study() -> dict[str, dict[int, RunRecord]]:
    unequal = np.full((7, 7), 0.1)
    unequal[0, 1] = unequal[1, 0] = unequal[3, 4] = unequal[4, 3] = 0.6
    np.fill_diagonal(unequal, 1.0)
    return {
        "cross_entropy": {seed: made_up(seed, 0.7, loss="cross_entropy") for seed in (0, 1, 2)},
        "cosine_one_hot": {seed: made_up(seed, 0.65) for seed in (0, 1)},
        "w2v_cosine": {seed: made_up(seed, 0.6, "word2vec", gram=unequal) for seed in (1, 2, 5)},
        "w2v_permuted": {1: made_up(1, 0.6, "word2vec.permuted", gram=unequal)},
    }


def row(
    model: str, difference: float | None, p: float = 0.5, severity: float = 0.01, *, decoder: str = "argmax",
    seeds: Sequence[int] = (0, 1, 2), val: float = 0.7,
) -> ComparisonRow:  # fmt: skip
    """A row whose accuracy is that far from the baseline's, with the corrected p; the baseline without a difference.

    Its interval ends a point above and below, and the bound for all rows at once two points above.
    """

    def summary(mean: float, value: float | None) -> MetricSummary:
        if difference is None or value is None:
            return MetricSummary(mean)
        test = PairedTest(value, value - 0.01, value + 0.01, p, p_holm=p, upper=value + 0.02)
        return MetricSummary(mean, test=test)

    metrics = {
        "val.accuracy": MetricSummary(val),
        "test.accuracy": summary(0.7, difference),
        "test.severity.human.all": summary(0.2, severity),
        "test.severity.human.mistakes": summary(0.5, 0.01),
    }
    if difference is None:
        return ComparisonRow(model, decoder, seeds, metrics)
    family: Family = "decoders" if decoder != "argmax" else "words" if model == "w2v_cosine" else "controls"
    return ComparisonRow(model, decoder, seeds, metrics, seeds, family)


def loss_of(name: str, targets: Tensor, **options: Any) -> Loss:
    """The loss of that name in the number format of its targets, where `make_loss` always takes float32."""
    kind: Callable[..., Loss] = LOSSES[name]
    return kind(targets, **options)


METHODS = {
    "cutmix": Method(mix=CutMix(share=0.7)),
    "mixup": Method(mix=MixUp(share=0.7)),
    "autoaugment": Method(policy=AutoAugment("cifar10")),
    "autoaugment alone": Method(policy=AutoAugment("imagenet", instead=True)),
    "relabel": Method(memory=Relabel(start=0.25, margin=0.01)),
    "small loss": Method(memory=SmallLoss(start=0.25, dropped=0.3)),
    "neighbours": Method(memory=Neighbours(weight=0.6)),
    "EAC": Method(consistency=FlipMaps(erase="shared")),
    "EAC, independent": Method(consistency=FlipMaps(erase="independent")),
    "VAC": Method(consistency=ScaleMaps()),
    "several": Method(memory=Relabel(start=0.25), consistency=FlipMaps(supervise="all"), policy=AutoAugment("svhn")),
    "two of a kind": Method(mix=CutMix(share=1.0), consistency=FlipMaps(weight=1.0)),
}
"""Every way to train that a row may choose besides its loss, at strengths that tell within some epochs."""


def with_neighbours(images: Images) -> Images:
    """The images with two neighbours each, some without affinity."""
    count = len(images.labels)
    rows = torch.arange(count)
    neighbours = torch.stack([(rows + 1) % count, (rows + 7) % count], 1)
    affinities = torch.tensor([1.0, 0.5]) * (rows % 5 > 0)[:, None]
    return replace(images, neighbours=neighbours, affinities=affinities)
