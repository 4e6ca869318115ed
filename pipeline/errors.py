"""The one exception that speaks to the user."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do.

    Stages print the message alone and exit with code 1 (see `pipeline.cli`); every other
    exception is a bug of ours and keeps its traceback.
    """
