"""Measure what AutoAugment costs: each policy applied to FER-2013's number of images, next to an epoch of training.

    python -m benchmarks.policies [--rounds 10]

A policy is applied to all images before an epoch. An epoch is its training steps in the recipe of params.yaml, without
validation. Both are measured in processor time on one thread, which other work on the machine changes little. Memory
is that beyond the images given, with the result. A second table says what share of grey images each policy moves,
inverts at least in part, and leaves alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from statistics import fmean

import psutil
import torch
from torch import Tensor

from benchmarks.machine import header
from benchmarks.timing import Case, rounds_option, table, waiting
from benchmarks.workload import TRAINING, Workload, random_images
from pipeline import cli, config
from pipeline.data.fer import IMAGE_SIZE
from pipeline.training import autotune, hardware
from pipeline.training.policies import OPERATIONS, POLICIES, Policy, apply_policy

MOVES = {name for name, operation in OPERATIONS.items() if operation.signed}
INVERSIONS = {"Invert", "Solarize"}


def applied(images: Tensor, name: str) -> Tensor:
    return apply_policy(images, name, torch.Generator().manual_seed(0))


def share(policy: Policy, names: Collection[str]) -> float:
    """Return the share of the images to which at least one operation of these names is applied."""
    without = (math.prod(1 - chance for name, chance, _ in steps if name in names) for steps in policy)
    return 1 - fmean(without)


def processor_seconds(cases: Mapping[str, Case], rounds: int) -> dict[str, float]:
    """Return the fewest seconds of processor time of a call of each case. The cases take turns."""
    best = dict.fromkeys(cases, math.inf)
    for _ in range(rounds):
        for name, case in cases.items():
            start = time.process_time()
            case()
            best[name] = min(best[name], time.process_time() - start)
    return best


def added_bytes(case: Case) -> int:
    """Return the most memory that a call has at a time, beyond what there was before."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        case()
        return int(torch.cuda.max_memory_allocated()) - before
    process, done = psutil.Process(), threading.Event()
    before = int(process.memory_info().rss)
    seen = [before]

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        case()
    finally:
        done.set()
        watcher.join()
    return max(seen) - before


def main(rounds: int) -> None:
    params = config.load()
    recipe = params.chosen_recipe
    chosen = replace(autotune.choose(replace(params.machine, compile=False)), threads=1)
    hardware.set_up(chosen, 0)
    images = random_images(TRAINING).pixels.to(chosen.device)

    policies = {name: waiting(partial(applied, images, name)) for name in POLICIES}
    memory = {name: added_bytes(case) for name, case in policies.items()}
    workload = Workload(params, params.recipe, chosen)
    steps = {f"step {size}": waiting(partial(workload.step, size)) for size in recipe.sizes}
    seconds = processor_seconds(policies | steps, rounds)

    epoch = workload.batches * fmean(seconds[f"step {recipe.size_in(number)}"] for number in range(recipe.epochs))
    rows = [
        [name, f"{seconds[name]:.2f}", f"{100 * seconds[name] / epoch:.1f} %", f"{memory[name] / 1e6:.0f}"]
        for name in POLICIES
    ]
    print(header())
    print(f"{TRAINING:,} images of {IMAGE_SIZE} px, {chosen}, best of {rounds}")
    print(f"Recipe {params.recipe}: {epoch:.1f} processor seconds for the steps of an epoch\n")
    print(table(["policy", "processor seconds", "of the epoch", "MB added"], rows), end="\n\n")
    changes = [MOVES, INVERSIONS, OPERATIONS.keys() - {"Color"}]
    shares = {name: [100 * share(policy, names) for names in changes] for name, policy in POLICIES.items()}
    rows = [
        [name, f"{moved:.0f} %", f"{inverted:.0f} %", f"{100 - changed:.0f} %"]
        for name, (moved, inverted, changed) in shares.items()
    ]
    print(table(["policy", "moved", "inverted, at least in part", "unchanged"], rows))


if __name__ == "__main__":
    cli.script(main, rounds_option(10), example="--rounds 3")
