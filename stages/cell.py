"""One cell of the grid, a model and a seed: where its outputs are, what names its run, what is logged of it."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from pipeline import augment, checkpoint, config, files, losses, model, parallel, tracking, training
from pipeline.data.fer import LABELS, FerData
from pipeline.decode import DECODERS, Decoder
from pipeline.errors import UserError
from pipeline.labels.targets import SOURCES, Training, source_of, transformed
from pipeline.labels.vectors import LabelVectors
from pipeline.tracking import Where

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
LABELS_FOLDER = Path("data/labels")
DATA_EXPERIMENT = "data"
"""The MLflow experiment of fetch, prepare and embed; models are in one named after their data set."""

CODE = (training, model, losses, augment, checkpoint, parallel)


@dataclass(frozen=True)
class Cell:
    """A model and a seed. `key` is how DVC, MLflow and every file name call the pair."""

    model: str
    seed: int

    @classmethod
    def parse(cls, model: str, seed: str) -> Cell:
        """From the command line. Raises UserError for a seed that is not a whole number."""
        if not seed.isdecimal():
            raise UserError(f"The seed must be a whole number from 0, not '{seed}'.")
        return cls(model, int(seed))

    @property
    def key(self) -> str:
        return f"{self.model}-{self.seed}"

    @property
    def models(self) -> Path:
        return Path("models") / self.key

    @property
    def history(self) -> Path:
        return self.models / "history.csv"

    @property
    def metrics(self) -> Path:
        return Path("metrics") / f"{self.key}.json"

    @property
    def predictions(self) -> Path:
        return Path("predictions") / f"{self.key}.csv"

    @property
    def figures(self) -> Path:
        return Path("figures") / self.key


def suffix(decoder: str, own: str) -> str:
    """What tells a decoder's columns in the predictions from those of the model's own."""
    return "" if decoder == own else f".{decoder}"


def label_vectors(words: str) -> Path:
    """Where embed keeps the vectors of one set of words."""
    return LABELS_FOLDER / words / "label_vectors.npz"


def targets(name: str, seed: int) -> npt.NDArray[np.float64]:
    """The targets [K, D] of that name in the order of `LABELS`: from embed's output or from `SOURCES`."""
    source = source_of(name)
    if source in SOURCES:
        data = FerData.load(PREPARED)
        rows = data.rows("train")
        votes = None if data.votes is None else data.votes[rows]
        vectors = SOURCES[source](Training(data.labels[rows], votes, seed))
    else:
        vectors = LabelVectors.load(label_vectors(source)).of(LABELS).astype(np.float64)
    return transformed(name, vectors, seed)


def decoder(name: str, seed: int) -> Decoder:
    """The decoder of that name, with the cosines of the targets it is to weigh mistakes by."""
    rule, _, weights = name.partition(".")
    make: Callable[..., Decoder] = DECODERS[rule]
    if not weights:
        return make()
    vectors = targets(weights, seed)
    return make(vectors @ vectors.T)


def training_inputs(cell: Cell, params: config.Params) -> dict[str, Any]:
    """Everything the training of a cell depends on: its settings, and digests of its data and its code."""
    read = [PREPARED / f"{name}.npy" for name in ("images", "labels", "split")]
    missing = next((path for path in [*read, LABELS_FOLDER] if not path.exists()), None)
    if missing is not None:
        raise UserError(f"{missing} is missing: run `dvc repro prepare embed` first.")
    model = params.model(cell.model)
    return {
        "seed": cell.seed,
        "model": {"loss": model.loss, "options": model.options, "learning_rate": model.learning_rate},
        "targets": targets(model.targets, cell.seed).round(6).tolist(),
        "recipe": dataclasses.asdict(params.chosen_recipe),
        "data": {path.name: files.sha256(path) for path in read},
        "code": {module.__name__: files.sha256(Path(str(module.__file__))) for module in CODE},
    }


def digest(inputs: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that change with any of the inputs."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]


def settings_digest(inputs: dict[str, Any]) -> str:
    """The same without the code: what was asked for, by whatever version it was computed."""
    return digest({name: value for name, value in inputs.items() if name != "code"})


def run_key(cell: Cell, inputs_digest: str) -> str:
    """The name by which train, evaluate and backfill find the one MLflow run of these inputs."""
    return f"{cell.key}-{inputs_digest}"


def dataset_name() -> str:
    """What prepare called the data; the MLflow experiment has the same name."""
    if not (PREPARED / "checks.json").exists():
        raise UserError(f"{PREPARED} is missing: run `dvc repro prepare embed` first.")
    return str(files.read_json(PREPARED / "checks.json")["dataset"])


def dvc_digest(output: Path) -> str | None:
    """The digest that DVC itself gave an output, from dvc.lock; None outside DVC or before its first run."""
    lock = Path("dvc.lock")
    if not lock.exists():
        return None
    stages = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {})
    outputs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return next((str(out["md5"]) for out in outputs if out["path"] == output.as_posix()), None)


