"""The stages of dvc.yaml, each run as `python -m stages.<name>`: read params, call the library, write, log."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pipeline.errors import UserError


def run_stage(stage: Callable[..., None], *arguments: str) -> None:
    """Run a stage; an error the user can mend is one sentence and exit code 1, not a traceback."""
    try:
        stage(*arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except TypeError:
        if len(arguments) != stage.__code__.co_argcount:
            names = " ".join(stage.__code__.co_varnames[: stage.__code__.co_argcount])
            print(f"error: usage: python -m {stage.__module__} {names}", file=sys.stderr)
            sys.exit(1)
        raise
