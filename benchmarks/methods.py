"""Measure what a training step of each system of docs/methods.md costs relative to the baseline's.

    python -m benchmarks.methods [--rounds 5]

Every row of params.yaml that has a loss or a choice of its own besides labels takes steps in turns with the baseline,
on as many random images as FER-2013 has, with one thread. What is done before an epoch (AutoAugment) is shared out
among its steps. Operations are those of the network; `epoch_factor` multiplies both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from benchmarks.machine import header
from benchmarks.timing import Case, alternate, rounds_option, table
from benchmarks.workload import TRAINING, random_images
from pipeline import cli, config
from pipeline.config import Params
from pipeline.data.fer import LABELS
from pipeline.training import hardware
from pipeline.training.autotune import choose
from pipeline.training.hardware import Hardware
from pipeline.training.images import Images
from pipeline.training.loop import EpochPlan, Trainer, epoch_flop, train_step
from pipeline.training.losses import make_loss
from pipeline.training.memory import TemporalEnsemble
from pipeline.training.model import FerNet


def main(rounds: int) -> None:
    params = config.load()
    device = replace(choose(params.machine), threads=1)
    hardware.set_up(device, 0)
    data = with_neighbours(random_images(TRAINING))
    names = [params.compare.baseline, *(name for name in params.models if differs(params, name))]
    cases, before, flop = dict[str, Case](), dict[str, float](), dict[str, int]()
    for name in names:
        cases[name], before[name], flop[name] = row(params, name, device, data)
    seconds = alternate(cases, rounds, turn=1.0)
    baseline, *_ = names
    lines = []
    for name in names:
        factor = params.model(name).epoch_factor
        lines.append([
            name,
            f"{flop[name] / flop[baseline]:.2f}",
            f"{factor * (seconds[name] + before[name]) / seconds[baseline]:.2f}",
        ])  # fmt: skip
    print(f"{header()}\n{device}, {params.recipe} recipe, best of {rounds}\n")
    print(table(["row", "operations / baseline's", "time / baseline's"], lines))


def differs(params: Params, name: str) -> bool:
    """Return whether a row has a network and takes other steps than the baseline's, not only other labels."""
    model = params.model(name)
    if model.classifier or model.distillation:  # teachers cost what they cost
        return False
    return bool(model.choices.keys() - {"labels"}) or model.epoch_factor > 1 or model.loss in (
        "relative_uncertainty", "self_cure",
    )  # fmt: skip


def row(params: Params, name: str, device: Hardware, data: Images) -> tuple[Callable[[], None], float, int]:
    """Return a step of a row's last epoch, the seconds a step has of the epoch's preparation, and the operations."""
    model, recipe = params.model(name), params.recipe_of(name)
    method, last = model.method, recipe.epochs - 1
    loss = make_loss(model.loss, model.options, np.eye(len(LABELS)))
    network = FerNet(recipe.widths, loss.output_dim, mean=127.5, std=64.0, pool=model.pool)
    flop = sum(epoch_flop(network, recipe, len(data.labels), method))
    trainer = Trainer(network, loss, recipe, device, method=method)
    memory = method.memory.make(data, len(LABELS)) if method.memory else None
    if memory:
        memory.start_epoch(last, recipe.epochs)
    plan = EpochPlan.of(recipe, last, data, model.learning_rate, 0, "cpu", method)
    ensemble = TemporalEnsemble(len(data.labels), len(LABELS), "cpu")
    start = time.perf_counter()
    seen = method.before_epoch(data, 0, last)
    before = (time.perf_counter() - start) / len(plan.rates) if method.policy else 0.0

    def step() -> None:
        if int(plan.position) == len(plan.rates):
            plan.position.zero_()
        train_step(trainer, ensemble, seen, plan, memory)

    return step, before, flop


def with_neighbours(data: Images) -> Images:
    """Return the images with eight random neighbours each."""
    index = torch.randint(len(data.labels), (len(data.labels), 8))
    return replace(data, neighbours=index, affinities=torch.ones(index.shape))


if __name__ == "__main__":
    cli.script(main, rounds_option(5), example="--rounds 3")
