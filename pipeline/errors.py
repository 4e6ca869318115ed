"""The one exception that speaks to the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do.

    Commands print the message alone and exit with code 1 (see `pipeline.cli`), as they do for the troubles of the
    machine that `pipeline.trouble` knows; every other exception is a bug of ours and keeps its traceback.
    """


@contextmanager
def about(key: str) -> Iterator[None]:
    """Let a UserError name the parameter that it is about, unless it does so already."""
    try:
        yield
    except UserError as error:
        if key in str(error):
            raise
        raise UserError(f"{key}: {error}") from error
