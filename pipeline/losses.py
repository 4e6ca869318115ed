"""Every loss: what the network is trained to do, and how its output ranks the classes.

Shapes: `output` float [B, D], what the network returns; `labels` int64 [B], indices of classes;
`targets` float [K, D], one unit vector per class, W in the formulas, with rows w_k. All losses
return a scalar. `scores` returns [B, K]: the higher, the more the network means that class.
A loss refuses an option that makes no sense with a ValueError.

A new loss is one class here, one entry in `LOSSES` and one test. See docs/extend.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-6
"""Smallest length a vector is divided by: a zero output gets cosine 0 and a bounded gradient."""


class Loss(Protocol):
    """What training and evaluation need of a loss."""

    needs_vectors: ClassVar[bool]

    @property
    def targets(self) -> Tensor: ...

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor: ...

    def scores(self, output: Tensor) -> Tensor: ...


def cosines(output: Tensor, targets: Tensor) -> Tensor:
    """cos(f, w_k) for every sample and class: [B, D], [K, D] -> [B, K]."""
    return F.normalize(output, dim=1, eps=EPSILON) @ F.normalize(targets, dim=1, eps=EPSILON).T


def cosines_to_label(output: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """cos(f, w_y) of every sample with its own class: [B]."""
    return F.cosine_similarity(output, targets[labels], dim=1, eps=EPSILON)


@dataclass(frozen=True)
class CrossEntropy:
    """-sum_k q_k log softmax(f)_k with q = (1 - e) onehot(y) + e / K.

    e is `label_smoothing` (Szegedy et al. 2016). The output holds the K logits; targets are not used.
    """

    targets: Tensor
    label_smoothing: float = 0.0
    needs_vectors: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be from 0 to below 1, not {self.label_smoothing!r}")

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(output, labels, label_smoothing=self.label_smoothing)

    def scores(self, output: Tensor) -> Tensor:
        return output


@dataclass(frozen=True)
class Cosine:
    """mean over the batch of 1 - cos(w_y, f): the loss the original README aims at, without |.|."""

    targets: Tensor
    needs_vectors: ClassVar[bool] = True

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        return (1 - cosines_to_label(output, labels, self.targets)).mean()

    def scores(self, output: Tensor) -> Tensor:
        return cosines(output, self.targets)


@dataclass(frozen=True)
class AbsoluteCosine:
    """mean over the batch of 1 - |cos(w_y, f)|: the intended form of the README's second loss.

    f and -f are worth the same, so classes are ranked by |cos| too. The gradient vanishes where
    f is orthogonal to w_y, and pushes to whichever of w_y and -w_y is nearer.
    """

    targets: Tensor
    needs_vectors: ClassVar[bool] = True

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        return (1 - cosines_to_label(output, labels, self.targets).abs()).mean()

    def scores(self, output: Tensor) -> Tensor:
        return cosines(output, self.targets).abs()


@dataclass(frozen=True)
class ScaledCosine:
    """-log softmax(s cos(f, w_1), ..., s cos(f, w_K))_y: cross-entropy over scaled cosines.

    With learned w_k this is NormFace (Wang et al. 2017); here the w_k are the fixed label vectors, and
    s is `scale`. Unlike `Cosine` it also pushes away from the wrong classes.
    """

    targets: Tensor
    scale: float = 10.0
    needs_vectors: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale must be above 0, not {self.scale!r}")

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.scores(output), labels)

    def scores(self, output: Tensor) -> Tensor:
        return self.scale * cosines(output, self.targets)


def _summed_samples(batch_size: int) -> int:
    """How many samples the README's loops visit: sample 0, then `range(1, B - 2)`."""
    return max(1, batch_size - 2)


@dataclass(frozen=True)
class OriginalFirst:
    """The README's first `NumLoss` as written: -sum over i < B - 2 of cos(w_y, f_i).

    Kept with its defects: a sum, not a mean, so the step grows with the batch; the last two samples of
    a batch never count. The published code also called `.numpy()` on the prediction, which cuts the
    gradient: as published it could not train at all. Here it is differentiable.
    """

    targets: Tensor
    needs_vectors: ClassVar[bool] = True

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        count = _summed_samples(len(output))
        return -cosines_to_label(output[:count], labels[:count], self.targets).sum()

    def scores(self, output: Tensor) -> Tensor:
        return cosines(output, self.targets)


@dataclass(frozen=True)
class OriginalSecond:
    """The README's second `NumLoss` as written: (1/B) sum over i < B - 2 of |cos(w_1, f_i)|.

    Kept with its defects: `int(max(one_hot))` is always 1, so every sample is compared with class 1,
    which is *disgust* in the README's order and in FER-2013's; the loss is minimised, so it drives
    every output orthogonal to that one vector whatever the label says. It cannot learn the labels.
    """

    targets: Tensor
    needs_vectors: ClassVar[bool] = True

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        count = _summed_samples(len(output))
        always_one = labels.new_ones(count)
        return cosines_to_label(output[:count], always_one, self.targets).abs().sum() / len(output)

    def scores(self, output: Tensor) -> Tensor:
        return cosines(output, self.targets).abs()


LOSSES: dict[str, Callable[..., Loss]] = {
    "cross_entropy": CrossEntropy,
    "cosine": Cosine,
    "absolute_cosine": AbsoluteCosine,
    "scaled_cosine": ScaledCosine,
    "original_first": OriginalFirst,
    "original_second": OriginalSecond,
}
"""The names that `models.<name>.loss` in params.yaml may use."""


def make_loss(
    name: str, options: Mapping[str, Any], vectors: npt.NDArray[np.floating], device: str = "cpu"
) -> Loss:
    """The loss of that name with its options and the label vectors [K, D], in the order of the labels."""
    return LOSSES[name](torch.as_tensor(vectors, device=device), **options)
