"""The ablation of the recipes: every change is possible, and the page says what the runs say."""

from __future__ import annotations

import csv
import json
import re
import statistics
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from benchmarks.recipe import VARIANTS, change, report
from pipeline import config, schema

ROOT = Path(__file__).parents[1]
PARAMS = config.load(ROOT / "params.yaml")
BASELINE = PARAMS.model("baseline")


@pytest.mark.parametrize("recipe", PARAMS.recipes)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_a_possible_recipe(name: str, recipe: str) -> None:
    changed, model = change(PARAMS.recipes[recipe], BASELINE, VARIANTS[name])
    for varied in (changed, model):
        written = yaml.safe_dump(json.loads(json.dumps(asdict(varied))))
        assert schema.parse(type(varied), written, name) == varied


def test_every_variant_changes_one_of_the_recipes() -> None:
    for name, changes in VARIANTS.items():
        changed = [change(recipe, BASELINE, changes) != (recipe, BASELINE) for recipe in PARAMS.recipes.values()]
        assert any(changed) == bool(changes), name


def test_factors_multiply_and_values_replace() -> None:
    fast = PARAMS.recipes["fast"]
    changed, model = change(
        fast, BASELINE, {"widths": 0.5, "epochs": 0.5, "sizes": [36, 48], "augment.cutout": 0.3, "learning_rate": 2.0}
    )
    assert changed.widths == tuple(width // 2 for width in fast.widths)
    assert (changed.epochs, changed.sizes, changed.augment.cutout) == (fast.epochs // 2, (36, 48), 0.3)
    assert changed.augment.zoom == fast.augment.zoom
    assert model.learning_rate == 2 * BASELINE.learning_rate


def test_the_table_has_means_and_differences_from_the_unchanged_recipe() -> None:
    runs = [
        {"variant": name, "val_accuracy": accuracy, "core_seconds": 120.0, "flop": 5e13}
        for name, accuracy in (("the recipe", 0.62), ("the recipe", 0.64), ("batch 32", 0.65), ("batch 32", None))
    ]
    assert [re.sub(r" +", " ", line) for line in report(runs).splitlines()[2:]] == [
        "| the recipe | 63.00 | +0.00 | 62.00, 64.00 | 2.0 | 5.0e+13 |",
        "| batch 32 | diverged | | 65.00, diverged | 2.0 | 5.0e+13 |",
    ]


def test_the_page_has_the_accuracies_of_the_committed_runs() -> None:
    found: dict[tuple[str, int], dict[int, float]] = {}
    for run in json.loads((ROOT / "results/fer2013/recipe.json").read_text()):
        epochs = run["settings"]["recipe"]["epochs"]
        if epochs in (5, 8):  # the two tables
            table = found.setdefault((run["variant"], epochs), {})
            table[run["seed"]] = round(100 * run["val_accuracy"], 2)
    wanted = sorted(
        [f"{statistics.mean(seeds.values()):.1f}", *(f"{seeds[seed]:.2f}" for seed in (0, 1))]
        for seeds in found.values()
    )
    page = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| (\d\d\.\d\d) \| [-+.\d]* *\| (\d\d\.\d\d), (\d\d\.\d\d) \|", page, re.MULTILINE)
    assert sorted([f"{float(mean):.1f}", first, second] for mean, first, second in rows) == wanted


def test_the_page_has_the_accuracies_of_what_was_tried_around_the_full_recipe() -> None:
    page = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    runs = json.loads((ROOT / "results/fer2013/full_recipe.json").read_text())
    assert len(runs) == 9
    for run in runs:
        cells = [run["variant"], f"{100 * run['val_accuracy']:.2f}", f"{run['flop']:.1e}".replace("+", "")]
        assert f"| {' | '.join(cells)} |" in page


def test_the_page_has_the_accuracies_with_and_without_sharpness_aware_minimisation() -> None:
    page = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    with (ROOT / "results/fer2013/sharpness_aware.csv").open(encoding="utf-8") as file:
        runs = {(row["run"], int(row["epoch"])): row for row in csv.DictReader(file)}
    for name in ("with SAM", "without SAM"):
        rows = [runs[name, epoch - 1] for epoch in (36, 40, 44, 48, 52)]
        accuracies = " | ".join(f"{100 * float(row['val_accuracy']):.2f}" for row in rows)
        entropies = " | ".join(row["val_loss"].removeprefix("0") for row in rows)
        assert f"| accuracy, {name} | {accuracies} |" in page
        assert f"| cross-entropy, {name} | {entropies} |" in page
