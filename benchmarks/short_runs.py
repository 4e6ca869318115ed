"""Train each row of params.yaml without published runs for an epoch on the prepared data: evidence that it trains.

    python -m benchmarks.short_runs [--file results/<data set>/short_runs.md]

No result: the learning rates are not searched, one epoch is no training, and PublicTest alone is read. Rows with a
memory have two epochs, as the first only fills it. A row is written as soon as it is trained, and trained again only if
its settings change.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import click

from benchmarks.machine import header
from benchmarks.timing import table
from pipeline import cli, config
from pipeline.config import Params
from pipeline.data.fer import LABELS, FerData
from pipeline.files import JsonDict, read_json, write_json, write_text
from pipeline.fingerprint import code_digests
from pipeline.study.trial import trial
from pipeline.workspace import PREPARED, RunKey, dataset_name

SEED = 0


def main(file: Path | None) -> None:
    params = config.load()
    file = file or Path("results") / dataset_name() / "short_runs.md"
    kept = file.with_suffix(".json")
    rows: dict[str, JsonDict] = read_json(kept) if kept.exists() else {}
    published = file.parent / "runs"
    code = hashlib.sha256(json.dumps(code_digests()).encode()).hexdigest()[:12]
    for name in networks(params):
        settings = described(params, name)
        done = settings.items() <= rows.get(name, {}).items()
        if done or (published / f"{RunKey(name, SEED).name}.json").exists():
            continue
        print(name, flush=True)
        model = replace(params.model(name), epoch_factor=1)
        sizes = params.chosen_recipe.sizes[-1:]
        recipe = replace(params.recipe_of(name), epochs=settings["epochs"], sizes=sizes)
        outcome = trial(model, recipe, SEED, params.machine)
        rows[name] = settings | outcome | {"code": code, "machine": header()}
        write_json(kept, rows)
        write_text(file, page(params, rows))


def networks(params: Params) -> list[str]:
    """Return the rows with a network but those with teachers; `benchmarks.classical` fits the others whole."""
    return [name for name, model in params.models.items() if not model.classifier and not model.distillation]


def described(params: Params, name: str) -> JsonDict:
    """Return what a row was trained with, ready for JSON."""
    model = params.model(name)
    settings = {"loss": model.loss, "options": model.options, "targets": model.targets, **model.choices}
    settings |= {"learning_rate": model.learning_rate, "recipe": params.recipe, "epochs": 2 if model.memory else 1}
    return dict(json.loads(json.dumps(settings)))


def page(params: Params, rows: dict[str, JsonDict]) -> str:
    """Return the table as a page."""
    labels = FerData.load(PREPARED).labels
    chance = max((labels == k).mean() for k in range(len(LABELS)))
    known = [(name, rows[name]) for name in networks(params) if name in rows]
    lines = [[name, str(row["epochs"]), shown(row["val_accuracy"])] for name, row in known]
    codes, machines = (", ".join(sorted({row[key] for _, row in known})) for key in ("code", "machine"))
    return (
        "# Short runs: evidence that every row trains, no result\n\n"
        f"PublicTest accuracy in per cent after so many epochs of the {params.recipe} recipe, seed {SEED}, at the "
        "learning rates of `params.yaml`, which were not searched for these rows. Rows of noisy labels are measured on "
        f"noisy ones. The largest class alone would give {100 * chance:.1f}.\n\n"
        f"`python -m benchmarks.short_runs`, code {codes}; {machines}.\n\n"
        f"{table(['row', 'epochs', 'PublicTest'], lines)}\n"
    )


def shown(accuracy: float | None) -> str:
    return "diverged" if accuracy is None else f"{100 * accuracy:.1f}"


if __name__ == "__main__":
    option = click.Option(["--file"], type=click.Path(path_type=Path), help="Where to write the page.")
    cli.script(main, option, example="")
