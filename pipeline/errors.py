"""The one exception that speaks to the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 1500
"""Characters of a message. Names and values of the user can have any length; a sentence cannot."""


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do.

    Commands print the message alone and exit with code 1 (see `pipeline.cli`), as they do for the troubles of the
    machine that `pipeline.trouble` knows; every other exception is a bug of ours and keeps its traceback.

    The message may quote whatever a file or an archive holds. It stays one line that any terminal can show: other
    characters are written as escapes, and the middle of a message that is too long is left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_on_one_line(message))


@contextmanager
def about(key: str) -> Iterator[None]:
    """Let a UserError name the parameter that it is about, unless it does so already."""
    try:
        yield
    except UserError as error:
        if key in str(error):
            raise
        raise UserError(f"{key}: {error}") from error


def _on_one_line(message: str) -> str:
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in message
    )
    head, tail = LONGEST * 2 // 3, LONGEST // 4
    return shown if len(shown) <= LONGEST else f"{shown[:head]} [...] {shown[-tail:]}"
