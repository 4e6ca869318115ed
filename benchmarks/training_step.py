"""Measure how fast training goes: images per second of whole steps, and how much arithmetic the network gets done.

    python -m benchmarks.training_step [--rounds 5]

A step is what pipeline.training.loop does with a batch (augment, forward, loss, backward, SGD, moving average), in
channels_last with all threads and in both number formats, also where one of them is emulated. Operations are
counted in forward and backward (convolutions and matrix products) and divided by the time of these two alone.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Literal

import torch

from benchmarks.machine import header
from benchmarks.timing import Case, alternate, rounds_option, table, waiting
from benchmarks.workload import TRAINING, Workload
from pipeline import cli, config
from pipeline.training import hardware
from pipeline.training.hardware import Hardware


def main(rounds: int) -> None:
    params = config.load()
    recipe = params.chosen_recipe
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    hardware.set_up(Hardware(device, "fp32", threads=threads), 0)
    workloads = {
        "fp32": Workload(params, params.recipe, Hardware(device, "fp32", threads=threads)),
        "bf16": Workload(params, params.recipe, Hardware(device, "bf16", threads=threads)),
    }

    sizes = sorted(set(recipe.sizes))
    cases: dict[str, Case] = {}
    for size, (precision, workload) in product(sizes, workloads.items()):
        chosen = workload.next_rows()
        images, labels = workload.augment(chosen, size), workload.data.labels[chosen]
        cases[f"step {size} {precision}"] = waiting(partial(workload.step, size))
        cases[f"network {size} {precision}"] = waiting(partial(workload.forward_backward, images, labels))
    seconds = alternate(cases, rounds)

    rows = []
    for size in sizes:
        flop = workloads["fp32"].flop(size)
        row = [f"{size} px", f"{flop / recipe.batch_size / 1e6:.0f}"]
        for precision in workloads:
            row.append(f"{recipe.batch_size / seconds[f'step {size} {precision}']:,.0f}")
            row.append(f"{flop / seconds[f'network {size} {precision}'] / 1e9:,.0f}")
        rows.append([*row, f"{seconds[f'step {size} fp32'] / seconds[f'step {size} bf16']:.2f}"])
    where = torch.cuda.get_device_name() if device == "cuda" else f"Torch threads: {threads}"
    print(header())
    print(f"{where}, batches of {recipe.batch_size}, widths {recipe.widths}, best of {rounds}\n")
    headings = ["size", "MFLOP/image", "fp32 images/s", "GFLOP/s", "bf16 images/s", "GFLOP/s", "bf16 / fp32"]
    print(table(headings, rows))
    batches = TRAINING // recipe.batch_size
    for precision in workloads:
        whole = sum(batches * seconds[f"step {recipe.size_in(epoch)} {precision}"] for epoch in range(recipe.epochs))
        print(f"\n{recipe.epochs} epochs of FER-2013 in {precision}: {whole / 60:.1f} minutes of steps", end="")
    print()


if __name__ == "__main__":
    cli.script(main, rounds_option(5), example="--rounds 3")
