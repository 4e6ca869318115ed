"""A real `fer demo`, as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clone import ROOT


@contextmanager
def demo(*models: Path) -> Iterator[str]:
    """Serve the models on a free port; yield the address, and end as Ctrl-C does."""
    chosen = [word for model in models for word in ("--model", str(model))]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "demo", "--port", "0", "--threads", "1", *chosen],
        cwd=ROOT, env=os.environ | {"TMPDIR": str(models[0].parent)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address, _, _ = process.stdout.readline().partition(" ")
        assert address.startswith("http://127.0.0.1:")
        yield address
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
