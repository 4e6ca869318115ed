"""Empty MLflow stores for tests that log in their own process."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import mlflow
import pytest

from pipeline.tracking import client, store


def forget() -> None:
    """Let this process look for its store again, as the next stage will."""
    for cache in (store.store, store.client, store.experiment_id):
        cache.cache_clear()
    # MLflow's own, by run: the same run is in several places here.
    getattr(mlflow.tracking._tracking_service.utils, "_artifact_repos_cache", {}).clear()


@functools.cache
def _template() -> Path:
    """A database without runs: MLflow takes seconds to make one."""
    folder = Path(tempfile.mkdtemp(prefix="mlflow-template-"))
    mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


def make_repository(folder: Path) -> Path:
    """A folder with the store that a first stage would make there."""
    folder.mkdir(parents=True)
    shutil.copy(_template(), folder / "mlflow.db")
    return folder


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch, uri: str = "", root: Path | None = None) -> None:
    """Work in a folder as a stage does. root: the repository, where DVC runs the stage in a copy of it."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # MLflow sets it: so that it is put back
    monkeypatch.setenv("DVC_ROOT", str(root or ""))
    monkeypatch.delenv("FER_TRACKING", raising=False)
    forget()


def log(text: str = "a metric's file", key: str = "key", experiment: str = "synthetic") -> str | None:
    """One run with a metric and a file; its id, or None if MLflow took nothing."""
    file = Path("metrics.txt")
    file.write_text(text)
    with client.run(experiment, "baseline-0", key, {"kind": "model"}) as run:
        run.metrics({"test": {"accuracy": 0.5}})
        run.artifacts(file, "evaluation")
    return run.run_id if run.working else None
