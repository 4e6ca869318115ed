"""Define every loss: the training objective, and how the output ranks the classes.

Shapes: `output` float [B, O], the network's output, f in the formulas, with O as the loss's `output_dim` says; `labels`
y, int64 [B], class indices; `targets` float [K, D], one unit vector per class, W in the formulas, with rows w_k. All
losses return a scalar. `scores` returns [B, K], higher for more likely classes; where `probabilistic`, their softmax is
the posterior that the loss trains. The limits of an option stand with its field, and params.yaml is checked by them.

`under_each` is the loss of each image under each label, for labels that are more than one class; the two losses of
the original README have none, as theirs are no losses of single images.

A new loss is one class here, one entry in `LOSSES` and one test. See docs/extend.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from pipeline.schema import BelowOne, Positive

EPSILON = 1e-6
"""Smallest length that a vector is divided by: a zero output gets cosine 0 and a bounded gradient."""
VARIANCE_EPSILON = 1e-5
"""Added to a variance before its root, as batch normalisation does."""


class Loss(Protocol):
    """The interface of a loss for training and evaluation."""

    probabilistic: ClassVar[bool]
    uses_targets: ClassVar[bool]

    @property
    def targets(self) -> Tensor: ...

    @property
    def output_dim(self) -> int: ...

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor: ...

    def scores(self, output: Tensor) -> Tensor: ...


class SoftLoss(Loss, Protocol):
    """A loss that can use more of an image than one label: every loss with a value for each image and class."""

    def under_each(self, output: Tensor) -> Tensor:
        """The loss of each image if its label were k: [B, K]. Under labels q it is sum_k q_k of that."""
        ...


@runtime_checkable
class UncertaintyLoss(Loss, Protocol):
    """A loss whose network also says how uncertain it is of an image."""

    def uncertainty(self, output: Tensor) -> Tensor:
        """Return a number for each image, [B], higher for the less certain."""
        ...


class LogitLoss:
    """A loss whose network outputs one logit per class, first of its outputs if it has more: [B, K]."""

    targets: Tensor
    uses_targets: ClassVar[bool] = True

    @property
    def output_dim(self) -> int:
        return self.targets.shape[0]

    def scores(self, output: Tensor) -> Tensor:
        return output


class EmbeddingLoss:
    """A loss whose network outputs a vector in the space of the targets: [B, D]."""

    targets: Tensor
    uses_targets: ClassVar[bool] = True

    @property
    def output_dim(self) -> int:
        return self.targets.shape[1]

    def cosines(self, output: Tensor) -> Tensor:
        """Return cos(f, w_k): [B, D] -> [B, K]."""
        return cosines(output, self.targets)


def cosines(output: Tensor, targets: Tensor) -> Tensor:
    """Return cos(f, w_k) for every sample and class: [B, D], [K, D] -> [B, K]."""
    return F.normalize(output, dim=1, eps=EPSILON) @ F.normalize(targets, dim=1, eps=EPSILON).T


def cosines_to_label(output: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return cos(f, w_y) of every sample with its own class: [B]."""
    return F.cosine_similarity(output, targets[labels], dim=1, eps=EPSILON)


@dataclass(frozen=True)
class CrossEntropy(LogitLoss):
    """-sum_k q_k log softmax(f)_k with q = (1 - e) onehot(y) + e / K.

    e is `label_smoothing` (Szegedy et al. 2016). The output holds the K logits; only the number of targets matters. The
    gradient softmax(f) - q of a sample is never longer than sqrt 2.
    """

    targets: Tensor
    label_smoothing: BelowOne = 0.0
    probabilistic: ClassVar[bool] = True
    uses_targets: ClassVar[bool] = False

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(output, labels, label_smoothing=self.label_smoothing)

    def under_each(self, output: Tensor) -> Tensor:
        surprise = -output.log_softmax(1)
        return (1 - self.label_smoothing) * surprise + self.label_smoothing * surprise.mean(1, keepdim=True)


@dataclass(frozen=True)
class Cosine(EmbeddingLoss):
    """mean over the batch of 1 - cos(w_y, f): the loss that the original README aims at, without |.|.

    Source: Barz & Denzler, WACV 2020. The gradient of a sample, -(w_y - c f/|f|) / |f| with c the cosine, is orthogonal
    to f, shrinks as f grows, and vanishes where f points at w_y or straight away from it; wrong classes do not enter.
    """

    targets: Tensor
    probabilistic: ClassVar[bool] = False

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        return (1 - cosines_to_label(output, labels, self.targets)).mean()

    def under_each(self, output: Tensor) -> Tensor:
        return 1 - cosines(output, self.targets)

    def scores(self, output: Tensor) -> Tensor:
        return cosines(output, self.targets)


