"""The stages of dvc.yaml, each run as `python -m stages.<name>`: read params, call the library, write, log."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable

from pipeline.errors import UserError


def run_stage(stage: Callable[..., None], *arguments: str) -> None:
    """Run a stage; an error the user can mend is one sentence and exit code 1, not a traceback."""
    signature = inspect.signature(stage)
    try:
        signature.bind(*arguments)
    except TypeError:
        name = getattr(sys.modules["__main__"].__spec__, "name", stage.__module__)
        print(f"error: usage: python -m {name} {' '.join(signature.parameters).upper()}", file=sys.stderr)
        sys.exit(1)
    try:
        stage(*arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
