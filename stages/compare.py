"""Stage compare: every model of the grid, under each of its decoders, against the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import config, figures, tracking
from pipeline.comparison import Entry, Row, compare
from pipeline.errors import UserError
from pipeline.files import read_json, sha256, write_csv, write_json, write_text
from stages import pictures, run_stage
from stages.cell import Cell, dataset_name, read_history
from stages.findings import row_name
from stages.runs import Run

REPORTS = Path("reports")
TABLE = REPORTS / "ablation.json"

COLUMNS = {
    "test.accuracy": "accuracy",
    "test.accuracy_flip": "with flip",
    "test_clean.accuracy": "without twins",
    "test.balanced_accuracy": "balanced",
    "test.macro_f1": "macro F1",
    "test.nll_calibrated": "NLL (cal.)",
    "test.ece_calibrated": "ECE (cal.)",
    "test.votes.accuracy": "FER+ majority",
    "test.severity.affective.all": "severity, affective",
    "test.severity.affective.mistakes": "of mistakes",
    "test.severity.human.all": "severity, human",
    "test.severity.human.mistakes": "of mistakes",
}
"""The metrics that the Markdown table shows, with their headings; the JSON and CSV files have all."""


def main() -> None:
    params = config.load()
    grid, baseline = params.grid, params.compare.baseline
    found = {
        model: {seed: Run.of_workspace(Cell(model, seed)) for seed in grid.seeds} for model in grid.models
    }
    rows = compare(entries(found, baseline), params.compare.resamples)
    images = found[baseline][grid.seeds[0]].metrics["test"]["images"]
    write_json(TABLE, rows)
    _write_csv(REPORTS / "ablation.csv", rows)
    write_text(REPORTS / "ablation.md", markdown(rows, dataset_name(), images, baseline))
    _draw_curves(grid)
    pictures.draw(found, rows, baseline, REPORTS)
    print((REPORTS / "ablation.md").read_text(encoding="utf-8"))
    log()


def entries(found: Mapping[str, Mapping[int, Run]], baseline: str) -> list[Entry]:
    """Models, by name and seed, under each of their decoders; the baseline's own first."""
    first = [baseline, *(model for model in found if model != baseline)]
    return [
        entry(model, decoder, found[model])
        for model in first
        for decoder in next(iter(found[model].values())).decoders
    ]


def entry(model: str, decoder: str, runs: Mapping[int, Run]) -> Entry:
    """One row's measurements, of PrivateTest. Raises UserError if the seeds do not fit together."""
    some = next(iter(runs.values()))
    for seed, run in runs.items():
        if decoder not in run.decoders:
            raise UserError(f"{model}-{seed} was evaluated without the decoder {decoder}: evaluate it again.")
        if not np.array_equal(run.index, some.index):
            raise UserError(f"The seeds of {model} were measured on different images: evaluate them again.")
    right = {
        "test.accuracy": {seed: run.right[decoder][run.test] for seed, run in runs.items()},
        "test.accuracy_flip": {seed: run.right_flip[decoder][run.test] for seed, run in runs.items()},
        "test_clean.accuracy": {seed: run.right[decoder][run.test & run.clean] for seed, run in runs.items()},
    }
    if all(run.voted.any() for run in runs.values()):
        right["test.votes.accuracy"] = {
            seed: run.right_votes[decoder][run.test & run.voted] for seed, run in runs.items()
        }
    measured = {
        seed: {name: run.of(decoder)[name] for name in ("val", "test", "test_clean")}
        | {"training": run.metrics["training"]}
        for seed, run in runs.items()
    }
    return Entry(model, decoder, measured, some.index[some.test], right)


def runs() -> tracking.Where | None:
    """Where the run of this stage is in MLflow, or None before the first comparison."""
    if not TABLE.exists():
        return None
    content = sha256(TABLE)[:12]
    return tracking.Where(dataset_name(), "comparison", f"comparison-{content}", content)


def log() -> None:
    rows = read_json(TABLE)
    with tracking.run_of(runs(), {"kind": "comparison", **tracking.context_tags("compare")}) as run:
        run.params(
            {"models": ", ".join(dict.fromkeys(row["model"] for row in rows)), "seeds": rows[0]["seeds"]}
        )
        # MLflow takes no + in a key.
        accuracy = {row_name(row, rows).replace(" + ", "."): row["test.accuracy"]["mean"] for row in rows}
        run.metrics({name: {"accuracy": mean} for name, mean in accuracy.items()})
        run.artifacts(REPORTS, "reports")


