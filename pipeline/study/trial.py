"""Train only to measure accuracy on PublicTest: no outputs, no MLflow, no PrivateTest.

Trials are kept in a JSON list to which others may be adding at the same time.
"""

from __future__ import annotations

from pathlib import Path

import torch
from filelock import FileLock

from pipeline.config import ModelParams
from pipeline.data.fer import FerData
from pipeline.errors import UserError
from pipeline.files import JsonDict, read_json, write_json
from pipeline.labels.targets import TargetSpec
from pipeline.landmarks.truth import truth_of
from pipeline.training import autotune
from pipeline.training.build import build_run
from pipeline.training.loop import DivergenceError, Epoch
from pipeline.training.recipe import Recipe
from pipeline.workspace import PREPARED

Trial = JsonDict
"""Settings and outcome, ready for JSON."""


def trial(
    model: ModelParams, recipe: Recipe, seed: int, requested: autotune.MachineParams, teachers: Path | None = None
) -> JsonDict:
    """Train as stages.train does; return the best accuracy on PublicTest, seconds, FLOP and the hardware.

    The accuracy is None if the loss stopped being finite. teachers: the folder that a distillation needs.
    """
    threads = torch.get_num_threads()
    targets = TargetSpec.parse(model.targets).load(seed)
    data = FerData.load(PREPARED)
    run = build_run(
        data, model.loss, model.options, targets, recipe, model.learning_rate, seed,
        autotune.choose(requested), truth_of(model.labels, model.memory, seed), model.method, model.pool,
        teachers,
    )  # fmt: skip
    outcome: JsonDict = {"val_accuracy": None, "seconds": None, "flop": sum(run.flop), "hardware": str(run.hardware)}

    def show(row: Epoch) -> None:
        print(f"  epoch {row.epoch}: {row.val_accuracy:.4f}", flush=True)

    try:
        _, progress = run.train(None, show)
    except DivergenceError as error:
        print(f"  {error}")
        return outcome
    finally:
        torch.set_num_threads(threads)  # the next trial finds the machine as this one did
    best = max(row.val_accuracy for row in progress.history)
    return outcome | {"val_accuracy": best, "seconds": round(sum(progress.seconds), 1)}


def kept(file: Path) -> list[Trial]:
    """Return every trial in the file, or none if it does not exist. Raises UserError if it has anything else."""
    trials = read_json(file) if file.exists() else []
    if not isinstance(trials, list) or not all(isinstance(one, dict) for one in trials):
        raise UserError(f"{file} is not a list of what was tried: restore it, or remove it and begin again.")
    return trials


def keep(file: Path, run: JsonDict) -> None:
    """Add one trial to the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        write_json(file, [*kept(file), dict(run)])