@dataclass(frozen=True)
class AbsoluteCosine(EmbeddingLoss):
    """mean over the batch of 1 - |cos(w_y, f)|: the intended form of the README's second loss.

    f and -f are equivalent, so classes are ranked by |cos| too. The gradient points to the nearer of w_y and -w_y;
    where f is orthogonal to w_y the loss has a ridge, on which PyTorch takes 0.
    """

    targets: Tensor
    probabilistic: ClassVar[bool] = False

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        return (1 - cosines_to_label(output, labels, self.targets).abs()).mean()

    def under_each(self, output: Tensor) -> Tensor:
        return 1 - cosines(output, self.targets).abs()

    def scores(self, output: Tensor) -> Tensor:
        return cosines(output, self.targets).abs()


@dataclass(frozen=True)
class ScaledCosine(EmbeddingLoss):
    """-log softmax(s cos(f, w_1), ..., s cos(f, w_K))_y: cross-entropy over scaled cosines.

    With learned w_k this is NormFace (Wang et al. 2017); here the w_k are the fixed label vectors, and
    s is `scale`. Unlike `Cosine` it also pushes away from the wrong classes.
    """

    targets: Tensor
    scale: Positive = 10.0
    probabilistic: ClassVar[bool] = True

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.scores(output), labels)

    def under_each(self, output: Tensor) -> Tensor:
        return -self.scores(output).log_softmax(1)

    def scores(self, output: Tensor) -> Tensor:
        return self.scale * cosines(output, self.targets)


@dataclass(frozen=True)
class CosineAndCrossEntropy(EmbeddingLoss):
    """mean over the batch of 1 - cos(w_y, f) + weight * CE(g, y) (Barz & Denzler, WACV 2020, section 3.3).

    The output [B, D + K] is the vector f followed by the K logits g. In the paper g is a linear layer on top of f /
    |f|; here both are linear in the same features, so that a loss owns no weights. The logits decide, as in the paper.
    `weight` is its lambda, 0.1 there. Each part has its gradient on its own outputs.
    """

    targets: Tensor
    weight: Positive = 0.1
    probabilistic: ClassVar[bool] = True

    @property
    def output_dim(self) -> int:
        return sum(self.targets.shape)

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        cosine = (1 - cosines_to_label(self._vector(output), labels, self.targets)).mean()
        return cosine + self.weight * F.cross_entropy(self.scores(output), labels)

    def under_each(self, output: Tensor) -> Tensor:
        return 1 - self.cosines(output) - self.weight * self.scores(output).log_softmax(1)

    def scores(self, output: Tensor) -> Tensor:
        return output[:, self.targets.shape[1] :]

    def cosines(self, output: Tensor) -> Tensor:
        return cosines(self._vector(output), self.targets)

    def _vector(self, output: Tensor) -> Tensor:
        return output[:, : self.targets.shape[1]]


@dataclass(frozen=True)
class HingeRank(EmbeddingLoss):
    """mean over the batch of sum over j != y of max(0, m - f.w_y + f.w_j): DeViSE (Frome et al. 2013).

    m is `margin`, 0.1 in the paper. f is not normalised, so a longer f makes the margin relatively smaller. The loss is
    zero once every wrong class is m behind, and only samples above zero have a gradient.
    """

    targets: Tensor
    margin: Positive = 0.1
    probabilistic: ClassVar[bool] = False

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        scores = self.scores(output)
        behind = F.relu(self.margin - scores.gather(1, labels[:, None]) + scores)
        # The label's own term is the margin itself, a constant.
        return behind.sum(1).mean() - self.margin

    def under_each(self, output: Tensor) -> Tensor:
        scores = self.scores(output)
        behind = F.relu(self.margin - scores[:, :, None] + scores[:, None, :])
        return behind.sum(2) - self.margin

    def scores(self, output: Tensor) -> Tensor:
        return output @ self.targets.T


