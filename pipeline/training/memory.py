"""Remember what the network said of each image in earlier epochs, and change its labels by it.

Rows are the places of an epoch, which are the images of Training. A memory is one entry of `MEMORIES`;
`models.<name>.memory` in params.yaml names it. `TemporalEnsemble`, on which two of them stand, is also the memory of
self-distillation, which belongs to the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.schema import BelowOne, Fraction
from pipeline.training.images import BatchLabels, Images

MOMENTUM = 0.5
"""Weight of the previous mean of an image's predictions when a new one is added."""


@dataclass(frozen=True)
class SoftTargets:
    """Predictions for a batch [B, K], made earlier or by others, to be followed as well as the labels.

    weight: that of following them, in the place of as much of the loss. temperature: that of the probabilities.
    """

    probabilities: Tensor
    weight: float
    temperature: float = 1.0

    def mix_into(self, value: Tensor, scores: Tensor) -> Tensor:
        """Return (1 - weight) value + weight T^2 CE(probabilities, softmax(scores / T))."""
        own = nn.functional.cross_entropy(scores / self.temperature, self.probabilities)
        return (1 - self.weight) * value + self.weight * self.temperature**2 * own


class TemporalEnsemble:
    """For each image the mean of the network's predictions in the epochs so far, the latest with the highest weight.

    mean: float32 [N, K], initially uniform over the classes.
    """

    def __init__(self, images: int, classes: int, device: str) -> None:
        self.mean = torch.full((images, classes), 1 / classes, device=device)

    def of(self, rows: Tensor, weight: float) -> SoftTargets | None:
        """Return the earlier predictions for these images and their weight, or None if the weight is 0."""
        return SoftTargets(self.mean[rows], weight) if weight else None

    def add(self, rows: Tensor, scores: Tensor) -> None:
        """Add the scores [B, K] of the epoch for these images."""
        self.mean[rows] = self.mean[rows].lerp(scores.softmax(1), 1 - MOMENTUM)