def markdown(rows: Sequence[Row], dataset: str, images: int, baseline: str) -> str:
    """The table for readers, with what it is about and how far it carries."""
    counts = sorted({len(row["seeds"]) for row in rows})
    seeds = "1 seed" if counts == [1] else f"{' to '.join(map(str, counts[:: len(counts) - 1 or 1]))} seeds"
    lines = [f"# {dataset}: {len({row['model'] for row in rows})} models, {seeds}", ""]
    lines += [
        f"Measured on the {images:,} images of PrivateTest; PublicTest alone chose the epoch. "
        "Accuracies and F1 in per cent; severity is the mean distance from label to decision over all images "
        "(0: all right, 1: all as wrong as can be).",
        "",
    ]
    if dataset == "synthetic":
        lines += [
            "These are drawn faces: the table shows that the pipeline runs, and says nothing about people.",
            "",
        ]
    best = max(row["test.accuracy"]["mean"] for row in rows)
    standard_error = 100 * (best * (1 - best) / images) ** 0.5
    if counts[0] == 1:
        lines += [
            "One seed: no deviation between seeds, and the test compares these two networks, not their recipes. "
            f"The best accuracy here has a binomial standard error of {standard_error:.1f} points.",
            "",
        ]
    return "\n".join([*lines, table(rows, COLUMNS), "", footnote(baseline)]) + "\n"


def table(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """Those columns (metric -> heading) that every row has, and the verdict on each row."""
    shown = {key: heading for key, heading in columns.items() if all(key in row for row in rows)}
    several = any(len(row["seeds"]) > 1 for row in rows)
    heads = ["model", *(["seeds"] if several else []), *shown.values(), "difference [95 %]", "p (Holm)"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for row in rows:
        cells = [row_name(row, rows), *([str(len(row["seeds"]))] if several else [])]
        cells += [number(key, row[key]) for key in shown]
        lines.append(f"| {' | '.join([*cells, *against_baseline(row['test.accuracy'])])} |")
    return "\n".join(lines)


def footnote(baseline: str) -> str:
    return (
        f"Difference: accuracy minus that of `{baseline}`, in points, with the 95 % interval of a paired bootstrap "
        "over images and the seeds that both have; p is corrected for the number of variants (Holm)."
    )


def number(key: str, value: dict[str, float | None]) -> str:
    """Mean and deviation as the table shows them: accuracies and F1 in per cent, the rest as it is."""
    mean, std = value["mean"], value["std"]
    assert mean is not None
    percent = "severity" not in key and "nll" not in key and "ece" not in key
    text = f"{100 * mean:.2f}" if percent else f"{mean:.3f}"
    if std is not None:
        text += f" ± {100 * std:.2f}" if percent else f" ± {std:.3f}"
    return text


def against_baseline(accuracy: dict[str, Any]) -> tuple[str, str]:
    """Difference with its interval, in points, and the corrected p; both empty for the baseline itself."""
    if "difference" not in accuracy:
        return "", ""
    difference, low, high = (points(accuracy[name]) for name in ("difference", "low", "high"))
    return f"{difference} [{low}, {high}]", p_value(accuracy["p_holm"])


def points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line per model and metric: what a spreadsheet or a plotting library wants."""
    fields = ("mean", "std", "ci95", "difference", "low", "high", "p", "p_holm")
    write_csv(
        path,
        ["model", "decoder", "seeds", "metric", *fields],
        (
            [row["model"], row["decoder"], len(row["seeds"]), name, *(value.get(field) for field in fields)]
            for row in rows
            for name, value in row.items()
            if isinstance(value, dict)
        ),
    )


def _draw_curves(grid: config.Grid) -> None:
    curves = {
        model: [
            [(epoch["epoch"], epoch["val_accuracy"]) for epoch in read_history(Cell(model, seed))]
            for seed in grid.seeds
        ]
        for model in grid.models
    }
    figures.validation_curves(curves, REPORTS / "validation_curves.png")


if __name__ == "__main__":
    run_stage(main)
