"""What a result depends on, as digests: whether two runs are of the same settings, data and code."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import pipeline
from pipeline import config, files
from pipeline.errors import UserError
from pipeline.workspace import LABELS_FOLDER, OUTPUTS, PREPARED, RunKey

SOURCES = Path(pipeline.__file__).parents[1]
CODE = ("stages/train.py", "pipeline/training", "pipeline/fingerprint.py", "pipeline/data/fer.py")
"""The code that decides what a training ends with: that which the stage train depends on in dvc.yaml, as a test holds.

A checkpoint is resumed, and a run in MLflow continued, by this code alone.
"""


def code_digests() -> dict[str, str]:
    """The digest of each file of `CODE` by its path, folders searched for Python files."""
    entries = (SOURCES / entry for entry in CODE)
    found = (path for entry in entries for path in (entry.rglob("*.py") if entry.is_dir() else [entry]))
    return {path.relative_to(SOURCES).as_posix(): files.sha256(path) for path in sorted(found)}


def training_inputs(
    run_key: RunKey, params: config.Params, targets: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """Everything the training of a cell depends on: its settings, and digests of its data and its code."""
    read = [PREPARED / f"{name}.npy" for name in ("images", "labels", "split")]
    missing = next((path for path in read if not path.exists()), None)
    if missing is not None:
        raise UserError(f"{missing} is missing: run `dvc repro targets` first.")
    model = params.model(run_key.model)
    return {
        "seed": run_key.seed,
        "model": {"loss": model.loss, "options": model.options, "learning_rate": model.learning_rate},
        "targets": targets.round(6).tolist(),
        "recipe": dataclasses.asdict(params.chosen_recipe),
        "data": {path.name: files.sha256(path) for path in read},
        "code": code_digests(),
    }


def digest(inputs: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that change with any of the inputs."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]


def settings_digest(inputs: dict[str, Any]) -> str:
    """The same without the code: what was asked for, by whatever version it was computed."""
    return digest({name: value for name, value in inputs.items() if name != "code"})


def evaluation_digest() -> str:
    """Twelve digits that change with what evaluation reads beside the model: votes, twins and words."""
    read = [PREPARED / name for name in ("checks.json", "duplicates.csv", "votes.npy")]
    read += sorted(LABELS_FOLDER.glob("*/label_vectors.npz"))
    # The kept runs have digests from when these folders were in data/.
    names = {path: f"data/{path.relative_to(OUTPUTS).as_posix()}" for path in read}
    return digest({names[path]: files.sha256(path) for path in read if path.exists()})


def mlflow_key(run_key: RunKey, inputs_digest: str) -> str:
    """The name by which train, evaluate and backfill find the one MLflow run of these inputs and this arithmetic."""
    return f"{run_key.name}-{inputs_digest}"


def settings(run_key: RunKey, params: config.Params) -> dict[str, Any]:
    """The parameters that MLflow shows of a cell. Training keeps them with the model."""
    shown = {
        "seed": run_key.seed,
        "model": {"name": run_key.model, **dataclasses.asdict(params.model(run_key.model))},
        "recipe": {"name": params.recipe, **dataclasses.asdict(params.chosen_recipe)},
        "machine": dataclasses.asdict(params.machine),
        "data": dataclasses.asdict(params.data),
        "labels": {name: dataclasses.asdict(words) for name, words in params.labels.items()},
    }
    return dict(json.loads(json.dumps(shown)))  # tuples as lists: the same as when read from model.json
