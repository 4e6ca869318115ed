"""Describe the jobs of the study's commands, which are done on this machine or on the nodes of a Ray cluster:

    sweep -> executor -> pool -> worker
                      -> cluster -> ray_task -> node -> worker

`sweep` makes jobs and reports what becomes of them, `executor` chooses who does them, and `worker` does one after
another in a process. A job travels as a dict, as JSON to a process and pickled to a node.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from pipeline.files import JsonDict
from pipeline.study.provenance import Origin
from pipeline.training.autotune import MachineParams
from pipeline.workspace import RunKey

LOGS = Path("logs")
"""In the folder of a block."""


@dataclass(frozen=True)
class Job:
    """What all jobs have.

    name: for the user and for its log. folder: where its results are kept. block_folder: the folder of its block,
    relative to the repository, for a node. environment: how the machine has to compute
    (`training.hardware.environment`, perhaps with its `instructions`), empty if that does not matter.
    """

    kind: ClassVar[str]
    name: str
    folder: str
    block_folder: str = field(default="", kw_only=True)
    environment: JsonDict = field(default_factory=dict, kw_only=True)

    @property
    def log(self) -> Path:
        """The file for its output, in the folder of its block."""
        return LOGS / f"{self.name}.log"

    def to_dict(self) -> JsonDict:
        """Return the job as it travels."""
        return {"kind": self.kind} | asdict(self)


@dataclass(frozen=True)
class ModelJob(Job):
    """A job about one model and seed."""

    model: str
    seed: int

    @property
    def run_key(self) -> RunKey:
        """The model and the seed."""
        return RunKey(self.model, self.seed)


@dataclass(frozen=True)
class RunJob(ModelJob):
    """Train, evaluate and publish a run. figures: whether to draw them; origin: the command that asked for it."""

    kind = "run"
    figures: bool
    origin: Origin


@dataclass(frozen=True)
class SearchJob(ModelJob):
    """Search the learning rate of a row."""

    kind = "search"


@dataclass(frozen=True)
class MeasureJob(Job):
    """Say how a machine computes a training."""

    kind = "machine"
    machine: MachineParams


def job_of(values: JsonDict) -> Job:
    """Return the job that `Job.to_dict` has described."""
    kind, given = values["kind"], {name: value for name, value in values.items() if name != "kind"}
    if kind == RunJob.kind:
        return RunJob(**given | {"origin": Origin(**given["origin"])})
    if kind == SearchJob.kind:
        return SearchJob(**given)
    return MeasureJob(**given | {"machine": MachineParams(**given["machine"])})
