"""Create a run once, although a server can be killed before it answers and another process can create it as well.

MLflow has no call that creates a run only where there is none with a certain tag, and repeats a request whose answer
was lost, which creates a second run if the first request had arrived.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from pipeline.files import set_environment

ATTEMPTS = 6
"""Times that a run is created before its error counts; each waits up to twice as long as the one before."""

WAIT = 0.2
"""Seconds that a second attempt waits at most."""

ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""What lets MLflow send each request once."""


def create_once(find: Callable[[], Sequence[str]], create: Callable[[], str], withdraw: Callable[[str], None]) -> str:
    """Return the id of the run that `find` finds, created if there was none.

    find: ids of the runs in question, of all processes. create: makes one and returns its id. withdraw: takes one back.
    A process that sees another's run next to its own takes back its own. Two that see each other both do, and try again
    after a random time; so the run that stays was there before any other process looked.
    """
    for attempt in range(ATTEMPTS):
        if found := find():
            return found[0]
        try:
            with set_environment(ONCE):
                mine = create()
        except Exception as error:
            if attempt + 1 == ATTEMPTS or _is_refusal(error):
                raise
        else:
            if set(find()) <= {mine}:
                return mine
            withdraw(mine)
        time.sleep(random.uniform(0, WAIT * 2**attempt))
    raise TimeoutError("other processes create the same run at the same time")


def _is_refusal(error: Exception) -> bool:
    """Return whether a server has answered that it will not do this, now or later."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.get_http_status_code() < 500
