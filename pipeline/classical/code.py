"""Tell versions of this package apart: by the digests of its code and of what it uses."""

from __future__ import annotations

from pathlib import Path

from pipeline import classical, files

SOURCES = Path(classical.__file__).parents[2]
FOLDERS = ("pipeline/classical", "pipeline/landmarks")
"""The code that determines what a classifier learns, beyond that of every training (`fingerprint.CODE`).

It is no dependency of the stage train in dvc.yaml, or an edit here would train all networks again. The stage targets
writes these digests next to the choices of the runs with a classifier, and DVC repeats those alone.
"""


def digests() -> dict[str, str]:
    """Return the digest of each file by its path."""
    return files.digests(SOURCES, FOLDERS)
