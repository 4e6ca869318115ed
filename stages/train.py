"""Stage train: one model from one seed, `python -m stages.train MODEL SEED`."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from tqdm import tqdm

from pipeline import config, machine, tracking
from pipeline.checkpoint import Checkpoint
from pipeline.data.fer import LABELS, FerData
from pipeline.files import repository, write_csv
from pipeline.labels.vectors import LabelVectors
from pipeline.losses import make_loss
from pipeline.model import FerNet, save_model
from pipeline.training import Epoch, Images, train, training_flop
from stages import cell as cells
from stages import run_stage
from stages.cell import LABEL_VECTORS, PREPARED, Cell


def main(model: str, seed: str) -> None:
    params, cell = config.load(), Cell.parse(model, seed)
    settings, recipe = params.model(model), params.chosen_recipe
    inputs = cells.training_inputs(cell, params)
    key = cells.run_key(cell, cells.digest(inputs))
    data = FerData.load(PREPARED)
    training, validation = split(data, "train"), split(data, "val")
    hardware = machine.choose(recipe.precision, repository() / ".machine" / "precision.json")
    # Another device, number format, thread count or PyTorch rounds otherwise and cannot go on exactly.
    arithmetic = f"{hardware.device}-{hardware.precision}-{torch.get_num_threads()}-{torch.__version__}"
    checkpoint = Checkpoint(repository() / ".checkpoints" / f"{key}-{arithmetic}.safetensors")

    torch.manual_seed(cell.seed)
    torch.set_flush_denormal(True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.use_deterministic_algorithms(True)
    loss = make_loss(
        settings.loss, settings.options, LabelVectors.load(LABEL_VECTORS).of(LABELS), hardware.device
    )
    description: dict[str, Any] = {
        "widths": list(recipe.widths),
        "outputs": loss.targets.shape[1] if loss.needs_vectors else len(LABELS),
        "mean": round(float(training.pixels.float().mean()), 4),
        "std": round(float(training.pixels.float().std()), 4),
    }
    network = FerNet(**description)
    flop = training_flop(network, recipe, len(training.labels))

    # Two experiments at once may train the same inputs: the second waits, or they would share a checkpoint.
    checkpoint.path.parent.mkdir(exist_ok=True)
    with (
        FileLock(checkpoint.path.with_suffix(".lock")),
        tracking.run(
            cells.dataset_name(), cell.key, key, cells.tags(cell, "train"), only_unfinished=True
        ) as run,
    ):
        cells.log_inputs(run, cells.settings(cell, params))
        with tracking.system_metrics(run), Table(recipe.epochs) as table:

            def on_epoch(row: Epoch) -> None:
                table.row(row)
                run.curve([dataclasses.asdict(row)], "epoch")

            best, progress = train(
                network, loss, training, validation, recipe, settings.learning_rate, cell.seed,
                hardware, checkpoint, on_epoch,
            )  # fmt: skip

        rows = [dataclasses.astuple(epoch) for epoch in progress.history]
        write_csv(cell.history, [field.name for field in dataclasses.fields(Epoch)], rows)
        facts = {
            "seconds": round(progress.seconds, 2),
            "epochs": recipe.epochs,
            "best_epoch": progress.best_epoch,
            "flop": flop,
            "images_per_second": round(recipe.epochs * len(training.labels) / progress.seconds, 1),
            "precision": hardware.precision,
            "device": hardware.device,
        }
        save_model(
            cell.models,
            best,
            {
                "model": model,
                "seed": cell.seed,
                "inputs_digest": cells.digest(inputs),
                "settings": cells.settings(cell, params),
                "network": description,
                "loss": {"name": settings.loss, "options": settings.options},
                "training": facts,
                "machine": {
                    "processor": machine.processor(),
                    "threads": torch.get_num_threads(),
                    "torch": str(torch.__version__),
                },
            },
        )
        cells.log_training(run, cell)
        checkpoint.remove()


def split(data: FerData, name: str) -> Images:
    """One split as tensors."""
    rows = data.rows(name)
    return Images(
        torch.from_numpy(data.images[rows])[:, None], torch.from_numpy(data.labels[rows].astype(np.int64))
    )


class Table:
    """Progress: a bar on a terminal, and one fixed-width line per epoch wherever the output goes."""

    def __init__(self, epochs: int) -> None:
        self.bar = tqdm(total=epochs, unit="epoch", disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> Table:
        self.bar.write(
            f"{'epoch':>5} {'size':>4} {'train loss':>10} {'val loss':>8} {'val acc':>7}", file=sys.stdout
        )
        return self

    def row(self, row: Epoch) -> None:
        losses = f"{row.train_loss:>10.4f} {row.val_loss:>8.4f}"
        self.bar.write(f"{row.epoch:>5} {row.size:>4} {losses} {row.val_accuracy:>7.4f}", file=sys.stdout)
        sys.stdout.flush()
        self.bar.update()

    def __exit__(self, *_: object) -> None:
        self.bar.close()


if __name__ == "__main__":
    run_stage(main, *sys.argv[1:])
