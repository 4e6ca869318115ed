"""One cell of the grid, a model and a seed, and where everything is in the workspace."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pipeline import files
from pipeline.cli import Argument
from pipeline.errors import UserError
from pipeline.workspace import OUTPUTS

RAW = OUTPUTS / "raw"
SOURCE = RAW / "source.json"
"""Where fetch says what it brought."""
PREPARED = OUTPUTS / "prepared"
LABELS_FOLDER = OUTPUTS / "labels"
TARGETS = OUTPUTS / "targets"
DATA_EXPERIMENT = "data"
"""The MLflow experiment of fetch, prepare and embed; models are in one named after their data set."""

Model = Annotated[str, Argument("a name under `models:` in params.yaml", "baseline")]
Seed = Annotated[int, Argument("what its weights and its data order start from", "0", least=0)]


@dataclass(frozen=True)
class Cell:
    """A model and a seed. `key` is how DVC, MLflow and every file name call the pair."""

    model: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.model}-{self.seed}"

    @property
    def targets(self) -> Path:
        return TARGETS / f"{self.key}.npy"

    @property
    def models(self) -> Path:
        return OUTPUTS / "models" / self.key

    @property
    def history(self) -> Path:
        return self.models / "history.csv"

    @property
    def metrics(self) -> Path:
        return OUTPUTS / "metrics" / f"{self.key}.json"

    @property
    def predictions(self) -> Path:
        return OUTPUTS / "predictions" / f"{self.key}.csv"

    @property
    def figures(self) -> Path:
        return OUTPUTS / "figures" / self.key

    def facts(self) -> dict[str, Any]:
        """What training wrote beside the weights."""
        return dict(files.read_json(self.models / "model.json"))

    def read_history(self) -> list[dict[str, float]]:
        with self.history.open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def label_vectors(words: str) -> Path:
    """Where embed keeps the vectors of one set of words."""
    return LABELS_FOLDER / words / "label_vectors.npz"


def checks() -> dict[str, Any]:
    """What prepare found out about the data. Raises UserError before it has run."""
    file = PREPARED / "checks.json"
    if not file.exists():
        raise UserError(f"{PREPARED} is missing: run `dvc repro targets` first.")
    return dict(files.read_json(file))


def dataset_name() -> str:
    """What prepare called the data; the MLflow experiment has the same name."""
    return str(checks()["dataset"])
