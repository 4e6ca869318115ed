"""Choose what computes the jobs of a sweep or a search: processes on this machine, or a Ray cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from pipeline.files import JsonDict
from pipeline.study import numerics, pool
from pipeline.study.jobs import Job
from pipeline.study.pool import Outcome
from pipeline.training.autotune import MachineParams


class Executor(Protocol):
    """What does jobs. chooses_machines: each on a machine that computes as it asks, no other (`Job.environment`)."""

    chooses_machines: ClassVar[bool]

    @property
    def threads(self) -> int:
        """The threads of one training."""

    @property
    def place(self) -> str:
        """Where the jobs are done, for the user."""

    def measure(self, requested: MachineParams) -> JsonDict:
        """Return how a training will be computed (`numerics.measured`)."""

    def outcomes(self, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Do the jobs and yield each as it ends; use it with `contextlib.closing`."""


@dataclass(frozen=True)
class Processes:
    """Worker processes on this machine, so many at a time."""

    chooses_machines: ClassVar[bool] = False  # all jobs are done here
    workers: int
    threads: int

    @property
    def place(self) -> str:
        """Where the jobs are done."""
        return f"{self.workers} at a time"

    def measure(self, requested: MachineParams) -> JsonDict:
        """Measure before the workers make the machine busy."""
        return numerics.measured(requested, self.threads)

    def outcomes(self, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Do the jobs in their order."""
        return pool.outcomes(jobs, self.workers, self.threads)


@dataclass(frozen=True)
class Placement:
    """Where the user wants jobs done. workers: processes here; or `cluster`, "auto" or HOST:PORT, with the cores and
    GPUs that one run takes there."""

    workers: int
    cluster: str | None = None
    cpus: int = 1
    gpus: float = 0.0

    @property
    def options(self) -> list[str]:
        """The options of the command, as they are published: without the address, which is the user's own."""
        if self.cluster is None:
            return ["--workers", str(self.workers)]
        address = "auto" if self.cluster == "auto" else "ADDRESS"
        gpus = ["--gpus-per-run", f"{self.gpus:g}"] if self.gpus else []
        return ["--cluster", address, "--cpus-per-run", str(self.cpus), *gpus]

    @contextlib.contextmanager
    def executor(self) -> Iterator[Executor]:
        """Yield what does the jobs there. Raises UserError if there is no such cluster."""
        if self.cluster is None:
            yield Processes(self.workers, max(1, torch.get_num_threads() // self.workers))
        else:
            from pipeline.study import cluster  # which imports more than processes here need

            with cluster.connected(self.cluster, self.cpus, self.gpus) as executor:
                yield executor
