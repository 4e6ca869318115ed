"""Hold one split in memory, under its own labels or others (see `labels.truth`)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.data.fer import FerData
from pipeline.labels.truth import TrainingLabels
from pipeline.training.losses import Loss, expected_loss, soft_loss

LABEL_STREAM = 1
"""Tells the generator of drawn labels from that of augmentation, which has stream 0."""


def _tensor(array: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


@dataclass(frozen=True)
class Images:
    """One split in memory: uint8 [N, 1, H, W] and int64 [N].

    The rest is None unless a model trains on other labels (see `labels.truth`).
    soft: float32 [N, K], the label distribution of each image.
    weights: float32 [N].
    rows: int64 [N], the image in each of the N places of an epoch.
    drawn: whether each epoch draws one label per image from `soft`.
    neighbours: int64 [N, k], rows of the images with the most similar landmarks; affinities: float32 [N, k].
    """

    pixels: Tensor
    labels: Tensor
    soft: Tensor | None = None
    weights: Tensor | None = None
    rows: Tensor | None = None
    drawn: bool = False
    neighbours: Tensor | None = None
    affinities: Tensor | None = None

    @classmethod
    def of(cls, data: FerData, split: str) -> Images:
        """Return the images and labels of one split of a data set."""
        rows = data.rows(split)
        return cls(torch.from_numpy(data.images[rows])[:, None], torch.from_numpy(data.labels[rows].astype(np.int64)))

    def with_labels(self, truth: TrainingLabels, split: str) -> Images:
        """Return the same images under other labels."""
        if split == "val":
            return self if truth.val_labels is None else replace(self, labels=_tensor(truth.val_labels).long())
        return replace(
            self,
            labels=self.labels if truth.labels is None else _tensor(truth.labels).long(),
            soft=None if truth.soft is None else _tensor(truth.soft),
            weights=None if truth.weights is None else _tensor(truth.weights),
            rows=None if truth.rows is None else _tensor(truth.rows).long(),
            drawn=truth.drawn is not None,
            neighbours=None if truth.neighbours is None else _tensor(truth.neighbours).long(),
            affinities=None if truth.affinities is None else _tensor(truth.affinities),
        )

    def to(self, device: str) -> Images:
        """Copy the images to a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    def labels_in(self, epoch: int, seed: int) -> Tensor:
        """Return the label of each image in one epoch, int64 [N]; where labels are drawn, by a generator of its own."""
        if self.soft is None or not self.drawn:
            return self.labels
        generator = torch.Generator().manual_seed((LABEL_STREAM << 60) + (seed << 20) + epoch)
        drawn = torch.multinomial(self.soft.cpu(), 1, generator=generator)[:, 0]
        return drawn.to(self.labels.device)

    def batch(self, places: Tensor, labels: Tensor) -> BatchLabels:
        """Return the labels of the images in these places of an epoch [B]; labels: as `labels_in` gives them."""
        rows = self.images_in(places)
        soft = None if self.soft is None or self.drawn else self.soft[rows]
        return BatchLabels(labels[rows], soft, None if self.weights is None else self.weights[rows])

    def images_in(self, places: Tensor) -> Tensor:
        """Return the images in these places of an epoch: int64 [B]."""
        return places if self.rows is None else self.rows[places]

    def in_places(self) -> Images:
        """Return the images of an epoch as they stand in its places, each for itself, without neighbours."""
        if self.rows is None:
            return self
        of_image: dict[str, Any] = {
            name: value[self.rows]
            for name in ("pixels", "labels", "soft", "weights")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **of_image, rows=None, neighbours=None, affinities=None)

    def grey_levels(self) -> tuple[float, float]:
        """Return mean and standard deviation over all pixels, to four decimals."""
        counts = torch.bincount(self.pixels.flatten(), minlength=256).double()  # no copy in a wider type
        levels = torch.arange(256, dtype=torch.float64)
        mean = counts @ levels / counts.sum()
        variance = counts @ (levels - mean).square() / counts.sum()
        return round(float(mean), 4), round(float(variance.sqrt()), 4)


@dataclass(frozen=True)
class BatchLabels:
    """Of B images: hard, int64 [B]; soft, float32 [B, K], and weights, float32 [B], or None."""

    hard: Tensor
    soft: Tensor | None = None
    weights: Tensor | None = None

    def value(self, loss: Loss, output: Tensor) -> Tensor:
        """Return the loss of a batch.

        Hard labels without weights use the loss's own formula, whose rounding differs from `expected_loss`.
        """
        if self.soft is None and self.weights is None:
            return loss(output, self.hard)
        soft = self.distributions(len(loss.targets))
        return expected_loss(soft_loss(loss), output, soft, self.weights)

    def distributions(self, classes: int) -> Tensor:
        """Return the label distribution of each image: float32 [B, K], one-hot where there is none."""
        if self.soft is not None:
            return self.soft
        # Not `one_hot`, which reads the labels back to check them.
        return (self.hard[:, None] == torch.arange(classes, device=self.hard.device)).float()
