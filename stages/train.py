"""Stage train: one model from one seed, `python -m stages.train MODEL SEED`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from torch import Tensor

from pipeline import cli, config, fingerprint, workspace
from pipeline.console import EpochTable, resume_note
from pipeline.data.fer import FerData
from pipeline.errors import UserError
from pipeline.files import repository, write_csv
from pipeline.tracking import client, runs
from pipeline.training import autotune, distributed
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.distributed import Group
from pipeline.training.hardware import environment, numerics_key, set_up
from pipeline.training.loop import Epoch, Images, Progress, epoch_flop, images_per_epoch, train
from pipeline.training.losses import make_loss
from pipeline.training.model import FerNet
from pipeline.training.saved_model import save_trained
from pipeline.workspace import PREPARED, RunKey, dataset_name


def main(model: str, seed: int) -> None:
    with distributed.group() as group:
        train_cell(RunKey(model, seed), group)


def train_cell(run_key: RunKey, group: Group) -> None:
    params = config.load()
    settings, recipe = params.model(run_key.model), params.chosen_recipe
    targets = read_targets(run_key)
    inputs = fingerprint.training_inputs(run_key, params, targets)
    dataset, data = dataset_name(), FerData.load(PREPARED)
    training, validation = Images.of(data, "train"), Images.of(data, "val")
    hardware = group.broadcast(lambda: autotune.choose(params.machine))
    way = numerics_key(hardware, group.world_size)
    # With the arithmetic, or a training that starts anew elsewhere would go on with another's curve in MLflow.
    digest = fingerprint.digest(inputs | {"arithmetic": way})
    key = fingerprint.mlflow_key(run_key, digest)
    checkpoint = Checkpoint(repository() / ".checkpoints" / f"{key}-{way}.safetensors")

    set_up(hardware, run_key.seed)
    loss = make_loss(settings.loss, settings.options, targets, hardware.device)
    mean, std = training.grey_levels()
    description: dict[str, Any] = {
        "widths": list(recipe.widths),
        "output_dim": loss.output_dim,
        "mean": mean,
        "std": std,
    }
    network = FerNet(**description)
    flop = epoch_flop(network, recipe, len(training.labels))

    def fit(on_epoch: Callable[[Epoch], None]) -> tuple[dict[str, Tensor], Progress]:
        group.barrier()  # until the first process has the lock, and so a checkpoint that no one else writes
        return train(
            network, loss, training, validation, recipe, settings.learning_rate, run_key.seed,
            hardware, checkpoint, on_epoch, group,
        )  # fmt: skip

    if not group.is_main:
        fit(lambda row: None)
        return

    # Two experiments at once may train the same inputs: the second waits, or they would share a checkpoint.
    checkpoint.path.parent.mkdir(exist_ok=True)
    with (
        FileLock(checkpoint.path.with_suffix(".lock")),
        client.run(dataset, run_key.name, key, runs.tags(run_key, "train"), only_unfinished=True) as run,
    ):
        runs.log_inputs(run, fingerprint.settings(run_key, params))
        runs.log_machine(run, environment(hardware, group.world_size))
        print(
            f"{run_key.name}, {params.recipe} recipe: {sum(flop):.2e} FLOP on {hardware} x {group.world_size}"
        )
        print(resume_note(checkpoint.path, run_key.name), end="", flush=True)
        with client.system_metrics(run), EpochTable(recipe.epochs) as table:

            def on_epoch(row: Epoch) -> None:
                table.row(row)
                run.curve([dataclasses.asdict(row)], "epoch")

            best, progress = fit(on_epoch)

        workspace.clear(run_key.models)
        rows = [dataclasses.astuple(epoch) for epoch in progress.history]
        write_csv(run_key.history, [field.name for field in dataclasses.fields(Epoch)], rows)
        facts = {
            "model": run_key.model,
            "seed": run_key.seed,
            "inputs_digest": digest,
            "settings_digest": fingerprint.settings_digest(inputs),
            "settings": fingerprint.settings(run_key, params),
            "network": description,
            "loss": {"name": settings.loss, "options": settings.options, "targets": settings.targets},
            **progress.summary(flop, images_per_epoch(recipe, len(training.labels)), hardware),
            "machine": environment(hardware, group.world_size),
        }
        save_trained(run_key.models, best, targets, facts)
        runs.log_training(run, run_key)
        checkpoint.remove()


def read_targets(run_key: RunKey) -> npt.NDArray[np.float64]:
    """What the stage targets wrote for this cell. Raises UserError if it has not."""
    if not run_key.targets.exists():
        raise UserError(f"{run_key.targets} is missing: run `dvc repro targets` first.")
    return np.array(np.load(run_key.targets, allow_pickle=False))


if __name__ == "__main__":
    cli.script(main, cli.MODEL, cli.SEED, example="baseline 0")
