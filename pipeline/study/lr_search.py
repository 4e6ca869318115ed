"""Choose the learning rates on PublicTest: `fer search`.

Every searched model has the same budget. First come `search.trials` short trainings of `search.epochs` epochs: the
first rate is `search.start`; then neighbours of the best rate so far, `search.factor` times smaller and larger, until
both are worse or the budget is spent. Short trainings do not always rank rates as full-length ones do, so the
`search.finalists` best rates are then trained at full length, and so are neighbours of the best of them until both are
worse or that budget, `search.trials` again, is spent. The most accurate wins. Models that train `ALIKE` share a rate,
and the first of them under `models:` is searched (or the models named). A test compares the winners with the rates in
params.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pipeline import config
from pipeline.comparison.tables import markdown_table
from pipeline.errors import UserError
from pipeline.files import read_json, write_text
from pipeline.study import publish
from pipeline.study.plan import Block, Row
from pipeline.study.trial import Trial, keep, kept, trial
from pipeline.workspace import RunKey, dataset_name, resolve

WORST = -1.0
"""Replaces the accuracy of a training that diverged."""
ALIKE = {"word2vec.whitened": "random"}
"""Targets that use the rate of others because both have as many dimensions and (nearly) the same cosines, like permuted
ones, which use the rate of the same vectors in their order."""
OUTCOME = ("learning_rate", "val_accuracy", "seconds", "flop", "hardware")
STEPS = 20
"""Maximum distance of a rate from the start, in steps: more than any budget reaches."""


def search(models: Sequence[str] = ()) -> None:
    """Search the rates of the named models, or by default of the first model of each kind."""
    params = config.load()
    for name in models:  # before the first of them is trained for hours
        if params.model(name).classifier:
            raise UserError(f"{name} is a classifier without a network: there is no learning rate to search.")
    file = Path("results") / dataset_name() / "learning_rates.json"
    for name in models or representatives(params):
        search_one(file, name, params)
    print(write_table(file, params))


def search_one(file: Path, name: str, params: config.Params) -> None:
    """Make the trials that the search for one model's rate still lacks."""
    while (trial := next_trial(file, name, params)) is not None:
        try_rate(file, name, *trial, params)


def next_trial(file: Path, name: str, params: config.Params) -> tuple[float, int] | None:
    """Return rate and epochs of a model's next trial; None if its search is finished."""
    short, full = lengths(name, params)
    found = accuracies(file, name, short, params)
    if (rate := following(found, params.search)) is not None:
        return rate, short
    if params.search.finalists == 1:  # the short trainings decide
        return None
    whole = accuracies(file, name, full, params)
    lacking = [rate for rate in finalists(found, params.search) if rate not in whole]
    rate = lacking[0] if lacking else following(whole, params.search)
    return None if rate is None else (rate, full)


def write_table(file: Path, params: config.Params) -> str:
    """Write the table of the trials in `file` next to it, and return it."""
    text = table(comparable(kept(file), params))
    write_text(file.with_suffix(".md"), text)
    return text


def try_rate(file: Path, name: str, rate: float, epochs: int, params: config.Params) -> None:
    """Train the model at this rate for `epochs` epochs and keep the outcome, or take it from the study's own run."""
    print(f"{name}, learning rate {rate:g}, {epochs} epochs", flush=True)
    model = replace(params.model(name), learning_rate=rate)
    recipe = replace(params.recipe_of(name), epochs=epochs)
    run_key = RunKey(name, params.search.seed)
    if recipe == params.recipe_of(name) and publish.is_kept(
        file.parent, run_key, replace(params, models=params.models | {name: model})
    ):
        run = read_json(file.parent / "runs" / f"{run_key.name}.json")
        outcome = {
            "val_accuracy": max(epoch["val_accuracy"] for epoch in run["history"]),
            "seconds": run["training"]["seconds"],
            "flop": run["training"]["flop"],
            "hardware": f"{run['training']['device']}, a run of the study",
        }
    else:
        outcome = trial(model, recipe, params.search.seed, params.machine, resolve(params.teachers))
    keep(file, settings_of(name, epochs, params) | {"learning_rate": rate} | outcome)


def settings_of(name: str, epochs: int, params: config.Params) -> Trial:
    """Return the settings that all trials of one model and length share."""
    model = params.model(name)
    recipe = replace(params.recipe_of(name), epochs=epochs)
    return {
        "loss": model.loss, "model": name, "options": model.options, "targets": model.targets, **model.choices,
        "seed": params.search.seed, "recipe": json.loads(json.dumps(asdict(recipe))),
    }  # fmt: skip


def accuracies(file: Path, name: str, epochs: int, params: config.Params) -> dict[float, float]:
    """Return accuracy by learning rate for the kept trials of one model and length, at rates of this search."""
    settings = settings_of(name, epochs, params)
    rates = {rate_at(step, params.search) for step in range(-STEPS, STEPS + 1)}
    trials = [run for run in kept(file) if without_outcome(run) == settings]
    return {run["learning_rate"]: accuracy(run) for run in trials if run["learning_rate"] in rates}


def comparable(trials: Sequence[Trial], params: config.Params) -> list[Trial]:
    """Return the trials with the current recipe, budget, options and targets, of models that still exist."""
    networks = [name for name, model in params.models.items() if not model.classifier]
    wanted = [settings_of(name, epochs, params) for name in networks for epochs in lengths(name, params)]
    return [run for run in trials if without_outcome(run) in wanted]


