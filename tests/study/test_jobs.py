"""Jobs arrive as they were sent, as JSON to a process and pickled to a node."""

from __future__ import annotations

import json

import pytest

from pipeline.study.jobs import Job, MeasureJob, RunJob, SearchJob, job_of
from pipeline.study.provenance import Origin
from pipeline.training.autotune import MachineParams

JOBS = (
    RunJob(
        "words-3", "results/a", "words", 3, True, Origin("fer sweep", "1a2b", None),
        block_folder=".study/B", environment={"precision": "fp32", "threads": 1},
    ),
    SearchJob("search-words", "results/a", "words", 0),
    MeasureJob("machine", "results", MachineParams("auto", "contiguous", 2, False)),
)  # fmt: skip


@pytest.mark.parametrize("job", JOBS)
def test_a_job_arrives_as_it_was_sent(job: Job) -> None:
    assert job_of(json.loads(json.dumps(job.to_dict()))) == job
