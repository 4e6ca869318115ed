"""Many small cases in worker processes of bounded memory and time, resumable, with one line of result each."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

from pipeline.errors import UserError

MEMORY = 1 << 30
"""Bytes of address space that one case may take beyond what its process has at the start."""
SECONDS = 60
"""Of processor time for one case, many times what the slowest takes: more is a hang."""
PATIENCE = 600
"""Seconds by the clock for one case: more is a wait for something that never comes, or code that cannot be stopped."""
LONGEST_SENTENCE = 2000
WORK = Path(".soak")
"""Where results are kept, so that a search that was stopped goes on."""


class BrokenPromiseError(Exception):
    """What a case raises about a wrong result, a half-written output or a bad sentence."""


class _OverrunError(BaseException):
    """The case took too long. Not an Exception, or the code under test would explain it away."""


@dataclass(frozen=True)
class Outcome:
    """kind: result (the input was taken), sentence (it was refused in one) or fault."""

    case: int
    kind: str
    what: str
    seconds: float
    peak: int


Case = Callable[[int, int, Path], str]
"""Runs case number `case` of search number `seed` in an empty folder and says in a few words what was tried.
Raises UserError where that was refused, anything else for a fault."""


def check_sentence(error: UserError) -> None:
    """Raise BrokenPromiseError unless the message is what a person can read on one line of a terminal."""
    text = str(error)
    problems = {
        "is empty": not text.strip(),
        "holds a line end or a control character": any(not c.isprintable() for c in text),
        f"is longer than {LONGEST_SENTENCE} characters": len(text) > LONGEST_SENTENCE,
        "shows an object of Python's": " object at 0x" in text,
        "does not end as a sentence": not text.endswith((".", "'", ")", "`", '"', "?", "!")),
    }
    for problem, holds in problems.items():
        if holds:
            raise BrokenPromiseError(f"the sentence {problem}: {text[:200]!r}")


def attempt(run: Case, seed: int, case: int) -> Outcome:
    """One case in this process, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="fer-soak-"))
    _forget_peak()
    start, kind = time.monotonic(), "result"
    try:
        with _at_most(SECONDS, PATIENCE):
            what = run(seed, case, folder)
    except UserError as error:
        kind, what = "sentence", str(error)
        try:
            check_sentence(error)
        except BrokenPromiseError as broken:
            kind, what = "fault", str(broken)
    except (Exception, _OverrunError) as error:
        frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
        kind, what = "fault", f"{type(error).__name__}: {error} [{' > '.join(frames[-6:])}]"
    seconds = time.monotonic() - start
    _remove(folder)
    return Outcome(case, kind, what[:600], round(seconds, 3), _peak())


def search(name: str, run: Case, cases: int, seed: int, jobs: int, again: bool = False) -> list[Outcome]:
    """Cases 0 to `cases` - 1. Those that an earlier call has done are not repeated unless `again`."""
    file = WORK / f"{name}-{seed}.jsonl"
    file.parent.mkdir(exist_ok=True)
    if again:
        file.unlink(missing_ok=True)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    done = {entry["case"]: Outcome(**entry) for entry in map(json.loads, filter(_is_whole, lines))}
    todo = [case for case in range(cases) if case not in done]
    with file.open("a", encoding="utf-8") as log:
        for outcome in _in_workers(run, seed, todo, jobs):
            done[outcome.case] = outcome
            log.write(json.dumps(asdict(outcome)) + "\n")
            log.flush()
            if outcome.kind == "fault":
                print(f"  case {outcome.case}: {outcome.what}", flush=True)
    return [done[case] for case in range(cases)]


