"""Train every row of params.yaml for one epoch on the prepared data, to show that it trains: no result.

    python -m benchmarks.one_epoch [--file results/<data set>/one_epoch.md]

A row is written as soon as it is trained, and is not trained again while its settings and the code stay the same. Only
PublicTest is read.
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
from pipeline.workspace import PREPARED, dataset_name

SEED = 0


def main(file: Path | None) -> None:
    params = config.load()
    file = file or Path("results") / dataset_name() / "one_epoch.md"
    kept = file.with_suffix(".json")
    rows: dict[str, JsonDict] = read_json(kept) if kept.exists() else {}
    code = hashlib.sha256(json.dumps(code_digests()).encode()).hexdigest()[:12]
    for name in params.models:
        settings = described(params, name) | {"code": code}
        if settings.items() <= rows.get(name, {}).items():
            continue
        print(name, flush=True)
        model = replace(params.model(name), epoch_factor=1)
        recipe = replace(params.chosen_recipe, epochs=1, sizes=params.chosen_recipe.sizes[-1:])
        rows[name] = settings | trial(model, recipe, SEED, params.machine) | {"machine": header()}
        write_json(kept, rows)
        write_text(file, page(params, rows))


def described(params: Params, name: str) -> JsonDict:
    """Return what a row was trained with, ready for JSON."""
    model = params.model(name)
    settings = {"loss": model.loss, "options": model.options, "targets": model.targets, **model.choices}
    settings |= {"learning_rate": model.learning_rate, "recipe": params.recipe}
    return dict(json.loads(json.dumps(settings)))


def page(params: Params, rows: dict[str, JsonDict]) -> str:
    """Return the table as a page."""
    labels = FerData.load(PREPARED).labels
    chance = max((labels == k).mean() for k in range(len(LABELS)))
    known = [(name, rows[name]) for name in params.models if name in rows]
    lines = [
        [name, "diverged" if row["val_accuracy"] is None else f"{100 * row['val_accuracy']:.1f}"]
        for name, row in known
    ]
    codes, machines = (", ".join(sorted({row[key] for _, row in known})) for key in ("code", "machine"))
    return (
        "# One epoch of every row: evidence that it trains, no result\n\n"
        f"PublicTest accuracy in per cent after one epoch of the {params.recipe} recipe, seed {SEED}, at the learning "
        f"rates of `params.yaml`, which were not searched for most rows. The largest class alone would give "
        f"{100 * chance:.1f}. `python -m benchmarks.one_epoch`, code {codes}; {machines}.\n\n"
        f"{table(['row', 'PublicTest'], lines)}\n"
    )


if __name__ == "__main__":
    option = click.Option(["--file"], type=click.Path(path_type=Path), help="Where to write the page.")
    cli.script(main, option, example="")
