"""Write the study from the runs kept in git: `fer report`.

Reads results/fer2013/ alone, so it needs neither the data nor a training. Pages contain blocks between `<!-- begin NAME
-->` and `<!-- end NAME -->`, which are rewritten; a test fails when a page differs from what this writes. The runs and
the comparison are logged to MLflow as `fer2013-study`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import config
from pipeline.comparison import findings, protocols, tables
from pipeline.comparison.findings import Models, Prediction, ScoreFit
from pipeline.comparison.paired import compare
from pipeline.comparison.records import RunRecord, entries, is_network
from pipeline.comparison.registry import recall
from pipeline.comparison.rows import ComparisonRow, write_rows
from pipeline.data.fer import LABELS
from pipeline.errors import UserError
from pipeline.figures import study as figures
from pipeline.files import JsonDict, write_csv, write_text
from pipeline.fingerprint import RunSettings
from pipeline.study import lr_search, prose, speedrun
from pipeline.study.trial import kept
from pipeline.tracking.comparison_runs import log_study
from pipeline.workspace import RunKey

STUDY = Path("results/fer2013")
AGAIN = STUDY / "processor"
"""Runs of the same settings on another machine, kept by `fer publish processor`."""
CONTRASTED = {"test.accuracy": "accuracy", recall("disgust"): "recall of disgust"}
"""The metrics of the pairs of models, with their headings: the largest effect of the study is that on disgust."""
PAGES = (STUDY / "README.md", Path("docs/study.md"), Path("docs/recipe.md"), Path("README.md"))


def report() -> None:
    """Write the tables, the figures and the blocks of the pages, and log them."""
    params = config.load(STUDY / "params.yaml")
    baseline = params.compare.baseline
    models = study_in(STUDY, params)
    rows = compare(entries(models, baseline), params.compare.resamples)
    pairs = second_study(rows, baseline, params)
    posterior = findings.posterior_of(models, baseline)
    predictions = findings.predictions(models, posterior)
    contrasts = findings.contrasts(models, metrics=[*CONTRASTED])
    judged = findings.judges(rows, models)
    fits = findings.score_fits(models, posterior)
    alike = findings.between_seeds(models, posterior)

    write_rows(STUDY / "ablation.json", rows)
    images = findings.first(models[baseline])["test"]["images"]
    write_text(STUDY / "ablation.md", tables.markdown(rows, "fer2013", images, baseline))
    write_predictions(STUDY / "prediction.csv", predictions, fits)
    figures.draw(models, rows, baseline, STUDY)
    if fits:
        figures.score_fits(fits, STUDY / "score_fits.png")
    trials = lr_search.comparable(kept(STUDY / "learning_rates.json"), params)
    timed = kept(STUDY / "speedrun.json")
    blocks = {
        "answer": prose.answer(rows, models),
        "near_duplicates": prose.near_duplicates(models[baseline]),
        "full": prose.full(timed),
        "table": f"{tables.table(rows)}\n\n{tables.footnote(baseline)}",
        "bounds": tables.bounds_table(rows),
        "judges": f"{prose.judges(judged)}\n\n{tables.judges_table(judged, rows)}".strip(),
        "differences": tables.difference_table(rows),
        "recalls": tables.recall_table(rows, findings.classes_of(models)),
        "contrasts": tables.contrast_table(contrasts, CONTRASTED),
        "protocols": tables.protocol_table(protocols.readings(models, baseline), rows),
        "replication": tables.replication_table(pairs, rows),
        "prediction": tables.prediction_table(predictions, posterior, alike),
        "scores": tables.score_table(fits),
        "correlation": tables.correlation_table(findings.correlations(models, baseline)),
        "rates": lr_search.table(trials).strip(),
        "speedrun": speedrun.table(timed),
    }
    for page in PAGES:
        write_text(page, fill(page.read_text(encoding="utf-8"), blocks, page))
        print(page)
    log_study(STUDY, models, rows, f"{STUDY.name}-study")


def second_study(
    rows: Sequence[ComparisonRow], baseline: str, params: config.Params
) -> list[tuple[ComparisonRow, ComparisonRow]]:
    """Pair each row with the same row trained with the same settings on another machine, where there is one."""
    if not AGAIN.exists():
        return []
    again = compare(entries(study_in(AGAIN, params), baseline))
    return findings.in_both(rows, again)


def study_in(folder: Path, params: config.Params) -> Models:
    """Return the runs kept in `folder`/runs. Raises UserError if they are not comparable or have other settings."""
    models = comparable(kept_runs(folder / "runs", list(params.models)), params.compare.baseline, folder)
    require_one_study(models, params, folder)
    require_one_machine(models, folder)
    return models


def kept_runs(folder: Path, order: Sequence[str]) -> dict[str, dict[int, RunRecord]]:
    """Return every run in the folder by model and seed, models in the given order, unknown ones last."""
    found: dict[str, dict[int, RunRecord]] = {}
    for path in sorted(folder.glob("*.json")):
        model, _, seed = path.stem.rpartition("-")
        if not (model and re.fullmatch("[0-9]+", seed)):
            raise UserError(f"{path} is not named like a run, <model>-<seed>.json: move it elsewhere.")
        found.setdefault(model, {})[int(seed)] = RunRecord.kept(folder, path.stem)
    rank = {model: position for position, model in enumerate(order)}
    return {
        model: dict(sorted(found[model].items()))
        for model in sorted(found, key=lambda name: (rank.get(name, len(rank)), name))
    }


def comparable(models: Models, baseline: str, folder: Path) -> Models:
    """Return the models that share a seed with the baseline. Raises UserError without a baseline.

    The others are reported and left out: a study may be half done.
    """
    if baseline not in models:
        raise UserError(
            f"{folder}/runs has no run of {baseline}, with which all others are compared: train it with `fer sweep`."
        )
    for model in models:
        if not set(models[model]) & set(models[baseline]):
            print(f"{model} is left out: it has no seed in common with {baseline} yet.")
    return {model: runs for model, runs in models.items() if set(runs) & set(models[baseline])}


def fill(text: str, blocks: Mapping[str, str], page: Path) -> str:
    """Return the page with its blocks rewritten. Raises UserError for a block without content or without an end."""

    def content(match: re.Match[str]) -> str:
        name = match[1]
        if name not in blocks:
            raise UserError(f"{page}: unknown block '{name}'. Valid: {', '.join(blocks)}.")
        return f"<!-- begin {name} -->\n{blocks[name]}\n<!-- end {name} -->"

    filled, count = re.subn(r"<!-- begin (\w+) -->.*?<!-- end \1 -->", content, text, flags=re.DOTALL)
    if count != text.count("<!-- begin ") or count != text.count("<!-- end "):
        raise UserError(f"{page}: a block has a beginning without its end, or an end without its beginning.")
    return filled


def require_one_study(
    models: Models,
    params: config.Params,
    folder: Path,
    settings: Path = STUDY / "params.yaml",
    sweep: str = "fer sweep",
) -> None:
    """Raise UserError unless all runs have the settings of `params`, which are those of the file `settings`.

    Runs are kept one by one, perhaps over days. Trainings that differ in more than their rows state must not share a
    table. sweep: the command that trains them.
    """
    for name, runs in models.items():
        for seed, run in runs.items():
            known = name in params.models
            if not known or run.metrics["settings"] != RunSettings.of(params, RunKey(name, seed)).to_dict():
                raise UserError(
                    f"{folder}/runs/{name}-{seed}.json was trained with other settings than {settings} has: train "
                    f"it again with `{sweep}`, or remove it."
                )


def require_one_machine(models: Models, folder: Path, *, each_seed: bool = False) -> None:
    """Raise UserError unless all networks were trained on one kind of machine, or those of each seed were.

    Tests compare rows within a seed, so that each may have a machine of its own.
    """
    first = dict[int | None, tuple[str, JsonDict]]()
    for name, runs in models.items():
        for seed, run in runs.items():
            if not is_network(run.metrics):
                continue
            other, machine = first.setdefault(seed if each_seed else None, (f"{name}-{seed}", run.metrics["machine"]))
            if run.metrics["machine"] != machine:
                whose = "of one seed" if each_seed else "of a study"
                raise UserError(
                    f"{folder}/runs: {other} and {name}-{seed} were trained with different numerics (see `machine` "
                    f"in their files), and rows {whose} are compared: use one processor, number of threads, "
                    "precision and PyTorch version for all of them."
                )


def write_predictions(path: Path, rows: Sequence[Prediction], fits: Sequence[ScoreFit]) -> None:
    """Write both tests of the prediction, with the shares of every class: observed, by arg-max S p, by arg-max p."""
    classes = [f"{kind} {label}" for kind in ("found", "predicted", "plain") for label in LABELS]
    numbers = ["as_posterior", "as_costs", "difference", "low", "high", "p", "spread", "accuracy", *classes]
    counts = ["differing", "with_costs", "with_posterior"]
    explained = ["r2", "r2_identity", "r2_identity_scaled", "p_relabelled", "p_relabelled_holm"]
    lines = []
    for row, fit in zip(rows, fits, strict=True):
        values = (
            row.as_posterior.mean, row.as_costs.mean, *row.difference[:4], row.spread, row.accuracy.mean,
            *row.found, *row.predicted, *row.plain,
        )  # fmt: skip
        counted = (row.differing, row.with_costs, row.with_posterior)
        scores = (fit.similarities.mean, fit.alone.mean, fit.scaled.mean, fit.p, fit.p_holm)
        shown = ["" if value is None else f"{value:.6f}" for value in (*values, *scores)]
        lines.append([row.model, row.seeds, *counted, *shown])
    write_csv(path, ["model", "seeds", *counts, *numbers, *explained], lines)
