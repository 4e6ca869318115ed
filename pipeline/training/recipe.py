"""Define how a network is trained, whatever the loss: the settings of a recipe and its schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from pipeline.schema import BelowOne, NotNegative, must_be

Channels = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=8, multiple_of=2)]
Batch = Annotated[int, Field(ge=2), must_be("a whole number from 2: batch normalisation needs it")]


@dataclass(frozen=True)
class Augment:
    """The strength of augmentation: each value is the end of a symmetric range.

    rotation: degrees; zoom: natural logarithm of the scale; shift: share of the image's width; brightness: grey levels;
    contrast: natural logarithm of the factor; cutout: side of the grey square as a share of the image's width (0:
    none). Flips are not drawn here: see `augment.flips`.
    """

    rotation: NotNegative
    zoom: NotNegative
    shift: NotNegative
    brightness: NotNegative
    contrast: NotNegative
    cutout: BelowOne

    @classmethod
    def none(cls) -> Augment:
        """Return no augmentation but flips."""
        return cls(rotation=0.0, zoom=0.0, shift=0.0, brightness=0.0, contrast=0.0, cutout=0.0)


@dataclass(frozen=True)
class Recipe:
    """The settings of a training. sizes: in pixels; warmup: as a share of all steps.

    self_distillation: the weight, relative to the labels, that the network's own earlier predictions reach in the last
    epoch (Kim et al. 2021, with the averages of Laine & Aila 2017); 0: none.
    """

    widths: Annotated[tuple[Channels, ...], Field(min_length=2)]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Batch
    sizes: Annotated[tuple[Side, ...], Field(min_length=1)]
    momentum: Annotated[float, Field(gt=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup: BelowOne
    ema_decay: BelowOne
    self_distillation: BelowOne
    augment: Augment

    def size_in(self, epoch: int) -> int:
        """Return the side of the training images in one epoch: each size for an equal share of the epochs."""
        return self.sizes[epoch * len(self.sizes) // self.epochs]


def learning_rate_at(step: int, steps: int, peak: float, warmup: float) -> float:
    """Return the learning rate of a step: linear warm-up to `peak`, then half a cosine to zero.

    warmup: share of the steps in which the rate rises.
    """
    rise = warmup * steps
    if step < rise:
        return peak * (step + 1) / (rise + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))
