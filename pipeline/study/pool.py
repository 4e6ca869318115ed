"""Give jobs to several worker processes and yield what comes back, until all is done or this process is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from typing import NamedTuple

from pipeline.files import JsonDict
from pipeline.fingerprint import SOURCES
from pipeline.study.jobs import Job

COMMAND = (sys.executable, "-c", "from pipeline.study.worker import main; main()")
STOP_TIMEOUT = 60
"""Seconds that a worker has to stop: to end a batch and to remove temporary files."""


class Outcome(NamedTuple):
    """What came of a job: its answer, or the error that ended it. running: how many others run now."""

    job: Job
    found: JsonDict | None
    seconds: float
    error: str | None
    running: int = 0


class Worker:
    """A process that does one job after another (`pipeline.study.worker`), in this folder, with these threads."""

    def __init__(self, threads: int) -> None:
        path = os.pathsep.join(filter(None, [str(SOURCES), os.environ.get("PYTHONPATH")]))
        # A session of its own: Ctrl-C reaches this process alone, which then stops the workers.
        self.process = subprocess.Popen(
            COMMAND,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdin
        assert self.process.stdout
        self.jobs, self.answers = self.process.stdin, self.process.stdout
        self.job: Job | None = None
        self.since = 0.0

    def start(self, job: Job) -> None:
        """Begin a job."""
        self.job, self.since = job, time.monotonic()
        with contextlib.suppress(OSError):  # it has been killed meanwhile, as its outcome will say
            self.jobs.write(json.dumps(job.to_dict()) + "\n")
            self.jobs.flush()

    def outcome(self) -> Outcome:
        """Return the outcome of the job that was started, once there is something to read."""
        assert self.job
        line, seconds = self.answers.readline(), time.monotonic() - self.since
        if line:
            answer = json.loads(line)
            return Outcome(self.job, answer.get("found"), seconds, answer.get("error"))
        code = self.process.wait()
        why = f"by signal {-code}" if code < 0 else f"with {code}"
        return Outcome(self.job, None, seconds, f"The process ended {why}.")

    def stop(self) -> None:
        """End the process, whatever it does; an interrupted training has a checkpoint."""
        with contextlib.suppress(OSError):  # it has ended
            self.jobs.close()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()


def outcomes(jobs: Sequence[Job], workers: int, threads: int) -> Generator[Outcome]:
    """Do the jobs in their order, several at a time, and yield each as it ends; a failed one stops no other.

    The workers end with this generator: use it with `contextlib.closing`.
    """
    waiting, busy = deque(jobs), selectors.DefaultSelector()
    try:
        for _ in range(min(workers, len(jobs))):
            _employ(busy, threads, waiting.popleft())
        while busy.get_map():
            for key, _ in busy.select():
                worker: Worker = key.data
                outcome = worker.outcome()
                if waiting and outcome.error is None:
                    worker.start(waiting.popleft())
                else:
                    busy.unregister(worker.answers)
                    worker.stop()
                    if waiting:
                        _employ(busy, threads, waiting.popleft())
                yield outcome._replace(running=len(busy.get_map()))
    finally:
        left = [key.data for key in busy.get_map().values()]
        for worker in left:  # all of them stop together
            with contextlib.suppress(OSError):
                worker.jobs.close()
        for worker in left:
            worker.stop()
        busy.close()


def _employ(busy: selectors.BaseSelector, threads: int, job: Job) -> None:
    worker = Worker(threads)
    busy.register(worker.answers, selectors.EVENT_READ, worker)
    worker.start(job)