def without_outcome(run: Trial) -> Trial:
    """Return a trial as `settings_of` describes it: without its rate, and what came of it."""
    return {name: value for name, value in run.items() if name not in OUTCOME}


def lengths(name: str, params: config.Params) -> tuple[int, int]:
    """Return the epochs of a model's short and of its full-length trainings."""
    return params.model(name).epoch_factor * params.search.epochs, params.recipe_of(name).epochs


def representatives(params: config.Params) -> list[str]:
    """Return the first model of each kind."""
    first: dict[str, str] = {}
    for name, model in params.models.items():
        if not model.classifier:
            first.setdefault(kind(model), name)
    return list(first.values())


def kind(model: config.ModelParams) -> str:
    """Return what determines the rate: loss, options, choices and targets, `ALIKE` targets counted as one."""
    chosen = {**model.choices, "epoch_factor": model.epoch_factor}
    targets = ALIKE.get(model.targets, model.targets.removesuffix(".permuted"))
    return f"{model.loss} {json.dumps(model.options)} {targets} {json.dumps(chosen)}"


def sources(block: Block, params: config.Params) -> dict[str, str]:
    """Return whose search gives the rate of each row of a block, by row; rows with the rate of params.yaml are missing.

    params: the settings of the block. Rows of one kind share the search of the first of them.
    """
    search = block.search
    if search is None:
        return {}
    names = {row: row.name for row in block.rows if not params.model(row.name).classifier}
    names = {row: name for row, name in names.items() if not search.models or row.model in search.models}
    first: dict[str, str] = {}
    for row, name in names.items():
        if search.label_of(row.label) == row.label:
            first.setdefault(kind(params.model(name)), name)
    return {
        name: first[kind(params.model(Row(row.model, search.label_of(row.label)).name))] for row, name in names.items()
    }


def rates(file: Path, block: Block, params: config.Params) -> dict[str, float]:
    """Return the learning rates of a block by row, as far as their searches are finished."""
    trials, wanted = comparable(kept(file), params), sources(block, params)
    finished = [source for source in set(wanted.values()) if next_trial(file, source, params) is None]
    return {row: best(trials, source) for row, source in wanted.items() if source in finished}


def following(found: Mapping[float, float], search: config.SearchParams) -> float | None:
    """Return the rate to try after those tried (rate -> accuracy); None if the search is over.

    The search is over if the budget is spent or the best rate is bracketed. Rates are start * factor^n, rounded to two
    digits for readability; the smaller neighbour comes first.
    """
    steps = {rate_at(step, search): step for step in range(-STEPS, STEPS + 1)}
    if len(found) >= search.trials:
        return None
    if not found:
        return rate_at(0, search)
    best = steps[max(found, key=lambda rate: (found[rate], -rate))]
    neighbours = [rate_at(best - 1, search), rate_at(best + 1, search)]
    return next((rate for rate in neighbours if rate not in found), None)


def finalists(found: Mapping[float, float], search: config.SearchParams) -> list[float]:
    """Return the best rates of the short trainings, best first."""
    return sorted(found, key=lambda rate: (-found[rate], rate))[: search.finalists]


def rate_at(step: int, search: config.SearchParams) -> float:
    """Return the rate that is `step` steps from the start."""
    return float(f"{search.start * search.factor**step:.2g}")


def accuracy(run: Trial) -> float:
    """Return a trial's accuracy, or `WORST` if it diverged."""
    return WORST if run["val_accuracy"] is None else float(run["val_accuracy"])


def best(trials: Sequence[Trial], model: str) -> float:
    """Return the rate with the highest accuracy on PublicTest in the longest trainings; the lowest of equals.

    The model must be among the trials.
    """
    ranked = [(length(run), accuracy(run), -run["learning_rate"]) for run in trials if run["model"] == model]
    return float(-max(ranked)[-1])


def length(run: Trial) -> int:
    """Return the number of epochs of a trial."""
    return int(run["recipe"]["epochs"])


def table(trials: Sequence[Trial]) -> str:
    """Return a table of PublicTest accuracy in per cent by loss, model, length and rate, chosen rates in bold."""
    if not trials:
        return "Nothing has been searched yet: the rates in `params.yaml` are set by hand.\n"
    rates = sorted({run["learning_rate"] for run in trials})
    lines = []
    for model in dict.fromkeys(run["model"] for run in trials):
        of_model = [run for run in trials if run["model"] == model]
        lengths = sorted({length(run) for run in of_model})
        for epochs in lengths:
            found = {run["learning_rate"]: accuracy(run) for run in of_model if length(run) == epochs}
            chosen = best(trials, model) if epochs == lengths[-1] else None
            cells = (shown(found.get(rate), rate == chosen) for rate in rates)
            lines.append([of_model[0]["loss"], model, str(epochs), *cells])
    headings = ["loss", "model", "epochs", *(f"{rate:g}" for rate in rates)]
    return markdown_table(headings, lines, text_columns=2) + "\n"


def shown(accuracy: float | None, chosen: bool) -> str:
    """Format one entry of the table."""
    if accuracy is None:
        return ""
    text = "diverged" if accuracy == WORST else f"{100 * accuracy:.2f}"
    return f"**{text}**" if chosen else text