class Memory(Protocol):
    """The state of a training besides the network: tensors by name, which a checkpoint keeps."""

    @property
    def tensors(self) -> dict[str, Tensor]: ...

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare for an epoch of `epochs`. What is chosen in Python is chosen here: steps are recorded on a GPU."""
        ...

    def labels(self, rows: Tensor, labels: BatchLabels) -> BatchLabels:
        """Return what a step learns of these images instead of `labels`."""
        ...

    def add(self, rows: Tensor, scores: Tensor) -> None:
        """Note the scores [B, K] of these images."""
        ...


class MemorySpec(Protocol):
    """The settings of a memory. is_soft: whether the loss must take soft labels or weights."""

    @property
    def is_soft(self) -> bool: ...

    def make(self, training: Images, classes: int) -> Memory:
        """Return the memory at the start of a training."""
        ...


@dataclass(frozen=True)
class Relabel:
    """From the share `start` of the epochs: y <- arg-max p where max p - p_y > `margin`, for good.

    The relabelling of SCN (Wang et al., CVPR 2020), for the whole batch and by the predictions of the training step, as
    in its published code; the paper relabels images of low weight only. A change holds from the next epoch on. With a
    margin of 1 no label changes.
    """

    start: Fraction = 0.15
    margin: Fraction = 0.2

    @property
    def is_soft(self) -> bool:
        return False

    def make(self, training: Images, classes: int) -> Memory:
        return Relabelling(self, training.labels.clone())


class Relabelling:
    """current: int64 [N], the labels as they are now."""

    def __init__(self, spec: Relabel, current: Tensor) -> None:
        self.spec, self.current, self.active = spec, current, False

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"labels": self.current}

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.active = epoch >= self.spec.start * epochs

    def labels(self, rows: Tensor, labels: BatchLabels) -> BatchLabels:
        return BatchLabels(self.current[rows], labels.soft, labels.weights)

    def add(self, rows: Tensor, scores: Tensor) -> None:
        if self.active:
            highest, best = scores.softmax(1).max(1)
            given = self.current[rows]
            behind = highest - scores.softmax(1).gather(1, given[:, None])[:, 0] > self.spec.margin
            self.current[rows] = torch.where(behind, best, given)


@dataclass(frozen=True)
class SmallLoss:
    """From the share `start` of the epochs, the `dropped` share of the images whose label is least likely has weight 0.

    Likely by the temporal ensemble, at the beginning of each epoch: -log p_y of its mean prediction p. Small-loss
    selection (Han et al., NeurIPS 2018, within one network). Steps stay as many; a batch has fewer images that count.
    """

    start: Fraction = 0.3
    dropped: BelowOne = 0.1

    @property
    def is_soft(self) -> bool:
        return True

    def make(self, training: Images, classes: int) -> Memory:
        return Dropping(self, training.labels, classes)


class Dropping:
    """keep: float32 [N], 1 or 0."""

    def __init__(self, spec: SmallLoss, given: Tensor, classes: int) -> None:
        self.spec, self.given = spec, given
        self.ensemble = TemporalEnsemble(len(given), classes, str(given.device))
        self.keep = torch.ones(len(given), device=given.device)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.ensemble.mean}

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.keep.fill_(1)
        if epoch and epoch >= self.spec.start * epochs:
            likely = self.ensemble.mean.gather(1, self.given[:, None])[:, 0]
            # The processor decides: its order of equal numbers is one.
            order = likely.cpu().argsort(stable=True)[: round(self.spec.dropped * len(likely))]
            self.keep[order.to(self.keep.device)] = 0

    def labels(self, rows: Tensor, labels: BatchLabels) -> BatchLabels:
        keep = self.keep[rows]
        return BatchLabels(labels.hard, labels.soft, keep if labels.weights is None else keep * labels.weights)

    def add(self, rows: Tensor, scores: Tensor) -> None:
        self.ensemble.add(rows, scores)


@dataclass(frozen=True)
class Neighbours:
    """q = (1 - m) onehot(y) + m sum_j a_ij p_j / sum_j a_ij over the images j with the most similar landmarks.

    After LDL-ALSG (Chen et al., CVPR 2020), by landmarks only: images with similar landmarks have similar label
    distributions. p_j is the mean prediction of the temporal ensemble and a_ij = exp(-|z_i - z_j|^2 / 2 sigma^2) the
    affinity of aligned landmarks (see `pipeline.landmarks`). m rises in a straight line to `weight` in the last epoch,
    as the first predictions say nothing. The paper adds a term for each auxiliary task and needs all networks' outputs
    for all neighbours; remembered predictions cost nothing. An image without landmarks keeps its label.
    """

    weight: Fraction = 0.3
    permuted: bool = False
    """Whether an image has the neighbours of another one: the control."""

    @property
    def is_soft(self) -> bool:
        return True

    def make(self, training: Images, classes: int) -> Memory:
        if training.neighbours is None or training.affinities is None:
            raise ValueError("the images have no neighbours")
        return Neighbourhood(self, training.neighbours, training.affinities, classes)


class Neighbourhood:
    """index: int64 [N, k]; affinities: float32 [N, k], all zero where an image has no neighbours."""

    def __init__(self, spec: Neighbours, index: Tensor, affinities: Tensor, classes: int) -> None:
        self.spec, self.index, self.now = spec, index, 0.0
        total = affinities.sum(1, keepdim=True)
        self.shares = affinities / total.clamp(min=torch.finfo(total.dtype).tiny)
        self.known = (total > 0).float()
        self.ensemble = TemporalEnsemble(len(index), classes, str(index.device))
        self.classes = classes

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.ensemble.mean}

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.now = self.spec.weight * epoch / max(1, epochs - 1)

    def labels(self, rows: Tensor, labels: BatchLabels) -> BatchLabels:
        if not self.now:
            return labels
        given = labels.distributions(self.classes)
        around = (self.shares[rows][:, :, None] * self.ensemble.mean[self.index[rows]]).sum(1)
        share = self.now * self.known[rows]
        return BatchLabels(labels.hard, (1 - share) * given + share * around, labels.weights)

    def add(self, rows: Tensor, scores: Tensor) -> None:
        self.ensemble.add(rows, scores)


MEMORIES: dict[str, type[MemorySpec]] = {"relabel": Relabel, "small_loss": SmallLoss, "neighbours": Neighbours}
"""The names that `models.<name>.memory.kind` in params.yaml may use."""


def restore(memory: Memory, saved: Mapping[str, Tensor]) -> None:
    """Put the tensors of a checkpoint in the place of those of `memory`."""
    for name, tensor in memory.tensors.items():
        tensor.copy_(saved[name])
