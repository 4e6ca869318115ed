"""Clones of this repository with a study as small as can be, and what of it must be equal in two of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.clone import SMALL, Clone, clone_of_working_tree

TINY: dict[str, Any] = SMALL | {
    "data.synthetic.train": 21,
    "data.synthetic.val": 7,
    "data.synthetic.test": 14,
    "grid.models": ["baseline"],
    "recipes.fast.epochs": 2,
    "recipes.fast.batch_size": 7,
    "recipes.fast.sizes": [16],
    "evaluate.heat_maps": 2,
}
"""Seconds per stage, nearly all of them for starting Python."""

MEASURED = ("seconds", "images_per_second", "epoch_seconds")
"""What no two trainings have in common: how long they took."""


def workplace(folder: Path) -> Path:
    """A folder in which a search may remove what it likes, because an earlier search or this one made it."""
    mark = folder / ".made-by-a-search"
    if folder.exists() and not mark.exists() and any(folder.iterdir()):
        raise SystemExit(f"error: --folder: {folder} holds files that no search has made: name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return folder


def make(path: Path, changes: dict[str, Any] | None = None) -> Clone:
    """A clone of the working tree, committed. One that is there already is replaced."""
    shutil.rmtree(path, ignore_errors=True)
    return clone_of_working_tree(path, TINY | (changes or {}))


def outputs(clone: Clone) -> dict[str, str]:
    """A digest of every output that dvc.lock lists, without the times that were measured."""
    lock = yaml.safe_load((clone.path / "dvc.lock").read_text(encoding="utf-8"))
    digests = {}
    for stage in lock["stages"].values():
        for out in stage.get("outs", []):
            path = clone.path / out["path"]
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                # What a kill left of a file that was being written has a name with a dot.
                if file.is_file() and not file.name.startswith("."):
                    name = file.relative_to(clone.path).as_posix()
                    digests[name] = hashlib.sha256(timeless(file)).hexdigest()
    return digests


def timeless(file: Path) -> bytes:
    """The bytes of an output; of tables and of JSON without what was measured."""
    content = file.read_bytes()
    if file.suffix == ".json":
        return json.dumps(_without_times(json.loads(content)), sort_keys=True).encode()
    if file.name == "ablation.csv":
        rows = csv.reader(io.StringIO(content.decode("utf-8")))
        return repr([row for row in rows if row[3].rpartition(".")[2] not in MEASURED]).encode()
    return content


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(entry) for key, entry in value.items() if key.rpartition(".")[2] not in MEASURED}
    if isinstance(value, list):
        return [_without_times(entry) for entry in value]
    return value


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The outputs that are not the same in two clones."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def wrong_runs(clone: Clone, expected: Counter[str], failures: bool = False) -> list[str]:
    """What is wrong with MLflow's runs: each expected one must be there once, finished and complete.

    failures: runs that say that they failed may be there too.
    """
    runs = [run for found in clone.runs().values() for run in found]
    if failures:
        runs = [run for run in runs if run.info.status != "FAILED"]
    names = Counter(str(run.info.run_name) for run in runs)
    wrong = [f"{names[name]} runs {name}, not {expected[name]}" for name in sorted(names | expected)
             if names[name] != expected[name]]  # fmt: skip
    for run in runs:
        if run.info.status != "FINISHED":
            wrong.append(f"{run.info.run_name} is {run.info.status}")
        if "fer.complete" not in run.data.tags:
            wrong.append(f"{run.info.run_name} is not complete")
    return wrong


def leftovers(clone: Clone) -> list[str]:
    """Temporary files that nobody removed."""
    folder = clone.path / "outputs"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(".*") if path.is_file())


def wait(holds: Callable[[], bool], seconds: float, pause: float = 0.2) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
