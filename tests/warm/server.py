"""Import what is slow to import, then fork for every job that comes through the socket: tests/warm."""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

SLOW = (
    "torch", "torch._dynamo", "torch.export", "torch.onnx._internal.exporter._core", "onnxscript", "captum.attr",
    "mlflow", "mlflow.onnx", "mlflow.store.tracking.sqlalchemy_store", "alembic.command", "sqlalchemy.orm",
    "gensim.models.keyedvectors", "pandas", "scipy.optimize", "scipy.stats", "sklearn.metrics",
    "matplotlib.backends.backend_agg", "click", "pydantic", "tqdm", "yaml",
    "onnxscript.function_libs.torch_lib.ops", "dvc.cli.parser", "dvc.config_schema", "dvc.data_cloud", "dvc.dependency",
    "dvc.fs.dvc", "dvc.fs.git", "dvc.parsing", "dvc.repo", "dvc.repo.experiments.queue.celery", "dvc.repo.metrics.show",
    "dvc.repo.params.diff", "dvc.repo.plots", "dvc.repo.reproduce", "dvc.stage.run", "dvc_data.index", "scmrepo.git",
)  # fmt: skip
"""Not onnxruntime: it starts threads, which a fork would lack and wait for."""
READ_AT_START = ("CUDA_", "LANG", "LC_", "LD_", "MALLOC", "MKL_", "MPL", "OMP_", "PYTHON", "PYTORCH", "TORCH", "TZ")
"""Beginnings of variables that Python and these libraries read when they start."""
READ_LATER = ("PYTHONPATH", "TORCHELASTIC_", "TORCH_NCCL_")
"""But not these: the path is sent as it is, and torchrun sets the others for each process."""


def main() -> None:
    """Serve until standard input ends."""
    started_with = read_at_start(dict(os.environ))  # some libraries add to it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in SLOW:
            try:
                importlib.import_module(name)
            except ImportError:
                continue  # another version has it elsewhere: the fork imports it
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who answer
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ["FER_TEST_SOCKET"])
        listener.listen(64)
        print("ready", flush=True)
        while True:
            ready = select.select([listener, sys.stdin], [], [])[0]
            if sys.stdin in ready:
                return
            connection = listener.accept()[0]
            if os.fork() == 0:
                listener.close()
                answer(connection, started_with)
                return
            connection.close()


def answer(connection: socket.socket, started_with: dict[str, str]) -> None:
    """Fork once more for the job, wait for it and tell how it ended; kill it if nobody listens any more."""
    head, files, _, _ = socket.recv_fds(connection, 4, 3)
    content = b""
    while len(content) < int.from_bytes(head, "little"):
        content += connection.recv(1 << 20)
    job = json.loads(content)
    if (job["python"], read_at_start(job["environment"])) != (sys.executable, started_with):
        os._exit(0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (child := os.fork()) == 0:
        connection.close()
        with ends_at_once():
            become(job, files)
        return
    for file in files:
        os.close(file)
    ended = os.pidfd_open(child)
    done = ended in select.select([connection.fileno(), ended], [], [])[0]
    if not done:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if done:
        connection.sendall(status.to_bytes(4, "little", signed=True))
    os._exit(0)


@contextmanager
def ends_at_once() -> Iterator[None]:
    """End this process after the block as Python does, but without taking every module apart, which takes longer than
    many a job. What Python would say of an error is left to it."""
    try:
        yield
        status = 0
    except SystemExit as error:
        if not isinstance(error.code, int | None):
            raise
        status = error.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status & 0xFF)


def save_empty(figure: Figure, path: Path, **_: object) -> None:
    """Save a picture of one dot in the place of a figure."""
    Image.new("L", (1, 1)).save(path, format="png")


def read_at_start(environment: dict[str, str]) -> dict[str, str]:
    """What a library has read from the environment for good."""
    found = {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}
    return {name: value for name, value in found.items() if not name.startswith(READ_LATER)}


def become(job: dict[str, Any], files: list[int]) -> None:
    """Go on as a new Python that was given the job's command line."""
    for number, (file, name) in enumerate(zip(files, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(file, number)
        os.close(file)
        former = getattr(sys, name)  # which knows whether that file can be seeked
        stream = os.fdopen(number, former.mode, encoding=former.encoding, errors=former.errors, closefd=False)
        through = former.write_through or job["unbuffered"]
        stream.reconfigure(line_buffering=former.line_buffering, write_through=through)
        setattr(sys, name, stream)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("FER_TEST_PICTURES") != "drawn":
        Figure.savefig = save_empty  # type: ignore[method-assign, assignment]
    option, what, *arguments = job["line"]
    sys.path = [job["folder"], *job["path"]]
    sys.orig_argv[1:] = job["line"]
    if option == "-m":
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [option, *arguments]
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec", dont_inherit=True), vars(sys.modules["__main__"]))


if __name__ == "__main__":
    main()
