"""Do a job on a node of a Ray cluster, in a folder that looks like the repository, with what a worker process runs.

While the job runs, its checkpoint, its log and the trials of a search are sent to the command whenever they change, so
that it can go on elsewhere if this node dies. At the end all that the job made is returned.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from pipeline import config
from pipeline.files import JsonDict
from pipeline.study import numerics, ray_task, worker
from pipeline.study.jobs import LOGS, Job, job_of
from pipeline.study.ray_task import Files

PAUSE = 0.2
"""Seconds between two looks at what has changed."""
INPUTS = ("prepared", "labels", "landmarks", "targets")
"""What a job reads of outputs/; it writes the rest."""
TEACHERS = "teachers"
"""Where the networks that a student learns from are in the folder of a run, if it has any."""
MADE = ("models", "metrics", "predictions", "figures")
"""What it makes there."""
Stamps = dict[Path, tuple[int, int]]


def do(values: JsonDict, files: Files, data: Path | None, parent: Path, keeper: Any) -> JsonDict:
    """Do a job and return its answer (`worker.answered`) with its `files`, `seconds` and `node`.

    values: the job (`jobs.job_of`). files: its settings and what it resumes from, by their paths in the repository.
    data: the folder with the data of its block, as they were sent, if it needs any.
    """
    import ray

    start, job = time.monotonic(), job_of(values)
    with folder_of(parent) as root, inside(root, root / job.block_folder, data, files):
        made, sent = changed(root, results(job)), changed(root, news(job))
        made(), sent()  # what has been there is not sent back
        node = ray.get_runtime_context().get_node_id()
        if job.environment and (unlike := differing(job.environment)):
            return {"unlike": unlike, "node": node, "files": {}, "seconds": 0.0}
        with sending(job.name, sent, keeper), own_output():
            answer = worker.answered(replace(job, folder=str(root / job.folder)))
        return answer | {"files": made(), "node": node, "seconds": time.monotonic() - start}


@contextlib.contextmanager
def folder_of(parent: Path) -> Iterator[Path]:
    """Yield a new folder, removed afterwards; those of processes that were killed here are removed first.

    Its name ends with that of this machine, as nodes may share their folder for temporary files.
    """
    here = socket.gethostname()
    for left in parent.glob(f"*-*-{glob.escape(here)}"):
        if not psutil.pid_exists(int(left.name.partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    root = parent / f"{os.getpid()}-{time.monotonic_ns()}-{here}"
    root.mkdir(parents=True)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def inside(root: Path, folder: Path, data: Path | None, files: Files) -> Iterator[None]:
    """Work in the folder of a block below `root`, which is the repository, on the data and files that were sent."""
    (folder / LOGS).mkdir(parents=True)
    (folder / "outputs").mkdir()
    places = {TEACHERS: root} | {f"outputs/{name}": folder for name in INPUTS}
    for name, place in places.items():
        if data and (data / name).exists():
            (place / name).symlink_to(data / name)
    ray_task.write(root, files)
    os.environ |= {"DVC_ROOT": str(root), "FER_TRACKING": "off"}
    with contextlib.chdir(folder):
        yield


def differing(environment: JsonDict) -> str:
    """Return what is computed otherwise on this machine, empty if all is as expected."""
    measured = numerics.measured(config.load().machine, int(os.environ["OMP_NUM_THREADS"]))
    here = measured["environment"] | {"instructions": measured["instructions"]}
    return ", ".join(f"{name} {here.get(name)}" for name, value in environment.items() if here.get(name) != value)


def results(job: Job) -> tuple[str, ...]:
    """Return patterns of what goes back at the end."""
    made = [f"{job.block_folder}/outputs/{name}/**/*" for name in MADE]
    return (*made, f"{job.folder}/**/*", f"{job.block_folder}/{job.log}")


def news(job: Job) -> tuple[str, ...]:
    """Return patterns of what goes back while the job runs: checkpoints, trials and the log."""
    return (".checkpoints/[!.]*.safetensors", f"{job.folder}/learning_rates.json", f"{job.block_folder}/{job.log}")


def changed(root: Path, patterns: tuple[str, ...]) -> Callable[[], Files]:
    """Return a function that returns the files that have changed since it was last called."""
    seen: Stamps = {}

    def found() -> Files:
        files: Files = {}
        for path in (path for pattern in patterns for path in root.glob(pattern) if path.suffix != ".lock"):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # a checkpoint that is removed
                stamp = (path.stat().st_mtime_ns, path.stat().st_ino)
                if seen.get(path) != stamp:
                    files[path.relative_to(root).as_posix()] = path.read_bytes()
                    seen[path] = stamp
        return files

    return found


@contextlib.contextmanager
def sending(name: str, changes: Callable[[], Files], keeper: Any) -> Iterator[None]:
    """Send what changes meanwhile to the keeper, also what has changed last before an interruption."""
    import ray

    ended = threading.Event()

    def send() -> None:
        while True:
            last = ended.wait(PAUSE)
            if files := changes():
                with contextlib.suppress(ray.exceptions.RayError):  # the job goes on, and may arrive at its end
                    ray.get(keeper.keep.remote(name, files))
            if last:
                return

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def own_output() -> Iterator[None]:
    """Give the process its output back, which a job turns to its log."""
    before = {stream: os.dup(stream) for stream in (1, 2)}
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in before.items():
            os.dup2(copy, stream)
            os.close(copy)
