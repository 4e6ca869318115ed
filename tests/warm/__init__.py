"""Processes that need not import PyTorch, MLflow and DVC again: forked from one that has.

To import them takes longer than what a stage does with forty faces, and these tests start hundreds of stages. In the
environment of `started`, a Python that is to run this project's code, DVC or torchrun hands its arguments, environment,
folder and open files to `server`, which forks, and ends as the fork ends: hook/sitecustomize.py. All code of this
project is imported by the fork itself, from its own folder. Not for what is to be killed, as the fork is another
process.

Figures are saved as pictures of one dot, as to draw them takes a third of an evaluation and they have tests of their
own, unless FER_TEST_PICTURES is "drawn".
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOOK = Path(__file__).parent / "hook"
SERVER = Path(__file__).parent / "server.py"
SOCKET = "FER_TEST_SOCKET"


@contextmanager
def started(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Start a server for commands in such an environment; yield what to add to it for them, on Linux alone."""
    if sys.platform != "linux":
        yield {}
        return
    folder = tempfile.mkdtemp(prefix="fer-")  # the path of a socket may have a hundred characters
    hooked = {"PYTHONPATH": str(HOOK), SOCKET: f"{folder}/socket"}
    server = subprocess.Popen(
        [sys.executable, str(SERVER)], env=environment | hooked, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin
    assert server.stdout
    try:
        assert server.stdout.readline() == b"ready\n"
        yield hooked
    finally:
        server.stdin.close()  # at which it ends
        server.stdout.close()
        server.wait()
        shutil.rmtree(folder)
