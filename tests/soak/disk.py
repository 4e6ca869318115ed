"""A disk that is full at any moment of `dvc repro`: `python -m tests.soak.disk --cases 12 --seed 0`.

A clone lives on a file system of its own (a tmpfs, which takes root) with little room left. The pipeline must stop
without a traceback of ours and without half an output; with room again, the next repro must give the bytes of a clone
that had room all the time.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

from pipeline.files import read_json
from tests.clone import Clone
from tests.soak.clones import differences, leftovers, make, outputs, workplace, wrong_runs
from tests.soak.kills import expected_runs

ROOM = 512 << 20


class SmallDisk:
    """A tmpfs whose free space is set at will."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)], check=True)

    def leave(self, room: int) -> None:
        """So many bytes are free from now on."""
        status = os.statvfs(self.place)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={used + room}", str(self.place)], check=True)

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], check=True)


def can_mount(folder: Path) -> str | None:
    """None where a tmpfs can be mounted, or the reason why not."""
    if os.geteuid() != 0:
        return "only root may mount a small file system"
    if shutil.which("mount") is None:
        return "there is no mount command"
    folder.mkdir(parents=True, exist_ok=True)
    tried = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if tried.returncode:
        return f"a tmpfs cannot be mounted here ({tried.stderr.strip()})"
    subprocess.run(["umount", str(folder)], check=True)
    return None


def half_written(clone: Clone) -> list[str]:
    """Files of the outputs that cannot be read to their end."""
    broken = []
    for path in sorted((clone.path / "outputs").rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            if path.suffix == ".npy":
                np.load(path, allow_pickle=False)
            elif path.suffix == ".json":
                read_json(path)
            elif path.stat().st_size == 0:
                broken.append(path.name)
        except (OSError, ValueError, EOFError) as error:
            broken.append(f"{path.relative_to(clone.path)}: {error}")
    return broken


@click.command(context_settings={"show_default": True})
@click.option("--cases", default=12)
@click.option("--seed", default=0)
@click.option("--folder", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir(), "fer-soak-disk"))
def main(cases: int, seed: int, folder: Path) -> None:
    workplace(folder)
    reason = can_mount(folder / "mounted")
    if reason:
        print(f"disk: skipped, as {reason}")
        return
    fresh = make(folder / "fresh")
    undisturbed = make(folder / "undisturbed")
    undisturbed.dvc("repro")
    right = outputs(undisturbed)
    used = sum(path.stat().st_size for path in undisturbed.path.rglob("*") if path.is_file())
    used -= sum(path.stat().st_size for path in fresh.path.rglob("*") if path.is_file())

    wrong: list[str] = []
    stopped = locks = 0
    for case in range(cases):
        rng = random.Random(f"disk {seed} {case}")
        disk = SmallDisk(folder / "mounted")
        try:
            clone = fresh.copy(folder / "mounted" / "fer")
            found, full, broken = fill(clone, disk, rng, used)
            found += [f"other bytes: {name}" for name in differences(right, outputs(clone))]
            found += wrong_runs(clone, expected_runs(["baseline"]), failures=True)
        finally:
            disk.remove()
        stopped += full
        locks += broken
        wrong += [f"case {case}: {problem}" for problem in found]
        print(f"  case {case}: {full} times full; {found or 'all right'}", flush=True)
    print(
        f"disk: {cases} pipelines, {stopped} times stopped by a full disk, {locks} times with half of DVC's "
        f"dvc.lock, {len(wrong)} things wrong"
    )
    sys.exit(1 if wrong else 0)


def fill(clone: Clone, disk: SmallDisk, rng: random.Random, used: int) -> tuple[list[str], int, int]:
    """Repro with a little more room each time, until it comes through.

    Returns what went wrong, how often the disk was full, and whether (0 or 1) DVC left half of its dvc.lock, which it
    writes in place: docs/troubleshooting.md says how to bring the file back, and that is what is done here.
    """
    wrong, full, broken = [], 0, 0
    for _ in range(4):
        disk.leave(rng.randrange(20_000, max(40_000, used // 2)))
        result = clone.run(sys.executable, "-m", "dvc", "repro", expect=None)
        if result.returncode == 0:
            break
        full += 1
        said = result.stdout + result.stderr
        if "Traceback" in said and "dvc" not in said.partition("Traceback")[2][:400]:
            wrong.append(f"a traceback: {said[said.index('Traceback') :][-2500:]}")
        wrong += [f"half written: {name}" for name in half_written(clone)]
    disk.leave(ROOM)
    result = clone.run(sys.executable, "-m", "dvc", "repro", expect=None)
    lock = (clone.path / "dvc.lock").read_text(encoding="utf-8")
    if result.returncode and not lock.endswith("\n"):
        broken = 1
        (clone.path / "dvc.lock").unlink()
        result = clone.run(sys.executable, "-m", "dvc", "repro", expect=None)
    if result.returncode:
        wrong.append(f"with room again: {result.stdout[-500:]} {result.stderr[-1500:]}")
    restored = clone.fer("backfill", expect=None)
    wrong += [] if restored.returncode == 0 else [f"backfill: {restored.stderr[-600:]}"]
    wrong += [f"left behind: {name}" for name in leftovers(clone)]
    return wrong, full, broken


if __name__ == "__main__":
    main()
