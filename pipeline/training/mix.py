"""Mix each image of a batch with the one before it, and their labels alike.

A mix is one entry of `MIXES` and `models.<name>.mix` in params.yaml names it. What it draws comes from a generator of
its own and is drawn before an epoch, for each place: `Mixture`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.schema import Fraction, Positive
from pipeline.training.boxes import Boxes, Floats, centred_boxes, inside
from pipeline.training.images import BatchLabels

TINY = 1e-12
"""Smallest total weight that labels are divided by."""


@dataclass(frozen=True)
class Mixture:
    """How the images in the N places of an epoch are mixed.

    kept: float32 [N], the share of an image's own label, 1 where it is not mixed. boxes: int64 [N, 4], what is pasted
    from the image before it; all zero where pixels are averaged instead.
    """

    kept: Tensor
    boxes: Tensor

    def to(self, device: str) -> Mixture:
        """Copy to a device."""
        return Mixture(self.kept.to(device), self.boxes.to(device))

    def of(self, places: Tensor) -> Mixture:
        """Return that of some places."""
        return Mixture(self.kept[places], self.boxes[places])


class Mix(Protocol):
    """A way to mix images in pairs."""

    def draw(self, count: int, size: int, random: np.random.Generator) -> Mixture:
        """Draw the mixture of `count` images of this side."""
        ...

    def images(self, own: Tensor, other: Tensor, mixture: Mixture) -> Tensor:
        """Mix images float [B, 1, S, S] with as many others; the mixture is that of the B images."""
        ...


@dataclass(frozen=True)
class CutMix:
    """A box of the other image replaces that part of an image (Yun et al., ICCV 2019).

    The box has the area share 1 - b with b from Beta(alpha, alpha), a uniform centre, and is clipped at the border; the
    label is `kept` y_i + (1 - `kept`) y_j with `kept` the share of the area that is left. An image is mixed with the
    chance `share`. The published code draws one box for a batch; here every image has its own.
    """

    share: Fraction = 0.5
    alpha: Positive = 1.0

    def draw(self, count: int, size: int, random: np.random.Generator) -> Mixture:
        side = size * np.sqrt(1 - random.beta(self.alpha, self.alpha, count))
        boxes = np.where(random.random((count, 1)) < self.share, centred_boxes(side, side, size, random), 0)
        area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        return _mixture(1 - area / size**2, boxes)

    def images(self, own: Tensor, other: Tensor, mixture: Mixture) -> Tensor:
        return torch.where(inside(mixture.boxes, own.shape[-1]), other, own)


@dataclass(frozen=True)
class MixUp:
    """kept x_i + (1 - kept) x_j, labels alike, `kept` from Beta(alpha, alpha) (Zhang et al., ICLR 2018).

    An image is mixed with the chance `share`. The published code draws one number for a batch; here every image has its
    own.
    """

    share: Fraction = 0.5
    alpha: Positive = 1.0

    def draw(self, count: int, size: int, random: np.random.Generator) -> Mixture:
        mixed = random.random(count) < self.share
        kept = np.where(mixed, random.beta(self.alpha, self.alpha, count), 1)
        return _mixture(kept, np.zeros((count, 4), np.int64))

    def images(self, own: Tensor, other: Tensor, mixture: Mixture) -> Tensor:
        kept = mixture.kept[:, None, None, None]
        return kept * own + (1 - kept) * other


MIXES: dict[str, type[Mix]] = {"cutmix": CutMix, "mixup": MixUp}
"""The names that `models.<name>.mix.kind` in params.yaml may use."""


def mixed_labels(labels: BatchLabels, kept: Tensor, classes: int) -> BatchLabels:
    """Mix the labels of a batch as its images are, kept [B]: each image with the one before it.

    With weights, a label counts as much as its image.
    """
    soft = labels.distributions(classes)
    counted = soft if labels.weights is None else labels.weights[:, None] * soft
    mixed = kept[:, None] * counted + (1 - kept)[:, None] * counted.roll(1, 0)
    if labels.weights is None:
        return BatchLabels(labels.hard, mixed)
    weights = mixed.sum(1)
    return BatchLabels(labels.hard, mixed / weights.clamp(min=TINY)[:, None], weights)


def _mixture(kept: Floats, boxes: Boxes) -> Mixture:
    return Mixture(torch.from_numpy(kept.astype(np.float32)), torch.from_numpy(boxes))
