"""Say what a class may be called: its name becomes a folder, a column of CSV files and a key in MLflow."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LONGEST = 40
"""Maximum characters of a name: figures have no room for more."""
MOST = 32
"""Maximum number of classes: figures have a row or a panel for each."""

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Names of folders that hold a split, in lower case; a class has none of them."""
COLUMNS = ("index", "split", "actual", "near_duplicate", "majority", "uncertainty", "predicted")
"""How other columns of the predictions are called, or begin."""
_FORBIDDEN = r"/ \ : * ? < > | " + '"'
_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?", re.IGNORECASE)
_NO_KEY = re.compile(r"[^/\w.\- ]")


def normal(name: str) -> str:
    """Return a name with composed characters: macOS names files with decomposed ones, which look the same."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return what two names share if they differ in case alone."""
    return normal(normal(name).casefold())


def tracking_key(name: str) -> str:
    """Return a name of a metric or parameter with `_` for every character that MLflow refuses."""
    return _NO_KEY.sub("_", name)


def rule(name: str) -> str | None:
    """Return what the name of a class must be if `name` cannot be one, as the end of a sentence, else None."""
    if not 1 <= len(name) <= LONGEST or not name.isprintable() or "\N{REPLACEMENT CHARACTER}" in name:
        return f"a name of 1 to {LONGEST} visible characters"
    if set(_FORBIDDEN.split()) & set(name):
        return f"a name without {_FORBIDDEN}, which not every system takes in the name of a folder"
    if not (name[0].isalnum() or ord(name[0]) > 127) or name[-1] in ". ":
        return "a name that begins with a letter or a digit and ends in neither a space nor a full stop"
    if _DEVICE.fullmatch(name):
        return "another name: Windows takes this one for a device"
    if folded(name) in SPLIT_NAMES:
        return "another name: this one stands for a split"
    if folded(name).startswith(COLUMNS[-1]) or folded(name) in COLUMNS:
        return "another name: the predictions have a column of this one"
    return None


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names that are the same in MLflow's keys, or differ only in case, if there are any."""
    known: dict[str, str] = {}
    for name in names:
        key = folded(tracking_key(normal(name)))
        if key in known:
            return known[key], name
        known[key] = name
    return None
