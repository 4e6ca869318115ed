"""Choose each loss's learning rate on PublicTest: `python -m stages.search [MODEL ...]` (not a DVC stage).

Every loss has the same budget: `search.trials` short trainings of `search.epochs` epochs. The first rate is
`search.start`; then neighbours of the best rate so far, `search.factor` times smaller and larger, until both are
worse or the budget is spent. The first model under `models:` that uses a loss stands for it (or the models named).
Every trial is kept in results/<data set>/learning_rates.json, so a search that was interrupted goes on, and two may
run side by side with different models. The winners are written into params.yaml by hand; a test compares the two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline import config
from pipeline.files import read_json, write_json, write_text
from stages import run_stage
from stages.cell import dataset_name
from stages.trial import trial

Trial = dict[str, Any]
WORST = -1.0
"""Stands for the accuracy of a training that diverged."""
STEPS = 20
"""How far from the start, in steps, a rate may be: further than any budget leads."""


def main(*models: str) -> None:
    params = config.load()
    file = Path("results") / dataset_name() / "learning_rates.json"
    recipe = replace(params.chosen_recipe, epochs=params.search.epochs)
    for name in models or representatives(params):
        model = params.model(name)
        settings = settings_of(name, params)

        def found(settings: Trial = settings) -> dict[float, float]:
            runs = [run for run in kept(file) if settings.items() <= run.items()]
            return {run["learning_rate"]: accuracy(run) for run in runs}

        while (rate := following(found(), params.search)) is not None:
            print(f"{name}, learning rate {rate:g}", flush=True)
            outcome = trial(replace(model, learning_rate=rate), recipe, params.search.seed, params.machine)
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_suffix(".lock")):  # another search may be running beside this one
                write_json(file, [*kept(file), settings | {"learning_rate": rate} | outcome])
    shown = table(comparable(kept(file), params))
    write_text(file.with_suffix(".md"), shown)
    print(shown)


def settings_of(name: str, params: config.Params) -> Trial:
    """What all trials of one model have in common."""
    model = params.model(name)
    recipe = replace(params.chosen_recipe, epochs=params.search.epochs)
    return {
        "loss": model.loss, "model": name, "options": model.options, "seed": params.search.seed,
        "recipe": json.loads(json.dumps(asdict(recipe))),
    }  # fmt: skip


def comparable(trials: Sequence[Trial], params: config.Params) -> list[Trial]:
    """The trials made with today's recipe, budget and options, of models that still exist."""
    wanted = {name: settings_of(name, params) for name in params.models}
    return [run for run in trials if run["model"] in wanted and wanted[run["model"]].items() <= run.items()]


def representatives(params: config.Params) -> list[str]:
    """For every loss that occurs, the first model that uses it."""
    first: dict[str, str] = {}
    for name, model in params.models.items():
        first.setdefault(model.loss, name)
    return list(first.values())


def following(found: Mapping[float, float], search: config.SearchParams) -> float | None:
    """The rate to try after those found (rate -> accuracy); None if the budget is spent or the best is bracketed.

    Rates are start * factor^n, rounded to two digits so that they can be read; the smaller neighbour comes first.
    """
    steps = {rate_at(step, search): step for step in range(-STEPS, STEPS + 1)}
    found = {rate: accuracy for rate, accuracy in found.items() if rate in steps}
    if len(found) >= search.trials:
        return None
    if not found:
        return search.start
    best = steps[max(found, key=lambda rate: (found[rate], -rate))]
    neighbours = [rate_at(best - 1, search), rate_at(best + 1, search)]
    return next((rate for rate in neighbours if rate not in found), None)


def rate_at(step: int, search: config.SearchParams) -> float:
    return float(f"{search.start * search.factor**step:.2g}")


def kept(file: Path) -> list[Trial]:
    return list(read_json(file)) if file.exists() else []


def accuracy(run: Trial) -> float:
    return WORST if run["val_accuracy"] is None else float(run["val_accuracy"])


def best(trials: list[Trial], loss: str) -> float:
    """The rate with the highest accuracy on PublicTest, the lowest of equals. The loss must be among the trials."""
    of_loss = [run for run in trials if run["loss"] == loss]
    return float(max(of_loss, key=lambda run: (accuracy(run), -run["learning_rate"]))["learning_rate"])


def table(trials: list[Trial]) -> str:
    """Accuracy on PublicTest in per cent by loss and rate, the best of each loss in bold."""
    if not trials:
        return "Nothing has been searched yet: the rates in `params.yaml` are set by hand.\n"
    rates = sorted({run["learning_rate"] for run in trials})
    lines = ["| loss | model | " + " | ".join(f"{rate:g}" for rate in rates) + " |"]
    lines.append("|---|---|" + "--:|" * len(rates))
    for loss, model in dict.fromkeys((run["loss"], run["model"]) for run in trials):
        found = {run["learning_rate"]: run for run in trials if run["model"] == model}
        cells = []
        for rate in rates:
            run = found.get(rate)
            text = (
                "" if run is None else "diverged" if accuracy(run) == WORST else f"{100 * accuracy(run):.2f}"
            )
            cells.append(f"**{text}**" if text and rate == best(trials, loss) else text)
        lines.append(f"| {loss} | {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_stage(main, *sys.argv[1:])