@dataclass(frozen=True)
class SoftLabels(LogitLoss):
    """-sum_k q_k log softmax(f)_k, q_k proportional to exp(-sharpness * d(k, y)), d = 1 - w_k.w_y.

    Soft labels (Bertinetto et al., CVPR 2020, section 3.2), with the distance between label vectors instead of a
    hierarchy. `sharpness` is the paper's beta: at 0 all classes are alike, at infinity the loss is cross-entropy. Only
    the Gram matrix of the targets matters; the output holds K logits, and their gradient softmax(f) - q is zero where
    similar classes have their share.
    """

    targets: Tensor
    sharpness: Positive = 5.0
    probabilistic: ClassVar[bool] = True

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        similarity = self.targets @ self.targets.T
        return F.cross_entropy(output, (self.sharpness * similarity[labels]).softmax(1))

    def under_each(self, output: Tensor) -> Tensor:
        similarity = self.targets @ self.targets.T
        return -output.log_softmax(1) @ (self.sharpness * similarity).softmax(1).T


@dataclass(frozen=True)
class RelativeUncertainty(LogitLoss):
    """mean over the batch of -(log softmax(m_i)_y_i + log softmax(m_i)_y_j) / 2, m_i = a_i f_i + (1 - a_i) f_j.

    Relative uncertainty learning (Zhang et al., NeurIPS 2021). The output [B, K + D] is the K logits f and D logarithms
    of variances z. j = i - 1 in the batch, cyclically. z is standardised over the batch, u_i = mean_d exp(z_id), and
    a_i = u_i / (u_i + u_j): the more uncertain image of a pair weighs more, because in a mixture of equal parts the
    clearer one would hide it. The paper mixes features before the linear classifier; as the weights add up to one,
    mixing logits is the same. It standardises z by a batch norm with learned scale and has a bottleneck of 64 features
    with dropout, which are left out; its code pairs images by a random permutation and halves the sum, as here.

    `dimensions` is D. Without `weighted`, a = 1/2 for every pair: the control that ignores uncertainty, whose z nothing
    trains. Both targets of a mixture are halves, so softmax(f) is no trained posterior.
    """

    targets: Tensor
    dimensions: Annotated[int, Field(ge=1, le=1024)] = 64
    weighted: bool = True
    probabilistic: ClassVar[bool] = False
    uses_targets: ClassVar[bool] = False

    @property
    def output_dim(self) -> int:
        return len(self.targets) + self.dimensions

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        mixed = self._mixed(output)
        return (F.cross_entropy(mixed, labels) + F.cross_entropy(mixed, labels.roll(1))) / 2

    def under_each(self, output: Tensor) -> Tensor:
        surprise = -self._mixed(output).log_softmax(1)
        return (surprise + surprise.roll(-1, 0)) / 2  # an image is in two mixtures: its own and the next one's

    def scores(self, output: Tensor) -> Tensor:
        return output[:, : len(self.targets)]

    def uncertainty(self, output: Tensor) -> Tensor:
        """Return u of each image, [B]: relative to the other images in `output`."""
        variances = output[:, len(self.targets) :]
        centred = variances - variances.mean(0)
        return (centred / (centred.square().mean(0) + VARIANCE_EPSILON).sqrt()).exp().mean(1)

    def _mixed(self, output: Tensor) -> Tensor:
        logits = self.scores(output)
        if not self.weighted:
            return (logits + logits.roll(1, 0)) / 2
        uncertainty = self.uncertainty(output)
        share = (uncertainty / (uncertainty + uncertainty.roll(1)))[:, None]
        return share * logits + (1 - share) * logits.roll(1, 0)


@dataclass(frozen=True)
class SelfCure(LogitLoss):
    """CE(a f, y) + max(0, margin - (mean a of the upper group - mean a of the rest)), a_i = sigmoid(c_i).

    Self-attention weights with rank regularisation (SCN; Wang et al., CVPR 2020). The output [B, K + 1] is the K
    logits f and c. The upper group is the `share` of the batch with the highest weights a; without the second term all
    weights tend to one. The published code adds the terms, as here, where the paper weighs them; its margin is .07 at
    64 images a batch. It also relabels images: that is `memory: {kind: relabel}`. With weights of one and no margin it
    is cross-entropy.
    """

    targets: Tensor
    margin: BelowOne = 0.07
    share: Annotated[float, Field(gt=0, lt=1)] = 0.7
    probabilistic: ClassVar[bool] = True
    uses_targets: ClassVar[bool] = False

    @property
    def output_dim(self) -> int:
        return len(self.targets) + 1

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.scores(output), labels) + self._ranking(output)

    def under_each(self, output: Tensor) -> Tensor:
        return self._ranking(output) - self.scores(output).log_softmax(1)

    def scores(self, output: Tensor) -> Tensor:
        return output[:, :-1] * output[:, -1:].sigmoid()

    def uncertainty(self, output: Tensor) -> Tensor:
        """Return 1 - a of each image, [B]."""
        return 1 - output[:, -1].sigmoid()

    def _ranking(self, output: Tensor) -> Tensor:
        ranked = output[:, -1].sigmoid().sort(descending=True).values
        upper = max(1, int(self.share * len(ranked)))
        if upper == len(ranked):
            return output.new_zeros(())  # a batch of one has no rest
        return F.relu(self.margin - (ranked[:upper].mean() - ranked[upper:].mean()))


