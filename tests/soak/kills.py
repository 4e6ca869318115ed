"""`kill -9` at random moments of `dvc repro`: `python -m tests.soak.kills --cases 100 --seed 0`.

A clone lives through kills of its `dvc repro`, each followed by the next repro, until one comes to its end. Then every
output must have the bytes of an undisturbed clone, and MLflow every run once. A kill hits a stage and a moment in it,
drawn so that all stages get their share: everything at once (as a crash does), DVC alone (the stage goes on without it)
or the stage alone.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import psutil

from tests.clone import TIMEOUT, Clone
from tests.soak.clones import differences, leftovers, make, outputs, wait, workplace, wrong_runs
from tests.soak.pool import WORK

TARGETS = ("everything", "everything", "everything", "DVC", "stage")
STAGE = re.compile(r"Running stage '(.+)':")
STARTING = "(start)"
"""DVC before its first stage."""


@dataclass(frozen=True)
class Kill:
    stage: str
    after: float
    """Seconds from the start of the stage."""
    target: str


@dataclass
class Life:
    """One clone from its first repro to its last: what hit it and what was wrong in the end."""

    number: int
    kills: list[Kill] = field(default_factory=list)
    missed: int = 0
    wrong: list[str] = field(default_factory=list)


class Repro:
    """`dvc repro` in a session of its own, with the stage it is in."""

    def __init__(self, clone: Clone) -> None:
        self.clone = clone
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"], cwd=clone.path, env=clone.env(PYTHONUNBUFFERED="1"),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.entered: list[tuple[str, float]] = [(STARTING, time.monotonic())]
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := STAGE.match(line):
                self.entered.append((found.group(1), time.monotonic()))

    def reach(self, stage: str) -> float | None:
        """When this stage was entered; None if the repro ended without it."""
        while True:
            for name, moment in list(self.entered):
                if name == stage:
                    return moment
            if self.process.poll() is not None:
                return None
            time.sleep(0.01)

    def comes_to(self, kill: Kill) -> bool:
        """Wait for the moment of a kill. False if the repro ended before it."""
        entered = self.reach(kill.stage)
        while entered is not None and time.monotonic() < entered + kill.after:
            if self.process.poll() is not None:
                return False
            time.sleep(0.01)
        return self.process.poll() is None

    def stage_process(self) -> psutil.Process | None:
        """The interpreter that runs a stage now: DVC starts it through a shell."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
            return next((child for child in below if any("stages." in part for part in child.cmdline())), None)
        except psutil.Error:
            return None

    def kill(self, target: str) -> None:
        if target == "everything":
            os.killpg(self.process.pid, signal.SIGKILL)
        elif target == "DVC":
            self.process.kill()
        elif (process := self.stage_process()) is not None:
            process.kill()
        else:
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> int:
        """Wait for it and give its exit code."""
        code = self.process.wait(timeout=TIMEOUT)
        self._reader.join(timeout=1)  # a stage that outlives DVC holds the pipe open
        return code


