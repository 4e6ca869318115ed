"""How many values a second a group's MLflow server takes: values of curves that 1 to 8 writers log at once.

    python -m benchmarks.tracking [--seconds 20]

MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD name the server, which
`examples/team/server.sh` starts on PostgreSQL (docs/team.md). Each value is a row of its table of metrics. Runs are
logged with the pipeline's own code, to the experiment `benchmark`, which may be deleted afterwards.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import click

from benchmarks.machine import header
from benchmarks.timing import table
from pipeline import cli
from pipeline.cli import Number
from pipeline.errors import UserError
from pipeline.tracking import client

EXPERIMENT = "benchmark"
WRITERS = (1, 2, 4, 8)
VALUES = 10
"""Of an epoch."""
WAYS = {"an epoch per request, as in training": 1, "100 epochs per request, as in backfill": 100}
START = 2.0
"""Seconds until all writers begin."""


def epoch(number: int) -> Mapping[str, float]:
    return {"epoch": number, **{f"value_{k}": number + k / VALUES for k in range(VALUES)}}


def connect(_: int) -> None:
    """Import MLflow and ask the server once, in this process."""
    client.is_complete(client.Where(EXPERIMENT, "none", "none", "none"))


def write(start: float, seconds: float, epochs: int, writer: int) -> tuple[int, float]:
    """Log one run from `start` on, so many epochs a request; return how many values, and in how many seconds."""
    time.sleep(max(0.0, start - time.time()))
    began, number = time.perf_counter(), 0
    with client.run(EXPERIMENT, f"writer-{writer}", uuid.uuid4().hex, {"kind": "benchmark"}) as run:
        while time.perf_counter() - began < seconds:
            run.curve([epoch(number + k) for k in range(epochs)], "epoch")
            number += epochs
        if not run.working:
            raise UserError("The server took not everything: see the warnings above.")
    return number * VALUES, time.perf_counter() - began


def rate(writers: int, epochs: int, seconds: float) -> float:
    """Values a second that so many processes log together."""
    with ProcessPoolExecutor(writers, mp_context=get_context("spawn")) as pool:
        list(pool.map(connect, range(writers)))
        job = partial(write, time.time() + START, seconds, epochs)
        done = list(pool.map(job, range(writers)))
    return sum(values for values, _ in done) / max(spent for _, spent in done)


def main(seconds: int) -> None:
    if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        raise UserError("MLFLOW_TRACKING_URI names no server: start one with examples/team/server.sh (docs/team.md).")
    rows = [
        [str(writers), *(f"{rate(writers, epochs, seconds):,.0f}" for epochs in WAYS.values())] for writers in WRITERS
    ]
    print(header("mlflow", "psycopg", "sqlalchemy"))
    print(f"Values a second, {VALUES} an epoch, {seconds} s each\n")
    print(table(["writers", *WAYS], rows))


if __name__ == "__main__":
    option = click.Option(["--seconds"], type=Number(), default=20, help="How long each case writes.")
    cli.script(main, option, example="--seconds 20")
