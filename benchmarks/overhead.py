"""Measure what the pipeline's tools cost: a `dvc repro` with nothing to do, and what MLflow adds to each stage.

    python -m benchmarks.overhead [--rounds 3]

Works in a temporary clone of the last commit, with a small configuration and one model, so the
stages themselves take next to nothing. Takes some minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import header
from benchmarks.timing import alternate, rounds_option, table
from pipeline import cli

MODEL = "baseline"
DVC = (sys.executable, "-m", "dvc")
STAGES = (("fetch",), ("prepare",), ("embed",), ("train", MODEL, "0"), ("evaluate", MODEL, "0"), ("compare",))


ROOT = Path(__file__).parents[1]
SMALL = {
    "data": {"synthetic": {"train": 140, "val": 35, "test": 42}},
    "grid": {"models": [MODEL]},
    "recipes": {"fast": {"widths": [8, 16], "epochs": 3, "batch_size": 20, "sizes": [16, 24]}},
    "machine": {"precision": "fp32", "memory_format": "channels_last", "threads": 1},
    "evaluate": {"class_mean_faces": 8},
    "compare": {"resamples": 200},
}
"""The real configuration with smaller numbers."""


def command(folder: Path, *words: str, **environment: str) -> None:
    """Run a command in a folder, on one thread. Raises CalledProcessError if it fails."""
    subprocess.run(
        words, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, capture_output=True, check=True
    )


def merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with nested changes."""
    return values | {
        key: merged(values[key], change) if isinstance(change, Mapping) else change for key, change in changes.items()
    }


def finished_clone(folder: Path) -> None:
    """Return a clone of this repository's last commit after its first `dvc repro`."""
    command(folder, "git", "clone", "--quiet", str(ROOT), ".")
    command(folder, "git", "config", "user.name", "Benchmark")
    command(folder, "git", "config", "user.email", "benchmark@example.com")
    params = folder / "params.yaml"
    params.write_text(yaml.safe_dump(merged(yaml.safe_load(params.read_text()), SMALL), sort_keys=False))
    command(folder, "git", "commit", "--quiet", "--all", "--message", "A small study")
    command(folder, *DVC, "repro")


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder)
        finished_clone(clone)
        # Before the stages below, which write other times into their outputs and so make work for DVC.
        idle = {"dvc --version": ["--version"], "dvc repro, nothing to do": ["repro"]}
        commands = {name: partial(command, clone, *DVC, *arguments) for name, arguments in idle.items()}
        no_op = alternate(commands, rounds, turn=0)
        stages = {}
        for stage, *arguments in STAGES:
            words = (sys.executable, "-m", f"stages.{stage}", *arguments)
            ways = {way: partial(command, clone, *words, FER_TRACKING=way) for way in ("off", "on")}
            stages[" ".join([stage, *arguments])] = alternate(ways, rounds, turn=0)

    print(header("dvc", "mlflow"))
    print(f"Best of {rounds}, one thread\n")
    print(table(["command", "seconds"], [[name, f"{spent:.2f}"] for name, spent in no_op.items()]), end="\n\n")
    rows = [
        [name, f"{spent['off']:.2f}", f"{spent['on']:.2f}", f"{spent['on'] - spent['off']:.2f}"]
        for name, spent in stages.items()
    ]
    print(table(["stage", "MLflow off, s", "on, s", "added, s"], rows))


if __name__ == "__main__":
    cli.script(main, rounds_option(3), example="--rounds 3")
