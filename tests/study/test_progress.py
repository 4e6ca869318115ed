"""The line that a sweep prints for each run: what it found, how many are done, running and failed, and the end."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import pytest

from pipeline.errors import UserError
from pipeline.study import sweep
from pipeline.study.executor import Processes
from pipeline.study.jobs import Job, RunJob
from pipeline.study.pool import Outcome
from pipeline.study.provenance import Origin

MINUTES = 60.0


@dataclass(frozen=True)
class Told(Processes):
    """An executor that does nothing: what comes of the jobs is told in advance."""

    outcome: Sequence[Outcome]

    def outcomes(self, jobs: Sequence[Job]) -> Generator[Outcome]:
        yield from self.outcome


def carry_out(*outcomes: Outcome) -> None:
    sweep.carry_out([outcome.job for outcome in outcomes], Told(2, 1, outcomes), sweep.kept_run, "T")


def job(name: str) -> Job:
    return RunJob(name, "results", "a", 0, False, Origin("fer sweep", None, None))


def test_each_run_says_what_is_done_and_when_all_will_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "localtime", time.gmtime)
    found = {"val_accuracy": 0.655}
    carry_out(
        Outcome(job("a-0"), found, 4 * MINUTES, None, running=2),
        Outcome(job("b-0"), found, 8 * MINUTES, None, running=1),
        Outcome(job("c-0"), found, 6 * MINUTES, None, running=0),
    )
    lines = capsys.readouterr().out.splitlines()
    # Two are left of four minutes, which run side by side; then one of six, the mean of both.
    expected = (
        ("a-0", "65.5 %", "4.0 minutes", "1 of 3", "2 running", "0 failed", "00:04"),
        ("b-0", "65.5 %", "8.0 minutes", "2 of 3", "1 running", "0 failed", "00:06"),
        ("c-0", "65.5 %", "6.0 minutes", "3 of 3", "0 running", "0 failed"),
    )
    for line, parts in zip(lines, expected, strict=True):
        for part in parts:
            assert part in line
    assert ":" not in lines[-1].split("minutes")[1], "nothing is left to wait for"


def test_a_failed_run_is_counted_and_named_with_its_log_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UserError, match=r"1 job failed \(a-0\)"):
        carry_out(
            Outcome(job("a-0"), None, MINUTES, "The disk is full.", running=1),
            Outcome(job("b-0"), {"val_accuracy": 0.5}, MINUTES, None, running=0),
        )
    first, second = capsys.readouterr().out.splitlines()
    for part in ("a-0", "The disk is full.", ".study/T/logs/a-0.log", "1 of 2", "1 failed"):
        assert part in first
    for part in ("b-0", "2 of 2", "1 failed"):
        assert part in second
