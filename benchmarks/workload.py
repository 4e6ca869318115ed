"""Take a recipe's training apart for the benchmarks: FER-2013's number of random images, step by step."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config import Params
from pipeline.data.fer import IMAGE_SIZE, LABELS, PUBLISHED_COUNTS
from pipeline.training import loop
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.hardware import Hardware
from pipeline.training.images import Images
from pipeline.training.loop import Epoch, EpochPlan, Progress, Trainer, augmented, state_of, train, train_step, validate
from pipeline.training.losses import make_loss
from pipeline.training.memory import TemporalEnsemble
from pipeline.training.model import FerNet

TRAINING, VALIDATION = (sum(PUBLISHED_COUNTS[split]) for split in ("train", "val"))
"""Images of FER-2013."""


class Workload:
    """Do what pipeline.training.loop.train does, in pieces that can be timed: the baseline's loss and rate, one recipe.

    No step is faster for what an image shows, so the images are random.
    """

    def __init__(self, params: Params, recipe: str, hardware: Hardware, images: int = TRAINING) -> None:
        settings = params.model(params.compare.baseline)
        self.recipe, self.hardware, self.rate = params.recipes[recipe], hardware, settings.learning_rate
        torch.manual_seed(0)
        network = FerNet(self.recipe.widths, len(LABELS), mean=127.5, std=64.0)
        loss = make_loss(settings.loss, settings.options, np.eye(len(LABELS)), hardware.device)
        self.trainer = Trainer(network, loss, self.recipe, hardware)
        self.data = random_images(images).to(hardware.device)
        self.ensemble = TemporalEnsemble(images, len(LABELS), hardware.device)
        self.draw()

    @property
    def batches(self) -> int:
        return len(self.plan.rates)

    def draw(self) -> None:
        """Draw all that one epoch needs to know: the last, in which the network's own opinion counts most."""
        last = self.recipe.epochs - 1
        self.plan = EpochPlan.of(self.recipe, last, self.data, self.rate, 0, self.hardware.device)
        self.taken = 0

    def next(self, size: int) -> EpochPlan:
        """Return the plan at its next batch, which is the first again after its last."""
        if self.taken % self.batches == 0:
            self.plan.position.zero_()
        self.taken += 1
        return replace(self.plan, size=size)

    def next_rows(self) -> Tensor:
        """Return the rows of the next batch [B], which is then passed over."""
        plan = self.next(IMAGE_SIZE)
        rows = plan.now(plan.order)
        plan.position.add_(1)
        return rows

    def augment(self, rows: Tensor, size: int) -> Tensor:
        return augmented(self.data, rows, replace(self.plan, size=size), self.recipe.augment)

    def forward_backward(self, images: Tensor, labels: Tensor) -> None:
        """Do the part of a step in which the network's operations are counted."""
        with self.hardware.autocast():
            output = self.trainer.model(images.contiguous(memory_format=self.hardware.layout))
        self.trainer.optimizer.zero_grad(set_to_none=True)
        self.trainer.loss(output, labels).backward()

    def step(self, size: int) -> None:
        train_step(self.trainer, self.ensemble, self.data, self.next(size))

    def flop(self, size: int) -> int:
        """Return the floating point operations of a step's convolutions and matrix products, without augmentation."""
        with FlopCounterMode(display=False) as whole:
            self.step(size)
        with FlopCounterMode(display=False) as moving:
            self.augment(self.next_rows(), size)
        return int(whole.get_total_flops() - moving.get_total_flops())

    def trained_epoch(
        self, size: int, validation: Images, folder: Path, on_epoch: Callable[[Epoch], None]
    ) -> tuple[float, float]:
        """Return the seconds of an epoch of the training's own loop, and of its forward, backward and update."""
        inside, step = 0.0, Trainer.step

        def timed(*arguments: Any) -> tuple[Tensor, Tensor]:
            nonlocal inside
            start = time.perf_counter()
            outcome = step(*arguments)
            if self.hardware.device == "cuda":
                torch.cuda.synchronize()
            inside += time.perf_counter() - start
            return outcome

        recipe = replace(self.recipe, epochs=1, sizes=(size,))
        network, checkpoint = copy.deepcopy(self.trainer.network), Checkpoint(folder / "epoch.safetensors")
        checkpoint.remove()
        # Not recorded on a GPU: what is replayed as a whole has no parts to be timed.
        replayed = mock.patch.object(loop, "records_steps", return_value=False)
        with mock.patch.object(Trainer, "step", timed), replayed:
            start = time.perf_counter()
            train(
                network, self.trainer.loss, self.data, validation, recipe, self.rate, 0,
                self.hardware, checkpoint, on_epoch,
            )  # fmt: skip
            return time.perf_counter() - start, inside

    def validate(self, data: Images) -> None:
        validate(self.trainer.averaged, self.trainer.loss, data, self.hardware)

    def save(self, folder: Path) -> None:
        """Save the checkpoint after a last epoch that was the best: the largest there is."""
        best = {name: tensor.clone() for name, tensor in self.trainer.average.items()}
        state = state_of(self.trainer, self.ensemble, best)
        count = self.recipe.epochs
        facts = asdict(Progress([an_epoch(epoch) for epoch in range(count)], [1.0] * count, count - 1))
        Checkpoint(folder / "checkpoint.safetensors").save(state, facts)


def random_images(count: int) -> Images:
    pixels = torch.randint(256, (count, 1, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8)
    return Images(pixels, torch.randint(len(LABELS), (count,)))


def an_epoch(number: int) -> Epoch:
    """Return a row of the history as long as real ones are."""
    return Epoch(number, IMAGE_SIZE, 0.0123456789, 1.23456789, 1.23456789, 0.54321012)