def command(name: str, run: Case) -> click.Command:
    """The command of a search. The exit code is 1 if there was a fault."""

    @click.command(context_settings={"show_default": True})
    @click.option("--cases", default=10_000)
    @click.option("--seed", default=0)
    @click.option("--jobs", default=1)
    @click.option("--again", is_flag=True, help="Forget what an earlier call has done.")
    @click.option("--only", type=int, help="Run this one case in this process and show what it raises.")
    def main(cases: int, seed: int, jobs: int, again: bool, only: int | None) -> None:
        if only is None:
            sys.exit(report(name, search(name, run, cases, seed, jobs, again)))
        folder = Path(tempfile.mkdtemp(prefix="fer-soak-"))
        print(f"in {folder}")
        print(run(seed, only, folder))

    return main


def report(name: str, outcomes: Iterable[Outcome]) -> int:
    """Print the row of the table; the kinds of fault, if there are any, below it."""
    outcomes = list(outcomes)
    kinds = Counter(outcome.kind for outcome in outcomes)
    peak = max((outcome.peak for outcome in outcomes), default=0) / 2**20
    longest = max((outcome.seconds for outcome in outcomes), default=0.0)
    print(
        f"{name}: {len(outcomes):,} tried, {kinds['result']:,} results, {kinds['sentence']:,} sentences,"
        f" {kinds['fault']:,} faults; at most {peak:,.0f} MiB more memory and {longest:.1f} s for one"
    )
    faults = Counter(
        outcome.what.split("[")[-1] if "[" in outcome.what else outcome.what[:60]
        for outcome in outcomes
        if outcome.kind == "fault"
    )
    for what, count in faults.most_common():
        print(f"  {count:>6} x {what}")
    return 1 if kinds["fault"] else 0


def _is_whole(line: str) -> bool:
    return line.startswith("{") and line.endswith("}")  # the last line of a search that was killed may be cut


def _in_workers(run: Case, seed: int, todo: list[int], jobs: int) -> Iterator[Outcome]:
    """Every case of `todo`. A worker that dies (out of memory, a crash) is a fault of the case it had."""
    context = multiprocessing.get_context("fork")
    waiting = iter(todo)
    workers: dict[Connection, tuple[Any, int, float]] = {}

    def start() -> None:
        case = next(waiting, None)
        if case is None:
            return
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(run, seed, theirs), daemon=True)
        process.start()
        theirs.close()
        ours.send(case)
        workers[ours] = (process, case, time.monotonic())

    for _ in range(jobs):
        start()
    while workers:
        for process, _, begun in workers.values():
            if time.monotonic() - begun > PATIENCE + 15:
                process.kill()
        for connection in multiprocessing.connection.wait(list(workers), timeout=5):
            assert isinstance(connection, Connection)
            process, case, _ = workers[connection]
            try:
                yield connection.recv()
            except EOFError:
                process.join()
                yield Outcome(case, "fault", f"the process died with {process.exitcode}", 0.0, 0)
                del workers[connection]
                start()
                continue
            following = next(waiting, None)
            if following is None:
                connection.send(None)
                process.join()
                connection.close()
                del workers[connection]
            else:
                connection.send(following)
                workers[connection] = (process, following, time.monotonic())


def _work(run: Case, seed: int, connection: Connection) -> None:
    os.nice(10)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
    parent = os.getppid()
    used = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    while True:
        while not connection.poll(5):
            if os.getppid() != parent:  # it was killed
                return
        case = connection.recv()
        if case is None:
            return
        connection.send(attempt(run, seed, case))


@contextmanager
def _at_most(seconds: float, patience: float) -> Iterator[None]:
    """Stop what takes longer, by the processor's time or by the clock."""

    def stop(number: int, _: object) -> None:
        limit = f"{seconds} seconds of processor time" if number == signal.SIGPROF else f"{patience} seconds"
        raise _OverrunError(f"more than {limit}")

    before = [(number, signal.signal(number, stop)) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, patience)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before:
            signal.signal(number, handler)


def _status(field: str) -> int:
    """A size from Linux's account of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(field)


_before = 0


def _forget_peak() -> None:
    global _before
    Path("/proc/self/clear_refs").write_text("5")
    _before = _status("VmRSS")


def _peak() -> int:
    """Bytes of memory beyond those at the start of the case, at the worst moment."""
    return max(0, _status("VmHWM") - _before)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
