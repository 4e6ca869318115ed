"""What the pipeline's tools cost: a `dvc repro` with nothing to do, and the seconds MLflow adds to each stage.

    python -m benchmarks.overhead [--rounds 3]

Works in a temporary clone of the last commit, with the tests' small configuration and one model, so the
stages themselves take next to nothing. Takes some minutes.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from benchmarks.machine import header
from benchmarks.timing import alternate, rounds_option, table
from pipeline import cli
from tests.clone import ROOT, SMALL, Clone

MODEL = "baseline"
STAGES = (("fetch",), ("prepare",), ("embed",), ("train", MODEL, "0"), ("evaluate", MODEL, "0"), ("compare",))


def finished_clone(folder: Path) -> Clone:
    """This repository's last commit after its first `dvc repro`."""
    clone = Clone(folder)
    clone.run("git", "clone", "--quiet", str(ROOT), ".")
    clone.run("git", "config", "user.name", "Benchmark")
    clone.run("git", "config", "user.email", "benchmark@example.com")
    clone.set(SMALL | {"grid.models": [MODEL], "compare.baseline": MODEL})
    clone.commit("A small study")
    clone.dvc("repro")
    return clone


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = finished_clone(Path(folder))
        # Before the stages below, which write other times into their outputs and so make work for DVC.
        idle = {"dvc --version": ["--version"], "dvc repro, nothing to do": ["repro"]}
        commands = {name: partial(clone.dvc, *arguments) for name, arguments in idle.items()}
        no_op = alternate(commands, rounds, turn=0)
        stages = {
            " ".join(stage): alternate(
                {way: partial(clone.stage, *stage, FER_TRACKING=way) for way in ("off", "on")}, rounds, turn=0
            )
            for stage in STAGES
        }

    print(header("dvc", "mlflow"))
    print(f"Best of {rounds}, one thread\n")
    print(
        table(["command", "seconds"], [[name, f"{spent:.2f}"] for name, spent in no_op.items()]), end="\n\n"
    )
    rows = [
        [name, f"{spent['off']:.2f}", f"{spent['on']:.2f}", f"{spent['on'] - spent['off']:.2f}"]
        for name, spent in stages.items()
    ]
    print(table(["stage", "MLflow off, s", "on, s", "added, s"], rows))


if __name__ == "__main__":
    cli.script(main, rounds_option(3), example="--rounds 3")
