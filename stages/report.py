"""Write the study from the runs kept in git: `make report` (not a DVC stage).

Reads results/fer2013/ alone, so it needs neither the data nor a training. Every number in the text comes from
there: pages hold blocks between `<!-- begin NAME -->` and `<!-- end NAME -->`, which are filled again; a test fails
when a page differs from what this writes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import config
from pipeline.comparison import Row, compare
from pipeline.data.fer import LABELS
from pipeline.errors import UserError
from pipeline.files import write_csv, write_json, write_text
from pipeline.statistics import holm
from stages import findings, pictures, run_stage, search
from stages.compare import COLUMNS, against_baseline, entries, footnote, markdown, p_value, points, table
from stages.findings import Models, Prediction, row_name
from stages.runs import Run

STUDY = Path("results/fer2013")
PAGES = (STUDY / "README.md", Path("docs/study.md"), Path("README.md"))

SUMMARY = {
    name: COLUMNS[name]
    for name in ("test.accuracy", "test.accuracy_flip", "test_clean.accuracy", "test.macro_f1")
}
"""The columns for the first page."""

GALLERIES = {
    "accuracy_figures": {"accuracy": "Accuracy of every row"},
    "severity_figures": {
        "severity_human": "Accuracy and severity, human distance",
        "severity_affective": "Accuracy and severity, affective distance",
        "recall_differences": "Recall by class, minus the baseline's",
    },
    "prediction_figures": {
        "agreement": "Agreement with arg-max p and with arg-max S p",
        "shares": "Share of decisions by class, found and predicted",
        "spread": "Accuracy against the spread of the cosines",
    },
    "target_figures": {"grams": "Cosines between the targets"},
}
"""The figures of each block of figures, with what they show. Those that need runs not yet made are left out."""


def main() -> None:
    params = config.load()
    models, baseline = kept_runs(STUDY / "runs", list(params.models)), params.compare.baseline
    if baseline not in models:
        raise UserError(f"{STUDY}/runs has no run of {baseline}, with which all others are compared.")
    require_one_study(models)
    rows = compare(entries(models, baseline), params.compare.resamples)
    posterior = findings.posterior_of(models, baseline)
    predictions = findings.predictions(models, posterior)

    write_json(STUDY / "ablation.json", rows)
    images = findings.first(models[baseline])["test"]["images"]
    write_text(STUDY / "ablation.md", markdown(rows, "fer2013", images, baseline))
    write_predictions(STUDY / "prediction.csv", predictions)
    pictures.draw(models, rows, baseline, STUDY)
    blocks = {
        "answer": answer(rows, models),
        "summary": table([row for row in rows if findings.is_own(row, models)], SUMMARY),
        "table": f"{table(rows, COLUMNS)}\n\n{footnote(baseline)}",
        "detectable": detectable(rows, models),
        "contrasts": contrast_table(models, params.compare.resamples),
        "prediction": prediction_table(predictions, models, posterior),
        "correlation": correlation_table(findings.correlations(models, baseline)),
        "rates": search.table(search.comparable(search.kept(STUDY / "learning_rates.json"), params)).strip(),
    }
    for page in PAGES:
        blocks |= {name: gallery(figures, page) for name, figures in GALLERIES.items()}
        write_text(page, fill(page.read_text(encoding="utf-8"), blocks, page))
        print(page)


def gallery(figures: Mapping[str, str], page: Path) -> str:
    """Links from a page to those figures that there are."""
    folder = os.path.relpath(STUDY, page.parent)
    return "\n".join(
        f"![{shows}]({Path(folder, f'{name}.png').as_posix()})"
        for name, shows in figures.items()
        if (STUDY / f"{name}.png").exists()
    )


def kept_runs(folder: Path, order: Sequence[str]) -> dict[str, dict[int, Run]]:
    """Every run in the folder by model and seed, models in the order given, unknown ones last."""
    found: dict[str, dict[int, Run]] = {}
    for path in sorted(folder.glob("*.json")):
        model, _, seed = path.stem.rpartition("-")
        found.setdefault(model, {})[int(seed)] = Run.kept(folder, path.stem)
    rank = {model: position for position, model in enumerate(order)}
    return {
        model: dict(sorted(found[model].items()))
        for model in sorted(found, key=lambda name: (rank.get(name, len(rank)), name))
    }


def fill(text: str, blocks: Mapping[str, str], page: Path) -> str:
    """The page with its blocks written anew. Raises UserError for a block that has no content."""

    def content(match: re.Match[str]) -> str:
        name = match[1]
        if name not in blocks:
            raise UserError(f"{page}: there is no block '{name}'; there are {', '.join(blocks)}.")
        return f"<!-- begin {name} -->\n{blocks[name]}\n<!-- end {name} -->"

    return re.sub(r"<!-- begin (\w+) -->.*?<!-- end \1 -->", content, text, flags=re.DOTALL)


def require_one_study(models: Models) -> None:
    """Raise UserError unless all seeds of a model had the same settings, and all models the same recipe and format.

    Runs are kept one by one, over days perhaps: a table of trainings that differ in more than they say is none.
    """
    origin = None
    for model, runs in models.items():
        for seed, run in runs.items():
            facts = {"settings": run.metrics["settings"], "precision": run.metrics["training"]["precision"]}
            common = (facts["settings"]["recipe"], facts["precision"])
            mine = findings.first(runs)["settings"]
            origin = origin or common
            if facts["settings"] != mine or common != origin:
                raise UserError(
                    f"{STUDY}/runs/{model}-{seed}.json was trained with other settings than the runs before it: "
                    "train it again with `python -m stages.study`, or remove it."
                )


def answer(rows: Sequence[Row], models: Models) -> str:
    """The study's answer: what the best loss on label words does, and how many of them are worse."""
    words = [row for row in rows if findings.is_word_loss(row, models)]
    if not words:
        return "**No loss on label words has been run yet.**"
    best = findings.best_of(words)
    helps = [row for row in words if findings.verdict(row) > 0]
    hurts = [row for row in words if findings.verdict(row) < 0]
    count, baseline = len(words), f"`{rows[0]['model']}` (cross-entropy)"
    if helps:
        said = f"{len(helps)} of {count} losses on label words beat {baseline}."
    else:
        said = f"None of {count} losses on label words beat {baseline}."
    said += f" {len(hurts)} of {count} are significantly worse." if hurts else " None is significantly worse."
    name = row_name(best, rows)
    return f"**{said} The best on PublicTest, `{name}`, differs by {told(best)}.**"


