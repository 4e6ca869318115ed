"""Log the MLflow run of each model and seed: its location, once there are outputs, and its content.

Train opens the run and evaluate completes it. Backfill restores missing runs with the same functions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import files, workspace
from pipeline.data.synthetic.dataset import Synthetic, draw
from pipeline.export.onnx_file import export, is_exported
from pipeline.files import JsonDict
from pipeline.fingerprint import mlflow_key
from pipeline.tracking import client
from pipeline.tracking.client import MlflowRun, Where
from pipeline.tracking.model_format import MODEL_FORMAT
from pipeline.training.saved_model import classes_of
from pipeline.workspace import LABELS_FOLDER, PREPARED, RunKey, checks, dataset_name

EXAMPLE = Synthetic(seed=0, train=2, val=0, test=0, ambiguity=0)
"""The input example of a model: drawn faces, as a registry shows it to everyone."""


def tags(run_key: RunKey, stage: str) -> dict[str, str]:
    """Return the tags of a model's run."""
    locked = workspace.outputs_in_lock()
    return {
        "kind": "model",
        "model": run_key.model,
        "seed": str(run_key.seed),
        "digest.prepared": locked.get(PREPARED.as_posix(), ""),
        "digest.labels": locked.get(LABELS_FOLDER.as_posix(), ""),
        **client.context_tags(stage),
    }


@contextmanager
def training_run(run_key: RunKey, inputs_digest: str, settings: JsonDict, machine: JsonDict) -> Iterator[MlflowRun]:
    """Open the run of a training, with its inputs and its machine; log what it wrote at the end."""
    key = mlflow_key(run_key, inputs_digest)
    with client.run(dataset_name(), run_key.name, key, tags(run_key, "train"), only_unfinished=True) as run:
        log_inputs(run, settings)
        log_machine(run, machine)
        with client.system_metrics(run):
            yield run
        log_training(run, run_key)


def log_inputs(run: MlflowRun, settings: JsonDict) -> None:
    """Log the inputs of a training: settings and data set."""
    run.params(settings)
    facts = checks()
    run.dataset(
        name=facts["dataset"],
        digest=workspace.outputs_in_lock().get(PREPARED.as_posix()) or files.sha256(PREPARED / "images.npy")[:32],
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
    """Log the outputs of an evaluation, and a network itself with an input example."""
    metrics = files.read_json(run_key.metrics)
    run.metrics({split: metrics[split] for split in ("val", "test", "test_clean")})
    run.artifacts(run_key.metrics, "evaluation")
    run.artifacts(run_key.predictions, "evaluation")
    for figure in workspace.written(run_key.figures):
        run.artifacts(figure, "figures")
    if "classifier" in run_key.facts()["loss"] or not run.needs_model():
        return
    with _exported(run_key) as file:
        run.model(file, draw(EXAMPLE).images, classes_of(run_key.models))


@contextmanager
def _exported(run_key: RunKey) -> Iterator[Path]:
    """Yield the exported network: what the stage export wrote, or one made here if that has not run yet."""
    if is_exported(run_key.models, run_key.exported):
        yield run_key.exported
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(run_key.models, file)
        yield file


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
