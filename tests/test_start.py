"""Every module can be imported with a Python that was built without a library that few need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("stages", "pipeline")
    for path in (ROOT / folder).rglob("*.py")
    if path.stem != "__init__"
)


@pytest.mark.parametrize("missing", ["_lzma"])
def test_no_module_needs_what_not_every_python_has(missing: str) -> None:
    """`_lzma` above all: a Python compiled where liblzma's headers were not installed, as pyenv does it."""
    program = f"import sys; sys.modules['{missing}'] = None; import mlflow, dvc.repo, {', '.join(MODULES)}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