def told(row: Row) -> str:
    """A difference in accuracy with all that belongs to it."""
    accuracy, seeds = row["test.accuracy"], len(row["paired_seeds"])
    return (
        f"{points(accuracy['difference'])} points on PrivateTest (95 % interval {points(accuracy['low'])} to "
        f"{points(accuracy['high'])}, Holm-corrected p {p_value(accuracy['p_holm'])}, {seeds} "
        f"seed{'s' * (seeds > 1)})"
    )


def contrast_table(models: Models, resamples: int) -> str:
    """What the words add, whether their meaning matters and what the loss itself does, each pair with its own test."""
    pairs = [pair for pair in findings.CONTRASTS if all(model in models for model in pair)]
    pairs = [(a, b) for a, b in pairs if set(models[a]) & set(models[b])]
    if not pairs:
        return "Too little has been run yet."
    own = [[entries({name: models[name]}, name)[0] for name in (b, a)] for a, b in pairs]
    rows = [compare(two, resamples)[1] for two in own]
    corrected = holm([row["test.accuracy"]["p"] for row in rows])
    lines = ["| model | against | seeds | difference [95 %] | p (Holm) |", "|---|---|--:|--:|--:|"]
    for (a, b), row, p in zip(pairs, rows, corrected, strict=True):
        difference, verdict = against_baseline(row["test.accuracy"] | {"p_holm": float(p)})
        lines.append(f"| {a} | {b} | {len(row['paired_seeds'])} | {difference} | {verdict} |")
    return "\n".join(lines)


def detectable(rows: Sequence[Row], models: Models) -> str:
    """What the study could have missed."""
    limits = [row["test.accuracy"]["detectable"] for row in rows if findings.is_word_loss(row, models)]
    if not limits:
        return "Nothing has been compared yet."
    return (
        f"For the losses on label words a true difference of {100 * min(limits):.1f} to {100 * max(limits):.1f} "
        "points, depending on the row, would have been found in about 80 % of cases before the correction for "
        "many rows: smaller ones may exist."
    )


def prediction_table(rows: Sequence[Prediction], models: Models, posterior: str) -> str:
    """The test of the prediction: agreement, spread and accuracy of every cosine model."""
    if not rows:
        return "No model with the cosine loss has been run yet."
    common = findings.between_seeds(models, posterior)
    lines = []
    if common is not None:
        lines += [f"Two seeds of `{posterior}` decide alike on {100 * common:.1f} % of PrivateTest.", ""]
    heads = (
        "model", "seeds", "as arg-max p", "as arg-max S p", "spread of cosines", "accuracy",
        "neutral, found", "neutral, by S p",
    )  # fmt: skip
    lines += [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    neutral = LABELS.index("neutral")
    for row in rows:
        values = (row.accuracy.mean, row.found[neutral], row.predicted[neutral])
        cells = [row.model, str(row.seeds), f"{100 * row.as_posterior:.1f}", f"{100 * row.as_costs:.1f}"]
        cells += [f"{row.spread:.3f}", *(f"{100 * value:.1f}" for value in values)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_predictions(path: Path, rows: Sequence[Prediction]) -> None:
    """All of the prediction test, with the shares of every class."""
    classes = [f"{kind} {label}" for kind in ("found", "predicted") for label in LABELS]
    header = ["model", "seeds", "as_posterior", "as_costs", "spread", "accuracy", *classes]
    lines = []
    for row in rows:
        means = (row.as_posterior, row.as_costs, row.spread, row.accuracy.mean, *row.found, *row.predicted)
        lines.append([row.model, row.seeds, *(f"{value:.6f}" for value in means)])
    write_csv(path, header, lines)


def correlation_table(rows: Sequence[tuple[str, float, float]]) -> str:
    """Targets, their correlation with the baseline's confusion, and its p value."""
    if not rows:
        return "Too little has been run yet."
    lines = ["| targets | Spearman's rho | p (Mantel) |", "|---|--:|--:|"]
    return "\n".join([*lines, *(f"| {name} | {rho:+.2f} | {p_value(p)} |" for name, rho, p in rows)])


if __name__ == "__main__":
    run_stage(main)
