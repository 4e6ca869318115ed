"""Log the MLflow run of each stage: its location, once there are outputs, and its content.

Train opens the run of a model and evaluate completes it; fetch, prepare, embed and compare have one run each. Backfill
restores missing runs with the same functions.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from pipeline import files, workspace
from pipeline.comparison.findings import row_name
from pipeline.comparison.rows import ComparisonRow, read_rows
from pipeline.data.fer import FerData
from pipeline.export.onnx_file import export
from pipeline.figures import data as figures
from pipeline.files import JsonDict
from pipeline.fingerprint import mlflow_key
from pipeline.labels.vectors import LabelVectors
from pipeline.tracking import client
from pipeline.tracking.client import MlflowRun, Where
from pipeline.tracking.model_format import MODEL_FORMAT
from pipeline.training.saved_model import classes_of
from pipeline.workspace import (
    CHECKS,
    LABELS_FOLDER,
    PREPARED,
    REPORTS,
    SOURCE,
    TABLE,
    RunKey,
    checks,
    dataset_name,
)

DATA_EXPERIMENT = "data"
"""The MLflow experiment of fetch, prepare and embed; models are in one named after their data set."""


def fetch_run() -> Where | None:
    """Return the MLflow run of fetch, or None if it has no outputs yet."""
    if not SOURCE.exists():
        return None
    content = files.sha256(SOURCE)[:12]
    return Where(DATA_EXPERIMENT, "fetch", f"fetch-{content}", content)


def log_fetch() -> None:
    """Log the provenance of the data."""
    with client.run_of(fetch_run(), {"kind": "data", **client.context_tags("fetch")}) as run:
        source = {name: facts for name, facts in files.read_json(SOURCE).items() if facts}
        run.params(source)
        run.metrics({name: {"bytes": facts["bytes"]} for name, facts in source.items()})
        run.artifacts(SOURCE)


def prepare_run() -> Where | None:
    """Return the MLflow run of prepare, or None if it has no outputs yet."""
    if not CHECKS.exists():
        return None
    content = files.sha256(CHECKS)[:12]
    return Where(DATA_EXPERIMENT, "prepare", f"prepare-{content}", content)


def log_prepare() -> None:
    """Log the data set, its checks and a contact sheet."""
    checks = files.read_json(CHECKS)
    with client.run_of(prepare_run(), {"kind": "data", **client.context_tags("prepare")}) as run:
        run.dataset(
            checks["dataset"], files.sha256(PREPARED / "images.npy")[:32], checks, {"path": str(PREPARED)}
        )
        run.params({"dataset": checks["dataset"]})
        run.metrics({name: checks[name] for name in ("rows", "classes", "constant_images", "duplicates")})
        run.artifacts(CHECKS)
        run.artifacts(PREPARED / "duplicates.csv")
        with tempfile.TemporaryDirectory() as folder:
            figures.contact_sheet(FerData.load(PREPARED), Path(folder) / "contact_sheet.png")
            run.artifacts(Path(folder) / "contact_sheet.png")


def embed_run() -> Where | None:
    """Return the MLflow run of embed, or None if it has no outputs yet."""
    found = sorted(LABELS_FOLDER.glob("*/label_vectors.npz"))
    if not found:
        return None
    content = hashlib.sha256("".join(map(files.sha256, found)).encode()).hexdigest()[:12]
    return Where(DATA_EXPERIMENT, "embed", f"embed-{content}", content)


def log_embed() -> None:
    """Log every set of label vectors with a heat map of its cosines."""
    with client.run_of(embed_run(), {"kind": "labels", **client.context_tags("embed")}) as run:
        for file in workspace.written(LABELS_FOLDER):
            run.artifacts(file, file.parent.name)
        for file in sorted(LABELS_FOLDER.glob("*/label_vectors.npz")):
            vectors, name = LabelVectors.load(file), file.parent.name
            words = dict(zip(vectors.labels, vectors.words, strict=True))
            run.params({name: {"words": words, "vectors": dict(vectors.provenance)}})
            with tempfile.TemporaryDirectory() as folder:
                picture = Path(folder) / "gram.png"
                title = f"Cosines between the label vectors\n{name}, from {vectors.provenance['file']}"
                figures.gram(vectors.gram, vectors.labels, picture, title)
                run.artifacts(picture, name)


def dvc_digest(output: Path) -> str | None:
    """Return DVC's digest of an output from dvc.lock; None outside DVC or before its first run."""
    lock = Path("dvc.lock")
    if not lock.exists():
        return None
    stages = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {})
    outputs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return next((str(out["md5"]) for out in outputs if out["path"] == output.as_posix()), None)


