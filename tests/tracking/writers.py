"""Several processes that log to one server through this project's own code, each as another clone would.

`python -m tests.tracking.writers FOLDER WRITERS RUNS [same]`: each writer logs RUNS runs and tries again until all are
there. With `same`, all log the same runs and begin each at the same time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mlflow

from pipeline.errors import UserError
from pipeline.tracking import client
from pipeline.tracking.backfill import restore
from pipeline.tracking.client import Where

EXPERIMENT = "many writers"
EPOCHS = 10
SHARED = 100
"""The writer whose runs all log with `same`."""
DEADLINE = 300
"""Seconds for all of it: many times what it takes."""

Part = tuple[Where, Callable[[], object]]


def key(writer: int, run: int) -> str:
    return f"writer {writer} run {run}"


def params(writer: int, run: int) -> dict[str, object]:
    return {"seed": run, "model": {"name": f"writer-{writer}", "options": {f"o{k}": k for k in range(20)}}}


def history(writer: int, run: int) -> list[dict[str, float]]:
    names = ("train_loss", "val_loss", "val_accuracy", "learning_rate", "size")
    return [
        {"epoch": epoch, **{name: writer + run / 10 + epoch / 1000 + k for k, name in enumerate(names)}}
        for epoch in range(EPOCHS)
    ]


def log(where: Where, writer: int, run: int) -> None:
    file = Path(f"{writer}-{run}.txt")
    file.write_text(where.key)
    with client.run_of(where, {"kind": "model"}) as logged:
        logged.tags({f"t{k}": f"of run {run}" for k in range(30)})
        logged.params(params(writer, run))
        logged.curve(history(writer, run), "epoch")
        logged.metrics({"test": {f"m{k}": writer + run / 10 + k for k in range(50)}})
        logged.artifacts(file, "evaluation")


def parts(writer: int, runs: int) -> list[Part]:
    places = [Where(EXPERIMENT, f"writer-{writer}", key(writer, run), f"content {run}") for run in range(runs)]
    return [(where, partial(log, where, writer, run)) for run, where in enumerate(places)]


def write(mine: list[Part]) -> None:
    """Log what is missing until nothing is, as someone who runs `fer backfill` again would."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            restore(mine)
        except UserError as error:
            print(error, file=sys.stderr, flush=True)
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def write_at_once(mine: list[Part], start: float) -> None:
    """Begin each run when the others do."""
    client.is_complete(mine[0][0])  # connected
    for number, part in enumerate(mine):
        time.sleep(max(0.0, start + number - time.time()))
        write([part])


def main(folder: Path, writers: int, runs: int, same: bool) -> None:
    mlflow.MlflowClient()  # imported once, for all
    start, children = time.time() + 3, []
    for writer in range(writers):
        if child := os.fork():
            children.append(child)
            continue
        (folder / str(writer)).mkdir()
        os.chdir(folder / str(writer))
        if same:
            write_at_once(parts(SHARED, runs), start)
        else:
            write(parts(writer, runs))
        os._exit(0)
    sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "same" in sys.argv[4:])
