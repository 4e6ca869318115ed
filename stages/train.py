"""Stage train: train one model from one seed, `python -m stages.train MODEL SEED`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from filelock import FileLock
from torch import Tensor

from pipeline import cli, config, fingerprint, workspace
from pipeline.console import EpochTable, resume_note
from pipeline.data.fer import FerData
from pipeline.files import read_json, repository, write_csv
from pipeline.fingerprint import RunSettings, shown_settings
from pipeline.labels.truth import read_targets
from pipeline.landmarks.points import Landmarks
from pipeline.tracking.model_runs import training_run
from pipeline.training import autotune, distributed
from pipeline.training.build import build_run
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.distributed import Group
from pipeline.training.hardware import environment, numerics_key
from pipeline.training.loop import Epoch, Progress
from pipeline.training.saved_model import save_trained
from pipeline.training.teachers import require_unchanged
from pipeline.workspace import PREPARED, RunKey, resolve


def main(model: str, seed: int) -> None:
    params, run_key = config.load(), RunKey(model, seed)
    with distributed.group() as group:
        if not params.model(model).classifier:
            train_one(run_key, params, group)
        elif group.is_main:
            fit_one(run_key, params)


def train_one(run_key: RunKey, params: config.Params, group: Group) -> None:
    settings = RunSettings.of(params, run_key)
    model, recipe = settings.model, settings.recipe
    targets, truth = read_targets(run_key)
    inputs = fingerprint.training_inputs(settings, targets)
    teachers = resolve(params.teachers)
    if model.distillation:
        require_unchanged(teachers, read_json(run_key.choices)["teachers"])
    data = FerData.load(PREPARED)
    hardware = group.broadcast(lambda: autotune.choose(params.machine))
    numerics = numerics_key(hardware, group.world_size)
    # Include the numerics: a run restarted on other hardware must not append to another run's MLflow curve.
    digest = fingerprint.digest(inputs | {"arithmetic": numerics})
    key = fingerprint.mlflow_key(run_key, digest)
    checkpoint = Checkpoint(repository() / ".checkpoints" / f"{key}-{numerics}.safetensors")
    training = build_run(
        data, model.loss, model.options, targets, recipe, model.learning_rate, run_key.seed, hardware, truth,
        model.method, model.pool, teachers,
    )  # fmt: skip

    def fit(on_epoch: Callable[[Epoch], None]) -> tuple[dict[str, Tensor], Progress]:
        group.barrier()  # wait until the main process holds the lock, so nobody else writes the checkpoint
        return training.train(checkpoint, on_epoch, group)

    if not group.is_main:
        fit(lambda row: None)
        return

    shown, machine = shown_settings(settings, params), environment(hardware, group.world_size)
    # Two experiments at once may train the same inputs: the second waits, or they would share a checkpoint.
    checkpoint.path.parent.mkdir(exist_ok=True)
    with FileLock(checkpoint.path.with_suffix(".lock")):
        with training_run(run_key, digest, shown, machine) as run:
            flop, name = training.flop, f"{run_key.name}, {settings.recipe_name} recipe"
            print(f"{name}: {sum(flop):.2e} FLOP on {hardware} x {group.world_size}")
            print(resume_note(checkpoint.path, run_key.name), end="", flush=True)
            with EpochTable(recipe.epochs) as table:

                def on_epoch(row: Epoch) -> None:
                    table.row(row)
                    run.curve([dataclasses.asdict(row)], "epoch")

                best, progress = fit(on_epoch)

            workspace.clear(run_key.models)
            rows = [dataclasses.astuple(epoch) for epoch in progress.history]
            write_csv(run_key.history, [field.name for field in dataclasses.fields(Epoch)], rows)
            facts = {
                **fingerprint.described(run_key, inputs, digest, shown),
                "classes": data.classes,
                "network": training.network_arguments,
                "loss": settings.loss,
                **progress.summary(flop, training.images_per_epoch, hardware),
                "machine": machine,
            }
            save_trained(run_key.models, best, targets, facts)
        checkpoint.remove()


def fit_one(run_key: RunKey, params: config.Params) -> None:
    """Fit a classifier without a network; write and log it as a training does."""
    from pipeline.classical import training as classical  # scikit-learn, which takes a second to import
    from pipeline.classical.saved import save_fitted

    settings, (targets, _) = RunSettings.of(params, run_key), read_targets(run_key)
    inputs, shown = fingerprint.training_inputs(settings, targets), shown_settings(settings, params)
    digest, machine = fingerprint.digest(inputs), classical.machine(params.machine.threads)
    data, landmarks = FerData.load(PREPARED), Landmarks.load(run_key.landmarks)
    with training_run(run_key, digest, shown, machine):
        outcome = classical.fit(settings.model.make_classifier(), data, landmarks, run_key.seed, machine["threads"])
        print(f"{run_key.name}: {outcome.val_accuracy:.4f} on PublicTest after {outcome.seconds:.0f} s")
        workspace.clear(run_key.models)
        write_csv(run_key.history, ["epoch", "val_accuracy"], [(0, outcome.val_accuracy)])
        facts = fingerprint.described(run_key, inputs, digest, shown)
        facts |= {"classes": data.classes, "loss": settings.loss}
        facts |= {"training": outcome.cost(), "machine": machine}
        save_fitted(run_key.models, outcome.fitted, facts)


if __name__ == "__main__":
    cli.script(main, cli.MODEL, cli.SEED, example="baseline 0")
