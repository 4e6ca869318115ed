"""Define the one exception whose message is written for the user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

MAX_MESSAGE = 1500
"""Maximum characters of a message. The user's names and values may have any length; a sentence may not."""


class UserError(Exception):
    """A problem that the user can fix: the message says what is wrong, where, and what to do.

    Commands print the message alone and exit with code 1 (see `pipeline.cli`). They do the same for the machine
    failures that `pipeline.trouble` recognises. Every other exception is a bug and keeps its traceback.

    The message may quote any content of a file or archive. It stays one line that every terminal can show: other
    characters are written as escapes, and the middle of an overlong message is left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_on_one_line(message))


@contextmanager
def about(key: str) -> Iterator[None]:
    """Prefix a UserError with the parameter `key` unless its message already names it."""
    try:
        yield
    except UserError as error:
        if key in str(error):
            raise
        raise UserError(f"{key}: {error}") from error


def first_line(error: BaseException, longest: int = MAX_MESSAGE) -> str:
    """Return the first line of another package's message: it says what happened; advice and stacks follow.

    Without colours and the full stop, and cut after so many characters. The name of the exception if it says nothing.
    """
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return re.sub(r"\x1b\[[0-9;]*m", "", line).strip().rstrip(".")[:longest]


def _on_one_line(message: str) -> str:
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in message
    )
    head, tail = MAX_MESSAGE * 2 // 3, MAX_MESSAGE // 4
    return shown if len(shown) <= MAX_MESSAGE else f"{shown[:head]} [...] {shown[-tail:]}"
