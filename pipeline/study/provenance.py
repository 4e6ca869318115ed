"""Say what made a published run: the code, the versions, the command and the commit. Its `machine` is in it already."""

from __future__ import annotations

import functools
import platform
from dataclasses import asdict, dataclass
from importlib import metadata

import numpy as np
import sklearn
import torch

from pipeline import files, fingerprint
from pipeline.classical import code
from pipeline.files import JsonDict
from pipeline.fingerprint import SOURCES
from pipeline.tracking import git

EVALUATION = ("stages/evaluate.py", "pipeline/evaluation", "pipeline/labels", "pipeline/data/duplicates.py")
"""The code that measures a trained model, beyond that which trains it: what the stage evaluate depends on in dvc.yaml,
less the figures, as a test checks."""


@dataclass(frozen=True)
class Origin:
    """Where a run comes from. command: what a user typed. commit: of the code, None if git cannot tell.

    clean: whether the tracked files were those of the commit; None if unknown. Settings, dvc.lock and results do not
    count: the first two are kept with the run, and the command itself writes the last.
    """

    command: str
    commit: str | None
    clean: bool | None

    @classmethod
    def here(cls, command: str, *written: str) -> Origin:
        """Return the origin of what this command makes in this folder now. written: more paths that it writes."""
        state = git.state("params.yaml", "dvc.lock", "results", *written)
        known = {"true": False, "false": True}
        return cls(command, state["git.commit"] or None, known.get(state["git.dirty"]))


def provenance(origin: Origin) -> JsonDict:
    """Return the origin with a digest of the code and the versions, as a run file keeps them."""
    versions = {
        "project": metadata.version("fer-word-loss"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
    return {"code": code_digest(), "versions": versions, **asdict(origin)}


@functools.cache
def code_digest() -> str:
    """Return a digest of the code that trains and measures, as it was when this process first asked."""
    return fingerprint.digest(fingerprint.code_digests() | code.digests() | evaluation_digests())


def evaluation_digests() -> dict[str, str]:
    """Return the digest of each file of `EVALUATION` by its path."""
    return files.digests(SOURCES, EVALUATION)
