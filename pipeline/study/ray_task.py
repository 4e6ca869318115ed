"""Start a job on a node of a Ray cluster: unpack the code that was sent, then run it.

Ray sends this module by value, because a node has no code of this project before it has run: it imports none of it but
what has arrived. Everything sent is unpacked once per node into a folder that its digest names.
"""

from __future__ import annotations

import getpass
import importlib
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

JsonDict = dict[str, Any]
Files = dict[str, bytes]
"""Contents by path."""


class Keeper:
    """An actor next to the command: what running jobs have sent, until the command has written it.

    Only the newest version of a file is kept, so it holds about one checkpoint per running job.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.count = 0
        self.running: set[str] = set()

    def started(self, name: str) -> None:
        """Note that a job runs."""
        self.running.add(name)

    def keep(self, name: str, files: Files) -> None:
        """Take files of a running job."""
        self.count += 1
        self.files |= {(name, path): (self.count, content) for path, content in files.items()}

    def since(self, count: int, ended: list[str]) -> tuple[int, list[tuple[str, bytes]], int]:
        """Return how often files have arrived, those after the first `count` times, and the number of running jobs.

        Earlier ones are forgotten, as the command has written them. ended: jobs that run no longer.
        """
        self.running.difference_update(ended)
        self.files = {key: entry for key, entry in self.files.items() if entry[0] > count}
        arrived = [(path, content) for (_, path), (_, content) in self.files.items()]
        return self.count, arrived, len(self.running)


def perform(job: JsonDict, files: Files, sent: JsonDict, keeper: Any, environment: dict[str, str]) -> JsonDict:
    """Do a job with the code and the data that were sent; return its answer, with the files that it made.

    files: its settings and what it resumes from; sent: digest and reference of "code" and "data"; environment:
    variables to set.
    """
    os.environ |= environment  # before PyTorch, which reads it once, is imported
    fetched(keeper.started.remote(job["name"]))
    own = own_folder()
    folders = {name: unpacked(own / "inputs", *content) for name, content in sent.items()}
    if str(folders["code"]) not in sys.path:
        sys.path.insert(0, str(folders["code"]))
    node = importlib.import_module("pipeline.study.node")  # which imports this module, as it was sent
    if not Path(str(node.__file__)).is_relative_to(folders["code"]):
        raise RuntimeError(f"This process has imported {node.__file__} instead of the code that was sent.")
    return dict(node.do(job, files, folders.get("data"), own / "work", keeper))


def own_folder() -> Path:
    """Return this user's folder for temporary files on this machine, which is closed to other users."""
    folder = Path(tempfile.gettempdir()) / f"fer-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise RuntimeError(f"{folder} is open to other users: remove it, or set TMPDIR to another folder.")
    return folder


def unpacked(parent: Path, digest: str, reference: list[Any]) -> Path:
    """Return the folder with what has this digest; the first job of a node that needs it fetches and writes it.

    reference: in a list, so that Ray transfers the content only when it is asked for.
    """
    from filelock import FileLock

    folder = parent / digest
    if folder.exists():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    with FileLock(parent / f"{digest}.lock"):
        if not folder.exists():
            temporary = parent / f".{digest}"
            shutil.rmtree(temporary, ignore_errors=True)  # of a job that was killed here
            temporary.mkdir()
            write(temporary, fetched(reference[0]))
            temporary.rename(folder)
    return folder


def fetched(reference: Any) -> Any:
    """Return what a reference stands for.

    Another thread waits for it: while the thread of a task waits, Ray counts its cores as free and starts another job.
    """
    import ray

    with ThreadPoolExecutor(1) as waiting:
        return waiting.submit(ray.get, reference).result()


def write(folder: Path, files: Any) -> None:
    """Write files into a folder, by their paths in it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
