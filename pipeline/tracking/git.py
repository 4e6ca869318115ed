"""Find the commit of the running code, where git can tell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence

DISTRUST = re.compile(r"dubious ownership in repository at '(.+)'")
"""git's only answer in a repository that belongs to another user."""


def state(*besides: str) -> dict[str, str]:
    """Return the commit and whether tracked files of this folder differ from it ("true", "false" or "unknown").

    besides: files and folders that do not count.

    This folder may be part of a larger repository, whose other folders do not count. If that repository has never
    committed this folder, the commit is "". It is also "" without git or a repository, as in a downloaded archive.
    dvc.lock does not count as a change: DVC rewrites it while the pipeline runs.
    """
    commit_and_folder = _git("rev-parse", "HEAD", "HEAD:./")
    if not commit_and_folder:
        return {"git.commit": "", "git.dirty": "unknown"}
    commit = commit_and_folder.split()[0]
    return {"git.commit": commit, "git.dirty": {"": "false", None: "unknown"}.get(_changes(besides), "true")}


def _changes(besides: Sequence[str]) -> str | None:
    """Return the tracked files of this folder whose bytes differ from the commit; None if git cannot tell.

    The repository's own index is not used. In the copy that DVC makes for an experiment, it may hold the size and time
    of the changed `params.yaml` with the content of the committed one, and git then reports the file as unchanged.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        if _git("read-tree", "HEAD", **index) is None:
            return None
        apart = [f":!{path}" for path in ("dvc.lock", *besides)]
        return _git("status", "--porcelain", "--untracked-files=no", "--", ".", *apart, **index)


def _git(*arguments: str, **environment: str) -> str | None:
    """Return git's output, or None if it fails or is not installed. Warns if git distrusts the folder."""
    try:
        result = subprocess.run(
            ["git", *arguments],
            env=os.environ | {"LC_ALL": "C"} | environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError:
        return None
    if distrusted := DISTRUST.search(result.stderr):
        print(
            f"warning: git does not read {distrusted[1]}, which belongs to another user, so MLflow does not show the "
            f"commit: to allow it, run `git config --global --add safe.directory {shlex.quote(distrusted[1])}`.",
            file=sys.stderr,
        )
    return result.stdout.strip() if result.returncode == 0 else None
