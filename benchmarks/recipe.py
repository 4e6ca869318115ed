"""Measure what each choice of a recipe is worth: PublicTest accuracy with one setting changed at a time.

    python -m benchmarks.recipe [--recipe fast] [--epochs 8] [--seed 0 --seed 1] [--only NAME]

Trains the baseline on outputs/prepared (run `dvc repro targets` first) once per variant and seed and keeps
every run in results/<data set>/recipe.json, so it can be interrupted, continued and extended; what is there
is not trained again. A change that the recipe has already is left out. Only PublicTest is read. --epochs shortens
all variants alike, at less cost and for differences that are not quite those of the whole length.

The time shown is the processor's, in core minutes: it hardly depends on what else the machine does, and not
on how many of these runs share it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import header
from benchmarks.timing import table
from pipeline import cli, config
from pipeline.cli import Name, Number
from pipeline.config import ModelParams
from pipeline.study.trial import Trial, keep, kept, trial
from pipeline.training.recipe import Recipe
from pipeline.workspace import dataset_name

VARIANTS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "no self-distillation": {"self_distillation": 0.0},
    "self-distillation 0.8": {"self_distillation": 0.8},
    "no label smoothing": {"label_smoothing": 0.0},
    "no moving average": {"ema_decay": 0.0},
    "no warm-up": {"warmup": 0.0},
    "no weight decay": {"weight_decay": 0.0},
    "40 px throughout": {"sizes": [40]},
    "images that grow from 36 to 48 px": {"sizes": [36, 40, 44, 48]},
    "cut-out .16": {"augment.cutout": 0.16},
    "no change of light": {"augment.brightness": 0.0, "augment.contrast": 0.0},
    "no movements": {"augment.rotation": 0.0, "augment.zoom": 0.0, "augment.shift": 0.0},
    "movements x 2": {"augment.rotation": 10.0, "augment.zoom": 0.08, "augment.shift": 0.04},
    "batch 128, twice the rate": {"batch_size": 128, "learning_rate": 2.0},
    "batch 32": {"batch_size": 32, "learning_rate": 0.7, "ema_decay": 0.999},
    "half the learning rate": {"learning_rate": 0.5},
    "twice the learning rate": {"learning_rate": 2.0},
    "four times the learning rate": {"learning_rate": 4.0},
    "half the width": {"widths": 0.5},
    "1.5 times the width": {"widths": 1.5},
    "half the epochs": {"epochs": 0.5},
    "1.5 times the epochs": {"epochs": 1.5},
}
"""Changes by name. widths, epochs and learning_rate are factors, everything else is the new value."""


OPTIONS = (
    click.Option(["--recipe"], type=Name(), default="fast", help="A name under `recipes:` in params.yaml."),
    click.Option(["--epochs"], type=Number(), help="Instead of the recipe's."),
    click.Option(["--seed", "seeds"], type=Number(0), multiple=True, default=(0, 1), help="One training; repeatable."),
    click.Option(["--only"], type=Name(), multiple=True, help="Train this variant, not all; repeatable."),
)


def main(recipe: str, epochs: int | None, seeds: Sequence[int], only: Sequence[str]) -> None:
    params = config.load()
    cli.known([recipe], params.recipes, "recipe")
    cli.known(only, VARIANTS, "variant")
    file = Path("results") / dataset_name() / "recipe.json"
    base = params.recipes[recipe]
    base = replace(base, epochs=epochs or base.epochs)
    baseline = params.model(params.compare.baseline)

    shown = []
    for name, changes in VARIANTS.items():
        varied, model = change(base, baseline, changes)
        if changes and (varied, model) == (base, baseline):
            continue
        # All that the result depends on: a run made with other settings is another run.
        settings = json.loads(json.dumps({"recipe": asdict(varied), "model": asdict(model)}))
        for seed in seeds:
            key = {"variant": name, "seed": seed, "settings": settings}
            done = next((run for run in kept(file) if key.items() <= run.items()), None)
            if done is None and name in (only or VARIANTS):
                print(f"{name}, seed {seed}", flush=True)
                started = time.process_time()
                done = key | trial(model, varied, seed, params.machine)
                done["core_seconds"] = round(time.process_time() - started, 1)
                keep(file, done)
            shown += [done] if done else []

    print(f"\n{header()}\nrecipe {recipe} with {base.epochs} epochs, PublicTest\n\n{report(shown)}")


def change(recipe: Recipe, model: ModelParams, changes: Mapping[str, Any]) -> tuple[Recipe, ModelParams]:
    """Return the recipe and the baseline with the changes of one variant."""
    augment = {key.split(".")[1]: value for key, value in changes.items() if key.startswith("augment.")}
    plain = {key: value for key, value in changes.items() if not key.startswith("augment.")}
    model = replace(
        model,
        learning_rate=model.learning_rate * plain.pop("learning_rate", 1.0),
        options=model.options | {key: plain.pop(key) for key in ("label_smoothing",) if key in plain},
    )
    if "widths" in plain:
        plain["widths"] = tuple(round(plain["widths"] * width) for width in recipe.widths)
    if "epochs" in plain:
        plain["epochs"] = round(plain["epochs"] * recipe.epochs)
    if "sizes" in plain:
        plain["sizes"] = tuple(plain["sizes"])
    changed = replace(recipe, augment=replace(recipe.augment, **augment), **plain)
    return changed, model


def report(runs: list[Trial]) -> str:
    """Return the mean accuracy of each variant in per cent, its distance from the unchanged recipe, and its cost."""
    groups: dict[str, list[Trial]] = {}
    for run in runs:
        groups.setdefault(run["variant"], []).append(run)
    means = {name: mean_accuracy(group) for name, group in groups.items()}
    unchanged = means.get("the recipe")
    rows = []
    for name in sorted(groups, key=lambda name: list(VARIANTS).index(name)):
        mean, accuracies = means[name], [percent(run["val_accuracy"]) for run in groups[name]]
        difference = "" if mean is None or unchanged is None else f"{100 * (mean - unchanged):+.2f}"
        minutes = statistics.mean(run["core_seconds"] for run in groups[name]) / 60
        rows.append(
            [name, percent(mean), difference, ", ".join(accuracies), f"{minutes:.1f}", f"{groups[name][0]['flop']:.1e}"]
        )
    return table(["variant", "mean", "difference", "each seed", "core minutes", "FLOP"], rows)


def mean_accuracy(runs: list[Trial]) -> float | None:
    """Return the mean accuracy, or None if a run diverged."""
    accuracies = [run["val_accuracy"] for run in runs]
    return None if None in accuracies else statistics.mean(accuracies)


def percent(accuracy: float | None) -> str:
    return "diverged" if accuracy is None else f"{100 * accuracy:.2f}"


if __name__ == "__main__":
    cli.script(main, *OPTIONS, example="--epochs 8 --seed 0 --only 'batch 32'")
