"""Combine what a row of the study may choose besides loss, targets and labels.

Each choice is a key of `models.<name>` in params.yaml with a `kind` and its options, and absent from a plain row:
`mix`, `consistency`, `memory`, `policy`, `distillation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.training.consistency import CONSISTENCIES, Consistency, Views
from pipeline.training.distillation import DISTILLATIONS, Distillation
from pipeline.training.images import BatchLabels, Images
from pipeline.training.losses import Loss
from pipeline.training.memory import MEMORIES, MemorySpec
from pipeline.training.mix import MIXES, Mix, Mixture
from pipeline.training.model import FerNet
from pipeline.training.policies import apply_policy
from pipeline.training.recipe import Augment, Recipe

T = TypeVar("T")
Choice = Mapping[str, Any]
"""A `kind` and its options, as params.yaml gives them; empty: none."""

MIX_STREAM, VIEW_STREAM, POLICY_STREAM = 2, 3, 4
"""Tell the generators of an epoch apart: 0 is that of augmentation, 1 that of drawn labels."""


@dataclass(frozen=True)
class AutoAugment:
    """Change the images before each epoch by a published policy; see `training.policies`.

    Without `instead`, the recipe's augmentation follows; with it, flips alone do.
    """

    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    instead: bool = False

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return uint8 [N, 1, H, W] changed."""
        return apply_policy(images, self.policy, generator)


POLICY_KINDS: dict[str, type[AutoAugment]] = {"autoaugment": AutoAugment}
"""The names that `models.<name>.policy.kind` in params.yaml may use."""
CHOICES: dict[str, Mapping[str, type]] = {
    "mix": MIXES,
    "consistency": CONSISTENCIES,
    "memory": MEMORIES,
    "policy": POLICY_KINDS,
    "distillation": DISTILLATIONS,
}
"""The tables of kinds, by the key in params.yaml."""


@dataclass(frozen=True)
class Method:
    """The choices of one row; None for what it does without."""

    mix: Mix | None = None
    consistency: Consistency | None = None
    memory: MemorySpec | None = None
    policy: AutoAugment | None = None
    distillation: Distillation | None = None

    @classmethod
    def of(cls, choices: Mapping[str, Choice]) -> Method:
        """Make the method from the choices of a row, by key; an empty one counts as absent."""
        return cls(**{key: _made(CHOICES[key], choice) for key, choice in choices.items() if choice})

    def draw(self, count: int, size: int, seed: int, epoch: int) -> tuple[Mixture | None, Tensor | None]:
        """Draw the mixture and the boxes of an epoch's places, by generators of their own."""
        return (
            self.mix.draw(count, size, _random(seed, epoch, MIX_STREAM)) if self.mix else None,
            self.consistency.draw(count, size, _random(seed, epoch, VIEW_STREAM)) if self.consistency else None,
        )

    def before_epoch(self, training: Images, seed: int, epoch: int) -> Images:
        """Return the images that an epoch sees."""
        if self.policy is None:
            return training
        generator = torch.Generator().manual_seed((POLICY_STREAM << 60) + (seed << 20) + epoch)
        placed = training.in_places()  # an image that comes twice is changed twice
        return replace(placed, pixels=self.policy.apply(placed.pixels, generator))

    def augment(self, recipe: Recipe) -> Augment:
        """Return the augmentation of a step: the recipe's, or none if a policy is instead of it."""
        return Augment.none() if self.policy and self.policy.instead else recipe.augment

    def views_of(self, network: FerNet, classes: int) -> nn.Module:
        """Return the module that a step calls."""
        return Views(network, self.consistency, classes) if self.consistency else network

    def view_sizes(self, size: int) -> list[int]:
        """Return the side of each view of an image of this side."""
        return self.consistency.sizes(size) if self.consistency else [size]

    def objective(self, loss: Loss, output: Tensor, labels: BatchLabels) -> tuple[Tensor, Tensor]:
        """Return the value of a batch, and the scores [B, K] of its first view.

        output: [B, O], or as `Views` returns it; the value is then the mean loss of the supervised views plus the
        weighted mean penalty.
        """
        if self.consistency is None:
            return labels.value(loss, output), loss.scores(output)
        *views, penalty = output.split(loss.output_dim, dim=1)
        losses = [labels.value(loss, view) for view in views[: self.consistency.supervised]]
        value = torch.stack(losses).mean() + self.consistency.weight * penalty.mean()
        return value, loss.scores(views[0])


def _made(table: Mapping[str, type[T]], choice: Choice) -> T:
    options = {name: value for name, value in choice.items() if name != "kind"}
    return table[choice["kind"]](**options)


def _random(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([stream, seed, epoch])
