"""Processes that do jobs: a job that ends its process stops no other, and no process outlives its user."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
import pytest

from pipeline.files import JsonDict
from pipeline.study import pool
from pipeline.study.jobs import Job
from pipeline.study.pool import Outcome

WORKER = """
import json, os, sys, time
for line in sys.stdin:
    job = json.loads(line)
    if "exit" in job:
        os.kill(os.getpid(), job["exit"])
    if "wait" in job:
        time.sleep(job["wait"])
    print(json.dumps({"error": "no"} if "wrong" in job else {"found": {"process": os.getpid()}}), flush=True)
    if "wrong" in job:
        break
"""


@dataclass(frozen=True)
class Order(Job):
    """A job of the stand-in above."""

    values: JsonDict = field(default_factory=dict)

    def to_dict(self) -> JsonDict:
        return self.values


def order(**values: object) -> Order:
    return Order("a job", "", values)


@pytest.fixture(autouse=True)
def _worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, "-c", WORKER))


def done(*jobs: Job, workers: int = 1) -> list[Outcome]:
    with contextlib.closing(pool.outcomes(jobs, workers, threads=1)) as outcomes:
        return list(outcomes)


def test_one_process_does_many_jobs() -> None:
    found = done(*(jobs := [order(n=n) for n in range(3)]))
    assert [outcome.job for outcome in found] == jobs
    assert len({outcome.found["process"] for outcome in found if outcome.found}) == 1


def test_jobs_run_side_by_side() -> None:
    start = time.monotonic()
    assert len(done(*[order(wait=0.5)] * 3, workers=3)) == 3
    assert time.monotonic() - start < 1.4


@pytest.mark.parametrize("bad", [{"exit": 9}, {"wrong": True}])
def test_a_job_that_fails_stops_no_other(bad: dict[str, object]) -> None:
    first, second, third = done(order(n=0), order(**bad), order(n=2))
    assert first.error is None
    assert third.error is None
    assert second.error
    assert second.found is None
    assert third.found != first.found, "by another process"


def test_no_process_is_left_if_the_user_stops() -> None:
    def children() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if WORKER in child.cmdline()]

    jobs: Iterator[Outcome] = pool.outcomes([order(n=0), order(n=1, wait=1)], 2, threads=1)
    with contextlib.closing(jobs):  # type: ignore[type-var]
        next(jobs)
        assert children()
    assert not children()
