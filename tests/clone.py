"""A clone of this repository in which real commands run, and the small configuration they run with."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import yaml

from pipeline.workspace import WRITTEN
from tests.warm.server import READ_AT_START

ROOT = Path(__file__).parents[1]
INHERITED = frozenset(os.environ)
"""Variables that were set when the tests began: libraries that they import set others."""
TIMEOUT = 900
"""Seconds for one command: many times what it takes, so that only a hang fails."""

SMALL: dict[str, Any] = {
    "data.synthetic.train": 140,
    "data.synthetic.val": 35,
    "data.synthetic.test": 42,
    "grid.models": ["baseline", "w2v_cosine"],
    "recipes.fast.widths": [8, 16],
    "recipes.fast.epochs": 3,
    "recipes.fast.batch_size": 20,
    "recipes.fast.sizes": [16, 24],
    "recipes.full.widths": [8, 16],
    "recipes.full.epochs": 4,
    "recipes.full.batch_size": 20,
    "recipes.full.sizes": [16, 24],
    "machine.precision": "fp32",
    "machine.memory_format": "channels_last",
    "evaluate.heat_maps": 4,
    "evaluate.class_mean_faces": 8,
    "compare.resamples": 200,
}
"""The real configuration with smaller numbers: nothing is switched off. How to compute is fixed, or two clones
might measure it differently and differ in the last digits."""


@dataclass
class Clone:
    """A clone in which commands run as a user would type them.

    warm: what to set for commands whose imports may be made already (tests/warm).
    """

    path: Path
    environment: dict[str, str] = field(default_factory=dict)
    warm: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, expect: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            command,
            cwd=self.path,
            env=self.warmed(self.env(**environment)),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if expect is not None:
            assert result.returncode == expect, f"{' '.join(command)}:\n{result.stdout}\n{result.stderr}"
        return result

    def dvc(self, *arguments: str, expect: int | None = 0, **environment: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments, expect=expect, **environment).stdout

    def stage(self, *arguments: str, expect: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        name, *rest = arguments
        return self.run(sys.executable, "-m", f"stages.{name}", *rest, expect=expect, **environment)

    def fer(self, *arguments: str, expect: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command around the stages, whether this environment has the script `fer` or not."""
        return self.run(sys.executable, "-m", "pipeline", *arguments, expect=expect, **environment)

    def env(self, **environment: str) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DVC_", "MLFLOW_", "FER_", "GIT_", "PYTHONDONTWRITEBYTECODE"))
            and (name in INHERITED or not name.startswith(READ_AT_START))
        }
        # The queue starts `dvc` from PATH, which must be that of these tests; two tests share two cores, and what they
        # expect is what processors compute.
        paths = os.pathsep.join([str(Path(sys.executable).parent), inherited["PATH"]])
        fixed = {"PATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return inherited | fixed | self.environment | environment

    def warmed(self, environment: dict[str, str]) -> dict[str, str]:
        """This environment with what makes its commands warm, unless a test has set a path of modules of its own."""
        path = environment.get("PYTHONPATH", "")
        if path != os.environ.get("PYTHONPATH", ""):
            return environment
        hooked = [self.warm.get("PYTHONPATH"), path]  # the user's own path stays
        return environment | self.warm | {"PYTHONPATH": os.pathsep.join(filter(None, hooked))}

    def set(self, changes: dict[str, Any]) -> None:
        """Edit params.yaml: dotted keys to values."""
        file = self.path / "params.yaml"
        params = yaml.safe_load(file.read_text())
        for key, value in changes.items():
            *parents, last = key.split(".")
            section = params
            for parent in parents:
                section = section[parent]
            section[last] = value
        file.write_text(yaml.safe_dump(params, sort_keys=False))

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def runs(self) -> dict[str, list[mlflow.entities.Run]]:
        """Every MLflow run by experiment, from the store in the clone's root."""
        client = mlflow.MlflowClient(f"sqlite:///{self.path / 'mlflow.db'}")
        return {
            experiment.name: list(client.search_runs([experiment.experiment_id]))
            for experiment in client.search_experiments()
            if experiment.name != "Default"
        }

    def copy(self, path: Path, **environment: str) -> Clone:
        """The same clone elsewhere with all its outputs, but without MLflow's store.

        With `FER_TRACKING="off"` none is made: that takes longer than most stages.
        """
        shutil.copytree(self.path, path, symlinks=True, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
        return Clone(path, self.environment | environment, self.warm)


def clone_of_working_tree(path: Path, changes: dict[str, Any], warm: dict[str, str] | None = None) -> Clone:
    """This repository as it is in the working tree, less dvc.lock and the published results, with these parameters.

    Those results are three quarters of all files, and DVC reads git's list of files dozens of times a command.
    """
    apart = [":!dvc.lock", ":!results/fer2013"]
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".", *apart]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    clone = Clone(path, warm=warm or {})
    clone.run("git", "init", "-q")
    clone.run("git", "config", "user.name", "Test")
    clone.run("git", "config", "user.email", "test@example.com")
    clone.set(changes)
    clone.commit("A small study")
    return clone


PICTURES = sum(name.endswith(".png") for name in WRITTEN["figures"])
"""Pictures of one evaluated run."""


def stages_run(output: str) -> list[str]:
    """The stages that `dvc repro` says it has run."""
    return re.findall(r"Running stage '(.+)'", output)


@contextmanager
def started(clone: Clone, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`fer` with these arguments, running in the clone; it has ended after the block.

    It listens to SIGINT as on a terminal, also where these tests run in the background, whose processes ignore it.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=clone.path, env=clone.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait(condition: Callable[[], bool], seconds: float = 300) -> None:
    """Wait until it is true: at most many times as long as it takes."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
