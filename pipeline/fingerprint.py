"""Compute digests of what a result depends on: settings, data and code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import pipeline
from pipeline import config, files
from pipeline.classical import code
from pipeline.classical.classifiers import CLASSIFIERS
from pipeline.config import ModelParams
from pipeline.errors import UserError
from pipeline.files import JsonDict
from pipeline.labels.truth import LabelSpec
from pipeline.training.recipe import Recipe
from pipeline.workspace import LABELS_FOLDER, OUTPUTS, PREPARED, RunKey

SOURCES = Path(pipeline.__file__).parents[1]
CODE = (
    "stages/train.py",
    "pipeline/training",
    "pipeline/fingerprint.py",
    "pipeline/labels/truth.py",
    "pipeline/data/fer.py",
    "pipeline/data/votes.py",
)
"""The code that determines the outcome of a training: the code dependencies of the stage train in dvc.yaml, as a test
checks.

A checkpoint is resumed, and an MLflow run continued, only if this code is unchanged.
"""


def code_digests() -> dict[str, str]:
    """Return the digest of each file of `CODE` by its path; folders are searched for Python files."""
    return files.digests(SOURCES, CODE)


@dataclass(frozen=True)
class RunSettings:
    """The settings of one training, independent of the hardware: two runs are comparable if these are equal."""

    run_key: RunKey
    model: ModelParams
    recipe_name: str
    recipe: Recipe

    @classmethod
    def of(cls, params: config.Params, run_key: RunKey) -> RunSettings:
        """Take the settings of a run from params.yaml. Raises UserError if it has no such model."""
        model = run_key.model
        return cls(run_key, params.model(model), params.recipe, params.recipe_of(model))

    @property
    def uses_votes(self) -> bool:
        """Whether its labels are made of votes."""
        return bool(self.model.labels) and LabelSpec.parse(self.model.labels).kind.uses_votes

    def inputs(self, targets: npt.NDArray[np.float64]) -> JsonDict:
        """Return the part that determines what is trained, with the targets [K, D]; a digest is made of it."""
        inputs = {"seed": self.run_key.seed, "model": self.model.of_training}
        if self.model.classifier:
            return inputs
        return inputs | {"targets": targets.round(6).tolist(), "recipe": asdict(self.recipe)}

    @property
    def loss(self) -> JsonDict:
        """Return the loss as model.json and the metrics file describe it."""
        model = self.model
        name = CLASSIFIERS[model.classifier].loss if model.classifier else model.loss
        return {"name": name, "options": model.options, "targets": model.targets, **model.choices}

    def to_dict(self) -> JsonDict:
        """Return the settings as the metrics file keeps them, ready for JSON."""
        if self.model.classifier:
            return _as_read({"loss": self.loss})
        recipe = {"name": self.recipe_name, **asdict(self.recipe)}
        return _as_read({"loss": self.loss, "learning_rate": self.model.learning_rate, "recipe": recipe})

    def mlflow_params(self) -> JsonDict:
        """Return the settings as MLflow shows them."""
        return mlflow_params(self.run_key, self.to_dict(), self.model.decoders)


def mlflow_params(run_key: RunKey, settings: JsonDict, decoders: Sequence[str]) -> JsonDict:
    """Return the MLflow parameters for the settings in a metrics file (`RunSettings.to_dict`)."""
    loss = dict(settings["loss"])
    return {
        "seed": run_key.seed,
        "model": {
            "name": run_key.model, "loss": loss.pop("name"), **loss,
            "decoders": list(decoders), **_among(settings, "learning_rate"),
        },
        **_among(settings, "recipe"),
    }  # fmt: skip


def _among(settings: JsonDict, *names: str) -> JsonDict:
    """Return the settings of these names; a classifier without a network has not all."""
    return {name: settings[name] for name in names if name in settings}


def training_inputs(settings: RunSettings, targets: npt.NDArray[np.float64]) -> JsonDict:
    """Return everything that a training depends on: its settings, and digests of its data and its code."""
    read = [PREPARED / f"{name}.npy" for name in ("images", "labels", "split")]
    if settings.uses_votes:
        read.append(PREPARED / "votes.npy")
    if settings.model.uses_landmarks:
        read.append(settings.run_key.landmarks)
    if settings.model.uses_neighbours:
        read.append(settings.run_key.labels)
    if settings.model.distillation:
        read.append(settings.run_key.choices)  # which holds the digests of the teachers
    missing = next((path for path in read if not path.exists()), None)
    if missing is not None:
        raise UserError(f"{missing} is missing: run `dvc repro targets` first.")
    data = {path.name.removeprefix(f"{settings.run_key.name}."): files.sha256(path) for path in read}
    own = code.digests() if settings.model.classifier else {}
    return settings.inputs(targets) | {"data": data, "code": code_digests() | own}


def digest(inputs: JsonDict) -> str:
    """Return twelve hexadecimal digits that change with any of the inputs."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]


def settings_digest(inputs: JsonDict) -> str:
    """Return a digest like `digest` without the code: what was requested, whatever version computed it."""
    return digest({name: value for name, value in inputs.items() if name != "code"})


def evaluation_digest() -> str:
    """Return twelve digits that change with the other inputs of evaluation: votes, duplicates and words."""
    read = [PREPARED / name for name in ("checks.json", "duplicates.csv", "votes.npy")]
    read += sorted(LABELS_FOLDER.glob("*/label_vectors.npz"))
    # The kept runs have digests from when these folders were in data/.
    names = {path: f"data/{path.relative_to(OUTPUTS).as_posix()}" for path in read}
    return digest({names[path]: files.sha256(path) for path in read if path.exists()})


def mlflow_key(run_key: RunKey, inputs_digest: str) -> str:
    """Return the name by which train, evaluate and backfill find the one MLflow run of these inputs."""
    return f"{run_key.name}-{inputs_digest}"


def described(run_key: RunKey, inputs: JsonDict, inputs_digest: str, shown: JsonDict) -> JsonDict:
    """Return how model.json identifies a training: its inputs, their digest and the settings that MLflow shows."""
    return {
        "model": run_key.model,
        "seed": run_key.seed,
        "inputs_digest": inputs_digest,
        "settings_digest": settings_digest(inputs),
        "settings": shown,
    }


def shown_settings(settings: RunSettings, params: config.Params) -> JsonDict:
    """Return the parameters that MLflow shows for a training, including machine and data. Training keeps them."""
    data = asdict(params.data)
    if params.data.source != "folder":  # older runs have no such keys
        del data["labels"], data["split"]
    shown = {
        "machine": asdict(params.machine),
        "data": data,
        "labels": {name: asdict(words) for name, words in params.labels.items()},
    }
    if settings.model.uses_landmarks or settings.model.uses_neighbours:
        shown["landmarks"] = asdict(params.landmarks)
    return settings.mlflow_params() | _as_read(shown)


def _as_read(values: JsonDict) -> JsonDict:
    """Return the values as JSON reads them back: tuples as lists."""
    return dict(json.loads(json.dumps(values)))
