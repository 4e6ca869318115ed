"""Measure what it is worth on a GPU to record a training step once and replay it (pipeline.training.cuda_graph).

    python -m benchmarks.replay [--rounds 3]

Trains two epochs of each recipe on FER-2013's number of random images, with each step started from Python and with
recorded steps, in turns. The time is that of the second epoch as training keeps it, with PublicTest at its end, and
by step that time over the number of steps.
"""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import torch

from benchmarks.machine import header
from benchmarks.timing import rounds_option, table
from benchmarks.workload import TRAINING, VALIDATION, random_images
from pipeline import cli, config
from pipeline.data.fer import LABELS
from pipeline.errors import UserError
from pipeline.training import hardware, loop
from pipeline.training.hardware import Hardware
from pipeline.training.images import Images
from pipeline.training.loop import train
from pipeline.training.losses import make_loss
from pipeline.training.model import FerNet
from pipeline.training.recipe import Recipe


def main(rounds: int) -> None:
    if not torch.cuda.is_available():
        raise UserError("There is no CUDA GPU here, and on a processor nothing is recorded.")
    hardware.set_up(Hardware("cuda", "bf16"), 0)
    training_images, validation = random_images(TRAINING), random_images(VALIDATION)
    print(f"{header()}\n{torch.cuda.get_device_name()}, bf16, channels_last, best of {rounds}\n")
    rows = []
    for name, recipe in config.load().recipes.items():
        seconds: dict[bool, list[float]] = {recorded: [] for recorded in (False, True)}
        for _ in range(rounds):
            for recorded, taken in seconds.items():
                taken.append(epoch(recipe, training_images, validation, recorded))
        python, replayed = (min(seconds[recorded]) for recorded in (False, True))
        steps = TRAINING // recipe.batch_size
        rows.append([
            name, f"{1000 * python / steps:.2f}", f"{1000 * replayed / steps:.2f}", f"{replayed:.2f}",
            f"{python / replayed:.1f}",
        ])  # fmt: skip
    heads = ["recipe", "ms a step, from Python", "ms a step, recorded", "s an epoch, recorded", "times"]
    print(table(heads, rows))


def epoch(recipe: Recipe, images: Images, validation: Images, recorded: bool) -> float:
    """Return the seconds of a second epoch."""
    loss = make_loss("cross_entropy", {"label_smoothing": 0.1}, np.eye(len(LABELS)), "cuda")
    network = FerNet(recipe.widths, len(LABELS), mean=127.5, std=64.0)
    with mock.patch.object(loop, "records_steps", return_value=recorded):
        _, progress = train(
            network, loss, images, validation, replace(recipe, epochs=2), 0.1, 0, Hardware("cuda", "bf16"),
            None, lambda row: None,
        )  # fmt: skip
    return progress.seconds[-1]


if __name__ == "__main__":
    cli.script(main, rounds_option(3), example="--rounds 3")