def tags(cell: Cell, stage: str) -> dict[str, str]:
    return {
        "kind": "model",
        "model": cell.model,
        "seed": str(cell.seed),
        "digest.prepared": dvc_digest(PREPARED) or "",
        "digest.labels": dvc_digest(LABELS_FOLDER) or "",
        **tracking.context_tags(stage),
    }


def read_history(cell: Cell) -> list[dict[str, float]]:
    with cell.history.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def settings(cell: Cell, params: config.Params) -> dict[str, Any]:
    """The parameters that MLflow shows of a cell. Training keeps them with the model."""
    shown = {
        "seed": cell.seed,
        "model": {"name": cell.model, **dataclasses.asdict(params.model(cell.model))},
        "recipe": {"name": params.recipe, **dataclasses.asdict(params.chosen_recipe)},
        "machine": dataclasses.asdict(params.machine),
        "data": dataclasses.asdict(params.data),
        "labels": {name: dataclasses.asdict(words) for name, words in params.labels.items()},
    }
    return dict(json.loads(json.dumps(shown)))  # tuples as lists: the same as when read from model.json


def evaluation_digest() -> str:
    """Twelve digits that change with what evaluation reads beside the model: votes, twins and words."""
    read = [PREPARED / name for name in ("checks.json", "duplicates.csv", "votes.npy")]
    read += sorted(LABELS_FOLDER.glob("*/label_vectors.npz"))
    return digest({path.as_posix(): files.sha256(path) for path in read if path.exists()})


def log_inputs(run: tracking.Run, settings: dict[str, Any]) -> None:
    """What the training read: settings and data set."""
    run.params(settings)
    checks = files.read_json(PREPARED / "checks.json")
    run.dataset(
        name=checks["dataset"],
        digest=dvc_digest(PREPARED) or files.sha256(PREPARED / "images.npy")[:32],
        profile={"rows": checks["rows"], "classes": checks["classes"]},
        source={"path": PREPARED.as_posix()},
    )


def log_training(run: tracking.Run, cell: Cell) -> None:
    """What the training wrote. Logging it twice changes nothing."""
    facts = files.read_json(cell.models / "model.json")
    run.curve(read_history(cell), "epoch")
    run.metrics({"training": {name: facts["training"][name] for name in sorted(facts["training"])}})
    run.tags({name: str(value) for name, value in facts["machine"].items()})
    run.artifacts(cell.models / "model.json", "training")
    run.artifacts(cell.history, "training")


def log_evaluation(run: tracking.Run, cell: Cell) -> None:
    """What the evaluation wrote, and the model itself with an input example of two images."""
    metrics = files.read_json(cell.metrics)
    run.metrics({split: metrics[split] for split in ("val", "test", "test_clean")})
    run.artifacts(cell.metrics, "evaluation")
    run.artifacts(cell.predictions, "evaluation")
    run.artifacts(cell.figures, "figures")
    network, loss = load_trained(cell.models)
    images = np.load(PREPARED / "images.npy", mmap_mode="r", allow_pickle=False)
    example = np.array(images[:2, None], dtype=np.float32)
    run.model(model.Classifier(network, loss.scores).eval(), example)


def runs(cell: Cell) -> Where | None:
    """Where the run of a trained and evaluated cell is in MLflow, or None before that."""
    if not (cell.models / "model.json").exists() or not cell.metrics.exists():
        return None
    key = run_key(cell, files.read_json(cell.models / "model.json")["inputs_digest"])
    return Where(dataset_name(), cell.key, key, files.sha256(cell.metrics)[:12])


def log_model_run(cell: Cell, stage: str) -> None:
    """Continue the run that training opened (or open it, if it was lost) and log all there is."""
    with tracking.run_of(runs(cell), tags(cell, stage)) as run:
        # The settings that made this model, which params.yaml may no longer hold.
        log_inputs(run, files.read_json(cell.models / "model.json")["settings"])
        log_training(run, cell)
        log_evaluation(run, cell)


def load_trained(folder: Path) -> tuple[model.FerNet, losses.Loss]:
    """The network that train wrote there, ready to predict, and the loss that gives its output a meaning."""
    network, facts = model.load_model(folder)
    loss = facts["loss"]
    vectors = targets(loss["targets"], facts["settings"]["seed"])
    return network, losses.make_loss(loss["name"], loss["options"], vectors)
