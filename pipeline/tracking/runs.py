"""The MLflow run of a cell: what train opens, evaluate completes and backfill restores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline import files, workspace
from pipeline.fingerprint import run_key
from pipeline.tracking import client
from pipeline.tracking.client import Where
from pipeline.training.model import Classifier
from pipeline.training.saved_model import load_trained
from pipeline.workspace import LABELS_FOLDER, PREPARED, Cell, checks, dataset_name


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
        **client.context_tags(stage),
    }


def log_inputs(run: client.Run, settings: dict[str, Any]) -> None:
    """What the training read: settings and data set."""
    run.params(settings)
    facts = checks()
    run.dataset(
        name=facts["dataset"],
        digest=dvc_digest(PREPARED) or files.sha256(PREPARED / "images.npy")[:32],
        profile={"rows": facts["rows"], "classes": facts["classes"]},
        source={"path": PREPARED.as_posix()},
    )


def log_machine(run: client.Run, machine: Mapping[str, Any]) -> None:
    """How the training computes, from its start: a run that fails shows it too."""
    run.tags({name: str(value) for name, value in machine.items()})


def log_training(run: client.Run, cell: Cell) -> None:
    """What the training wrote. Logging it twice changes nothing."""
    facts = cell.facts()
    run.curve(cell.read_history(), "epoch")
    run.metrics({"training": {name: facts["training"][name] for name in sorted(facts["training"])}})
    log_machine(run, facts["machine"])
    run.artifacts(cell.models / "model.json", "training")
    run.artifacts(cell.history, "training")


def log_evaluation(run: client.Run, cell: Cell) -> None:
    """What the evaluation wrote, and the model itself with an input example of two images."""
    metrics = files.read_json(cell.metrics)
    run.metrics({split: metrics[split] for split in ("val", "test", "test_clean")})
    run.artifacts(cell.metrics, "evaluation")
    run.artifacts(cell.predictions, "evaluation")
    for figure in workspace.written(cell.figures):
        run.artifacts(figure, "figures")
    network, loss = load_trained(cell.models)
    images = np.load(PREPARED / "images.npy", mmap_mode="r", allow_pickle=False)
    example = np.array(images[:2, None], dtype=np.float32)
    run.model(Classifier(network, loss.scores).eval(), example)


def runs(cell: Cell) -> Where | None:
    """Where the run of a trained and evaluated cell is in MLflow, or None before that."""
    if not (cell.models / "model.json").exists() or not cell.metrics.exists():
        return None
    key = run_key(cell, cell.facts()["inputs_digest"])
    return Where(dataset_name(), cell.key, key, files.sha256(cell.metrics)[:12])


def log_model_run(cell: Cell, stage: str) -> None:
    """Continue the run that training opened (or open it, if it was lost) and log all there is."""
    with client.run_of(runs(cell), tags(cell, stage)) as run:
        # The settings that made this model, which params.yaml may no longer hold.
        log_inputs(run, cell.facts()["settings"])
        log_training(run, cell)
        log_evaluation(run, cell)
