"""Measure what several processes give: one training shared by two (`torchrun`), or two trainings side by side.

    python -m benchmarks.shared_training [--rounds 2]

Trains the networks of two recipes on drawn faces, in a temporary clone of the last commit; the ways take turns. Counts
the images of the fastest epoch, so that starting a process is left out. Takes some minutes on two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks.machine import header
from benchmarks.overhead import MODEL, ROOT, command, merged
from benchmarks.timing import rounds_option, table
from pipeline import cli
from pipeline.files import read_json

RECIPES = ("mini", "full")
IMAGES, EPOCHS = 896, 3  # whole batches of each class alike
TRAIN = ("-m", "stages.train", MODEL)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


class Way(NamedTuple):
    """Commands that run at the same time, each a training of its seed, with so many threads a process."""

    threads: int
    commands: Sequence[Sequence[str]]


WAYS = {
    "one process of one thread": Way(1, [(*TRAIN, "0")]),
    "one process of two threads": Way(2, [(*TRAIN, "0")]),
    "one training, shared by two processes": Way(1, [(*TORCHRUN, *TRAIN, "0")]),
    "two trainings at once": Way(1, [(*TRAIN, "0"), (*TRAIN, "1")]),
}


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        rates = {(way, recipe): 0.0 for way in WAYS for recipe in RECIPES}
        for _ in range(rounds):
            for way, recipe in rates:
                rates[way, recipe] = max(rates[way, recipe], images_per_second(folder, WAYS[way], recipe))
    print(header())
    print(f"Images a second of the training, best of {rounds}\n")
    alone = next(iter(WAYS))
    rows = [
        [way, *(f"{rates[way, recipe]:,.0f} ({rates[way, recipe] / rates[alone, recipe]:.2f})" for recipe in RECIPES)]
        for way in WAYS
    ]
    print(table(["images/s (times the first)", *RECIPES], rows))


def prepare(folder: Path) -> None:
    """Make what a training reads."""
    command(folder, "git", "clone", "--quiet", str(ROOT), ".")
    configure(folder, RECIPES[0], 1)
    for stage in ("fetch", "prepare", "landmarks", "embed", "targets"):
        command(folder, sys.executable, "-m", f"stages.{stage}", FER_TRACKING="off")


def configure(folder: Path, recipe: str, threads: int) -> None:
    """Write the parameters of a training with few images and epochs, all of one size."""
    params = folder / "params.yaml"
    changes = {
        "data": {"synthetic": {"train": IMAGES}},
        "grid": {"models": [MODEL], "seeds": [0, 1]},
        "recipe": recipe,
        "recipes": {recipe: {"epochs": EPOCHS, "sizes": [48]}},
        "machine": {"precision": "fp32", "memory_format": "channels_last", "threads": threads},
    }
    params.write_text(yaml.safe_dump(merged(yaml.safe_load(params.read_text()), changes), sort_keys=False))


def images_per_second(folder: Path, way: Way, recipe: str) -> float:
    """Train; return the images of all trainings in a second of their fastest epochs."""
    configure(folder, recipe, way.threads)
    given = os.environ | {"FER_TRACKING": "off", "OMP_NUM_THREADS": str(way.threads)}
    processes = [
        subprocess.Popen([sys.executable, *words], cwd=folder, env=given, stdout=subprocess.DEVNULL)
        for words in way.commands
    ]
    for process in processes:
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, process.args)
    models = [folder / f"outputs/models/{MODEL}-{words[-1]}/model.json" for words in way.commands]
    return sum(IMAGES / float(min(read_json(model)["epoch_seconds"])) for model in models)


if __name__ == "__main__":
    cli.script(main, rounds_option(2), example="--rounds 2")
