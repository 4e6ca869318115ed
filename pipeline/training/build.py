"""Assemble everything for one training, in the same way for the stage, for trials and for benchmarks of trainings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pipeline.data.fer import FerData
from pipeline.files import JsonDict
from pipeline.labels.truth import TrainingLabels
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.distillation import Teachers, load_teachers
from pipeline.training.distributed import Group
from pipeline.training.hardware import Hardware, set_up
from pipeline.training.images import Images
from pipeline.training.loop import PLAIN, SINGLE, Epoch, Progress, epoch_flop, images_per_epoch, train
from pipeline.training.losses import Loss, make_loss
from pipeline.training.method import Method
from pipeline.training.model import FerNet, Pool
from pipeline.training.recipe import Recipe

AS_GIVEN = TrainingLabels()
"""The labels as they are."""


@dataclass(frozen=True)
class TrainingRun:
    """A network with random weights and everything to train it. network_arguments: those of `FerNet`."""

    network: FerNet
    network_arguments: JsonDict
    loss: Loss
    training: Images
    validation: Images
    recipe: Recipe
    learning_rate: float
    seed: int
    hardware: Hardware
    method: Method = PLAIN
    teachers: Teachers | None = None

    @property
    def flop(self) -> list[int]:
        """Return the floating point operations of each epoch."""
        teachers = [network for network, _ in self.teachers.members] if self.teachers else []
        return epoch_flop(self.network, self.recipe, len(self.training.labels), self.method, teachers)

    @property
    def images_per_epoch(self) -> int:
        """The number of images in the batches of an epoch."""
        return images_per_epoch(self.recipe, len(self.training.labels))

    def train(
        self, checkpoint: Checkpoint | None, on_epoch: Callable[[Epoch], None], group: Group = SINGLE
    ) -> tuple[dict[str, Tensor], Progress]:
        """Run `loop.train`."""
        return train(
            self.network, self.loss, self.training, self.validation, self.recipe, self.learning_rate, self.seed,
            self.hardware, checkpoint, on_epoch, group, self.method, self.teachers,
        )  # fmt: skip


def build_run(
    data: FerData,
    loss: str,
    options: JsonDict,
    targets: npt.NDArray[np.floating],
    recipe: Recipe,
    learning_rate: float,
    seed: int,
    hardware: Hardware,
    truth: TrainingLabels = AS_GIVEN,
    method: Method = PLAIN,
    pool: Pool = "max",
    teachers: Path | None = None,
) -> TrainingRun:
    """Set PyTorch up for this hardware and seed, and build loss and network. The seed sets the initial weights.

    teachers: the folder of those that a method with distillation learns from.
    """
    training, validation = (Images.of(data, split).with_labels(truth, split) for split in ("train", "val"))
    set_up(hardware, seed)
    made = make_loss(loss, options, targets, hardware.device)
    mean, std = training.grey_levels()
    arguments: JsonDict = {"widths": list(recipe.widths), "output_dim": made.output_dim, "mean": mean, "std": std}
    if pool != "max":  # older models have no such argument
        arguments["pool"] = pool
    network = FerNet(**arguments)
    taught_by = None
    if method.distillation:
        if teachers is None:
            raise ValueError("a method with distillation needs a folder of teachers")
        taught_by = load_teachers(teachers, data.classes, method.distillation, hardware)
    return TrainingRun(
        network, arguments, made, training, validation, recipe, learning_rate, seed, hardware, method, taught_by
    )