def _summed_samples(batch_size: int) -> int:
    """Return how many samples the README's loops visit: sample 0, then `range(1, B - 2)`."""
    return max(1, batch_size - 2)


@dataclass(frozen=True)
class OriginalFirst(EmbeddingLoss):
    """The README's first `NumLoss` as written: -sum over i < B - 2 of cos(w_y, f_i).

    Kept with its defects: a sum, not a mean, so the step grows with the batch; the last two samples of a batch never
    count. The published code also called `.numpy()` on the prediction, which cuts the gradient: as published it could
    not train at all. Here it is differentiable.
    """

    targets: Tensor
    probabilistic: ClassVar[bool] = False

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        count = _summed_samples(len(output))
        return -cosines_to_label(output[:count], labels[:count], self.targets).sum()

    def scores(self, output: Tensor) -> Tensor:
        return cosines(output, self.targets)


@dataclass(frozen=True)
class OriginalSecond(EmbeddingLoss):
    """The README's second `NumLoss` as written: (1/B) sum over i < B - 2 of |cos(w_1, f_i)|.

    Kept with its defects: `int(max(one_hot))` is always 1, so every sample is compared with class 1, which is *disgust*
    in the README's order and in FER-2013's; the loss is minimised, so it drives every output orthogonal to that one
    vector whatever the label. It cannot learn the labels.
    """

    targets: Tensor
    probabilistic: ClassVar[bool] = False

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        count = _summed_samples(len(output))
        always_one = labels.new_ones(count)
        return cosines_to_label(output[:count], always_one, self.targets).abs().sum() / len(output)

    def scores(self, output: Tensor) -> Tensor:
        return cosines(output, self.targets).abs()


LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "cosine": Cosine,
    "absolute_cosine": AbsoluteCosine,
    "scaled_cosine": ScaledCosine,
    "cosine_and_cross_entropy": CosineAndCrossEntropy,
    "hinge_rank": HingeRank,
    "soft_labels": SoftLabels,
    "relative_uncertainty": RelativeUncertainty,
    "self_cure": SelfCure,
    "original_first": OriginalFirst,
    "original_second": OriginalSecond,
}
"""The names that `models.<name>.loss` in params.yaml may use."""


def make_loss(name: str, options: Mapping[str, Any], targets: npt.NDArray[np.floating], device: str = "cpu") -> Loss:
    """Return the loss of that name with its options and the targets [K, D], in the order of the labels."""
    kind: Callable[..., Loss] = LOSSES[name]
    return kind(torch.as_tensor(targets, dtype=torch.float32, device=device), **options)


def soft_loss(loss: Loss) -> SoftLoss:
    """The loss as one that takes soft labels. Raises ValueError if it has no value for each image and class."""
    if not takes_soft_labels(type(loss)):
        raise ValueError(f"{type(loss).__name__} has no value for each image and class")
    return cast(SoftLoss, loss)


def takes_soft_labels(kind: type[Loss]) -> bool:
    """Whether a loss has a value for each image and class."""
    return hasattr(kind, "under_each")


def expected_loss(loss: SoftLoss, output: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """sum_b v_b sum_k q_bk L_bk / max(sum_b v_b, 1) with L `under_each`, q the soft `labels` [B, K], v `weights` [B].

    With one-hot q and no weights it is the loss itself, up to the rounding of sums.
    """
    each = (labels * loss.under_each(output)).sum(1)
    return each.mean() if weights is None else (weights * each).sum() / weights.sum().clamp(min=1)