def tags(run_key: RunKey, stage: str) -> dict[str, str]:
    """Return the tags of a model's run."""
    return {
        "kind": "model",
        "model": run_key.model,
        "seed": str(run_key.seed),
        "digest.prepared": dvc_digest(PREPARED) or "",
        "digest.labels": dvc_digest(LABELS_FOLDER) or "",
        **client.context_tags(stage),
    }


def log_inputs(run: MlflowRun, settings: JsonDict) -> None:
    """Log the inputs of a training: settings and data set."""
    run.params(settings)
    facts = checks()
    run.dataset(
        name=facts["dataset"],
        digest=dvc_digest(PREPARED) or files.sha256(PREPARED / "images.npy")[:32],
        profile={"rows": facts["rows"], "classes": facts["classes"]},
        source={"path": PREPARED.as_posix()},
    )


def log_machine(run: MlflowRun, machine: JsonDict) -> None:
    """Log how the training computes. Called at its start, so that a failed run shows it too."""
    run.tags({name: str(value) for name, value in machine.items()})


def log_training(run: MlflowRun, run_key: RunKey) -> None:
    """Log the outputs of a training. Logging them twice changes nothing."""
    facts = run_key.facts()
    run.curve(run_key.read_history(), "epoch")
    run.metrics({"training": {name: facts["training"][name] for name in sorted(facts["training"])}})
    log_machine(run, facts["machine"])
    run.artifacts(run_key.models / "model.json", "training")
    run.artifacts(run_key.history, "training")


def log_evaluation(run: MlflowRun, run_key: RunKey) -> None:
    """Log the outputs of an evaluation, and a network itself with an input example of two images."""
    metrics = files.read_json(run_key.metrics)
    run.metrics({split: metrics[split] for split in ("val", "test", "test_clean")})
    run.artifacts(run_key.metrics, "evaluation")
    run.artifacts(run_key.predictions, "evaluation")
    for figure in workspace.written(run_key.figures):
        run.artifacts(figure, "figures")
    if "classifier" in run_key.facts()["loss"]:
        return
    images = np.load(PREPARED / "images.npy", mmap_mode="r", allow_pickle=False)
    with tempfile.TemporaryDirectory() as folder:  # the stage export may not have run yet
        file = Path(folder) / "model.onnx"
        export(run_key.models, file)
        run.model(file, np.array(images[:2]), classes_of(run_key.models))


def model_run(run_key: RunKey) -> Where | None:
    """Return the MLflow run of a trained and evaluated model and seed, or None before that."""
    if not (run_key.models / "model.json").exists() or not run_key.metrics.exists():
        return None
    key = mlflow_key(run_key, run_key.facts()["inputs_digest"])
    return Where(dataset_name(), run_key.name, key, f"{files.sha256(run_key.metrics)[:12]}-{MODEL_FORMAT}")


def log_model_run(run_key: RunKey, stage: str) -> None:
    """Continue the run that training opened (or open one if it was lost) and log everything."""
    with client.run_of(model_run(run_key), tags(run_key, stage)) as run:
        # The settings that made this model, which params.yaml may no longer hold.
        log_inputs(run, run_key.facts()["settings"])
        log_training(run, run_key)
        log_evaluation(run, run_key)


def compare_run() -> Where | None:
    """Return the MLflow run of compare, or None if it has no outputs yet."""
    if not TABLE.exists():
        return None
    content = files.sha256(TABLE)[:12]
    return Where(dataset_name(), "comparison", f"comparison-{content}", content)


def log_compare() -> bool:
    """Log the comparison of the workspace; return whether MLflow took it."""
    return log_rows(compare_run(), read_rows(TABLE), "compare", workspace.written(REPORTS))


def log_rows(where: Where | None, rows: Sequence[ComparisonRow], stage: str, paths: Sequence[Path]) -> bool:
    """Log a comparison as a run of its own: each row's accuracy, and the tables and figures.

    Return whether MLflow took it.
    """
    with client.run_of(where, {"kind": "comparison", **client.context_tags(stage)}) as run:
        run.params(
            {"models": ", ".join(dict.fromkeys(row.model for row in rows)), "seeds": list(rows[0].seeds)}
        )
        # MLflow takes no + in a key.
        accuracy = {row_name(row, rows).replace(" + ", "."): row["test.accuracy"].mean for row in rows}
        run.metrics({name: {"accuracy": mean} for name, mean in accuracy.items()})
        for path in paths:
            run.artifacts(path, "reports")
    return run.working
