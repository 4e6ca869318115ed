"""Plant label noise and ask each method against noise whether it beats its own ablation, on drawn faces.

    python -m benchmarks.noise [--noise 30] [--epochs 20] [--seeds 3]

Reads outputs/prepared (`dvc repro prepare`), meant for drawn faces: their labels are right except for what is planted,
and no study depends on their PrivateTest. PublicTest is corrupted alike and chooses the epoch; accuracy is that on
clean PrivateTest. Every row has the learning rate of params.yaml.
"""

from __future__ import annotations

from dataclasses import replace

import click
import numpy as np

from benchmarks.machine import header
from benchmarks.timing import table
from pipeline import cli, config
from pipeline.cli import Number
from pipeline.config import Params
from pipeline.data.fer import FerData
from pipeline.labels.targets import TargetSpec
from pipeline.labels.truth import LabelSpec
from pipeline.training.autotune import choose
from pipeline.training.build import build_run
from pipeline.training.images import Images
from pipeline.training.loop import validate
from pipeline.workspace import PREPARED, dataset_name

PAIRS = {
    "rul": "rul_equal",
    "scn": "cross_entropy",
    "scn_relabel": "scn",
    "relabel": "baseline",
    "drop_loss": "baseline",
    "eac_independent": "two_views_ce",
}
"""Each method, and the row that differs from it by what is meant to help."""


def main(noise: int, epochs: int, seeds: int) -> None:
    params, data = config.load(), FerData.load(PREPARED)
    names = list(dict.fromkeys([*PAIRS.values(), *PAIRS]))
    found = {
        name: np.array([accuracy(params, data, name, noise, epochs, seed) for seed in range(seeds)]) for name in names
    }
    lines = []
    for name, ablation in PAIRS.items():
        gains = 100 * (found[name] - found[ablation])
        error = gains.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else float("nan")
        own, other = (f"{100 * found[row].mean():.1f}" for row in (name, ablation))
        lines.append([f"{name} / {ablation}", own, other, f"{gains.mean():+.1f} ± {error:.1f}"])
    print(f"{header()}\n{dataset_name()}, {noise} % noise, {epochs} epochs, {seeds} seeds\n")
    print(table(["method / ablation", "method, %", "ablation, %", "difference, points ± standard error"], lines))


def accuracy(params: Params, data: FerData, name: str, noise: int, epochs: int, seed: int) -> float:
    """Return the accuracy on clean PrivateTest of a row trained on noisy labels."""
    model, recipe = params.model(name), replace(params.recipe_of(name), epochs=epochs)
    truth = LabelSpec("given.noisy", noise).make(data, seed)
    hardware = choose(params.machine)
    run = build_run(
        data, model.loss, model.options, TargetSpec.parse(model.targets).load(seed), recipe, model.learning_rate,
        seed, hardware, truth, model.method, model.pool,
    )  # fmt: skip
    best, _ = run.train(None, lambda row: None)
    run.network.load_state_dict(best)
    value = validate(run.network, run.loss, Images.of(data, "test").to(hardware.device), hardware)[1]
    print(f"{name}, seed {seed}: {100 * value:.1f}", flush=True)
    return value


if __name__ == "__main__":
    options = [
        click.Option(["--noise"], type=Number(1, 90), default=30, help="Per cent of wrong labels."),
        click.Option(["--epochs"], type=Number(), default=20, help="Epochs of each training."),
        click.Option(["--seeds"], type=Number(), default=3, help="Trainings of each row."),
    ]
    cli.script(main, *options, example="--noise 20")
