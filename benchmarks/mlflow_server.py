"""Run a real MLflow server while something is measured or tested."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS = 300
"""For a server to start: many times what it takes."""


@contextmanager
def serving(*command: str, cwd: Path, log: Path, **environment: str) -> Iterator[str]:
    """Yield the address of `mlflow COMMAND` on a free port; it ends with the block, and so do its processes.

    log: a file for what it says. environment: variables; of MLflow's it has no others.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    where = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    kept["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # processes for language models, which compete with ours
    # `mlflow models serve` starts its server by name.
    paths = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, *where],
            cwd=cwd, env=kept | {"PATH": paths} | environment, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        _wait(f"{address}/health", process, log)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')}") from None
            time.sleep(0.3)
