"""How fast training goes: images per second of whole steps, and how much arithmetic the network gets done.

    python -m benchmarks.training_step [--rounds 5]

A step is what pipeline.training does with a batch: augment, forward, loss, backward, SGD, moving average,
under the settings of stages.train. Operations are counted in forward and backward
(convolutions and matrix products) and divided by the time of these two alone.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import header
from benchmarks.timing import Case, alternate, table
from pipeline import config, machine
from pipeline.augment import DRAWS, augment
from pipeline.data.fer import LABELS
from pipeline.losses import make_loss
from pipeline.machine import Hardware
from pipeline.model import FerNet
from pipeline.training import Images, Learner

FER2013 = 28_709
"""Training images of FER-2013."""


@dataclass(frozen=True)
class Trainer:
    """A learner with random images to learn from: no step is faster for what an image shows."""

    learner: Learner
    data: Images
    learning_rate: float
    generator: torch.Generator

    @classmethod
    def fresh(cls, params: config.Params, hardware: Hardware, images: int = 1024) -> Trainer:
        """The baseline's loss and rate with the chosen recipe."""
        settings, recipe = params.model(params.compare.baseline), params.chosen_recipe
        torch.manual_seed(0)
        network = FerNet(recipe.widths, len(LABELS), mean=127.5, std=64.0)
        loss = make_loss(settings.loss, settings.options, np.eye(len(LABELS)), hardware.device)
        pixels = torch.randint(256, (images, 1, 48, 48), dtype=torch.uint8)
        return cls(
            Learner(network, loss, recipe, hardware),
            Images(pixels, torch.randint(len(LABELS), (images,))).to(hardware.device),
            settings.learning_rate,
            torch.Generator().manual_seed(0),
        )

    def step(self, size: int) -> None:
        recipe, device = self.learner.recipe, self.learner.hardware.device
        count = recipe.batch_size
        rows = torch.randint(len(self.data.labels), (count,), generator=self.generator).to(device)
        flip = (torch.rand(count, generator=self.generator) < 0.5).to(device)
        draws = torch.rand(count, DRAWS, generator=self.generator).to(device)
        images = augment(self.data.pixels[rows].float(), flip, size, recipe.augment, draws)
        self.learner.step(images, self.data.labels[rows], self.learning_rate, recipe.ema_decay)
        self.wait()

    def forward_backward(self, images: Tensor, labels: Tensor) -> None:
        """The part of a step that the network's operations are counted in."""
        with self.learner.hardware.autocast():
            output = self.learner.model(images)
        self.learner.optimizer.zero_grad(set_to_none=True)
        self.learner.loss(output, labels).backward()
        self.wait()

    def wait(self) -> None:
        """A GPU works on while Python goes ahead: time means something only after it is done."""
        if self.learner.hardware.device == "cuda":
            torch.cuda.synchronize()

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """One batch that is ready for the network."""
        count = self.learner.recipe.batch_size
        images = torch.nn.functional.interpolate(self.data.pixels[:count].float(), (size, size))
        return images.contiguous(memory_format=self.learner.hardware.layout), self.data.labels[:count]

    def flop(self, size: int) -> int:
        """Floating point operations of forward and backward over one batch."""
        with FlopCounterMode(display=False) as counter:
            self.forward_backward(*self.batch(size))
        return int(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    params = config.load()
    recipe = params.chosen_recipe
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    machine.set_up(Hardware(device, "fp32", threads=threads), 0)
    trainers = {
        "fp32": Trainer.fresh(params, Hardware(device, "fp32", threads=threads)),
        "bf16": Trainer.fresh(params, Hardware(device, "bf16", threads=threads)),
    }

    sizes = sorted(set(recipe.sizes))
    cases: dict[str, Case] = {}
    for size, (precision, trainer) in product(sizes, trainers.items()):
        cases[f"step {size} {precision}"] = partial(trainer.step, size)
        cases[f"network {size} {precision}"] = partial(trainer.forward_backward, *trainer.batch(size))
    seconds = alternate(cases, rounds)

    rows = []
    for size in sizes:
        flop = trainers["fp32"].flop(size)
        row = [f"{size} px", f"{flop / recipe.batch_size / 1e6:.0f}"]
        for precision in trainers:
            row.append(f"{recipe.batch_size / seconds[f'step {size} {precision}']:,.0f}")
            row.append(f"{flop / seconds[f'network {size} {precision}'] / 1e9:,.0f}")
        rows.append([*row, f"{seconds[f'step {size} fp32'] / seconds[f'step {size} bf16']:.2f}"])
    where = torch.cuda.get_device_name() if device == "cuda" else f"Torch threads: {threads}"
    print(header())
    print(f"{where}, batches of {recipe.batch_size}, widths {recipe.widths}, best of {rounds}\n")
    headings = ["size", "MFLOP/image", "fp32 images/s", "GFLOP/s", "bf16 images/s", "GFLOP/s", "bf16 / fp32"]
    print(table(headings, rows))
    batches = FER2013 // recipe.batch_size
    for precision in trainers:
        whole = sum(
            batches * seconds[f"step {recipe.size_in(epoch)} {precision}"] for epoch in range(recipe.epochs)
        )
        print(
            f"\n{recipe.epochs} epochs of FER-2013 in {precision}: {whole / 60:.1f} minutes of steps", end=""
        )
    print()


if __name__ == "__main__":
    main()