def orphans(clone: Clone) -> list[psutil.Process]:
    """Processes that work in the clone."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == clone.path and process.pid != os.getpid():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def durations(clone: Clone) -> dict[str, float]:
    """Run the pipeline undisturbed; how long DVC was in each stage, in the order of the stages."""
    repro = Repro(clone)
    code = repro.end()
    if code:
        raise RuntimeError("".join(repro.lines))
    moments = [*repro.entered, ("", time.monotonic())]
    return {name: following[1] - moment for (name, moment), following in itertools.pairwise(moments)}


def plan(rng: random.Random, lengths: dict[str, float], most: int) -> list[Kill]:
    """Kills in the order in which the pipeline comes by: about two of three stages, some of them twice."""
    kills = []
    for stage, length in lengths.items():
        for _ in range(rng.choice([0, 1, 1, 1, 2]) if stage != STARTING else rng.choice([0, 0, 1])):
            target = rng.choice(TARGETS) if stage != STARTING else "everything"
            kills.append(Kill(stage, round(rng.uniform(0.0, 1.0) * length, 2), target))
    return kills[:most]


def live(clone: Clone, kills: list[Kill], number: int) -> Life:
    """One life of a clone. Kills whose stage is over before them are missed and do not count."""
    life = Life(number)
    for kill in kills:
        repro = Repro(clone)
        if not repro.comes_to(kill):
            life.missed += 1
            repro.end()
            continue
        repro.kill(kill.target)
        code = repro.end()
        if code == 0:  # the stage was just over
            life.missed += 1
            continue
        life.kills.append(kill)
        said = "".join(repro.lines)
        if "Traceback" in said:
            life.wrong.append(f"a traceback after {kill}: {said[-1500:]}")
    last = Repro(clone)
    if last.end():
        life.wrong.append(f"the last repro failed: {''.join(last.lines)[-1500:]}")
    if not wait(lambda: not orphans(clone), 120):
        life.wrong.append(f"{len(orphans(clone))} processes do not end")
    return life


def judge(life: Life, clone: Clone, undisturbed: dict[str, str], expected: Counter[str]) -> None:
    """What is wrong at the end of a life."""
    if not (clone.path / "dvc.lock").exists():
        life.wrong.append("no dvc.lock")
        return
    life.wrong += [f"other bytes: {name}" for name in differences(undisturbed, outputs(clone))]
    life.wrong += wrong_runs(clone, expected)
    life.wrong += [f"left behind: {name}" for name in leftovers(clone)]
    life.wrong += [f"left behind: {path.name}" for path in (clone.path / ".checkpoints").glob("*.safetensors")]
    status = clone.dvc("status", expect=None)
    if "up to date" not in status:
        life.wrong.append(f"not up to date: {status}")


def expected_runs(models: list[str]) -> Counter[str]:
    return Counter(["fetch", "prepare", "embed", "comparison", *(f"{model}-0" for model in models)])


def known(file: Path) -> Iterator[Life]:
    """The lives of earlier calls with the same seed."""
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        if line.endswith("}"):
            entry = json.loads(line)
            yield Life(**{**entry, "kills": [Kill(**kill) for kill in entry["kills"]]})


@click.command(context_settings={"show_default": True})
@click.option("--cases", default=100, help="How many kills, all lives together.")
@click.option("--seed", default=0)
@click.option("--again", is_flag=True, help="Forget what an earlier call has done.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir(), "fer-soak-kills"))
def main(cases: int, seed: int, again: bool, folder: Path) -> None:
    workplace(folder)
    file = WORK / f"kills-{seed}.jsonl"
    file.parent.mkdir(exist_ok=True)
    if again:
        file.unlink(missing_ok=True)
    lives = list(known(file))

    fresh = make(folder / "fresh")
    models = ["baseline"]
    shutil.rmtree(folder / "undisturbed", ignore_errors=True)
    undisturbed = fresh.copy(folder / "undisturbed")
    lengths = durations(undisturbed)
    right, expected = outputs(undisturbed), expected_runs(models)
    wrong = wrong_runs(undisturbed, expected)
    if wrong:
        raise RuntimeError(f"undisturbed: {wrong}")
    print("undisturbed:", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in lengths.items()), flush=True)

    while sum(len(life.kills) for life in lives) < cases:
        number = len(lives)
        rng = random.Random(f"kills {seed} {number}")
        missing = cases - sum(len(life.kills) for life in lives)
        shutil.rmtree(folder / f"life-{number}", ignore_errors=True)
        clone = fresh.copy(folder / f"life-{number}")
        life = live(clone, plan(rng, lengths, missing), number)
        judge(life, clone, right, expected)
        lives.append(life)
        with file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(life)) + "\n")
        print(
            f"  life {number}: {len(life.kills)} kills, {life.missed} came too late; {life.wrong or 'all right'}",
            flush=True,
        )
        if not life.wrong:
            shutil.rmtree(clone.path)
    sys.exit(report(lives))


def report(lives: list[Life]) -> int:
    kills = [kill for life in lives for kill in life.kills]
    stages = Counter(kill.stage.partition("@")[0] for kill in kills)
    targets = Counter(kill.target for kill in kills)
    wrong = [life for life in lives if life.wrong]
    print(
        f"kills: {len(kills)} kills in {len(lives)} lives of a repository, {len(wrong)} lives with something wrong;"
        f" by stage {dict(stages)}, of {dict(targets)}"
    )
    for life in wrong:
        print(f"  life {life.number}: {life.wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
