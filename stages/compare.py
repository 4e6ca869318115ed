"""Stage compare: every model of the grid against the baseline, on the same images and seeds."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import config, figures, tracking
from pipeline.data.duplicates import read_twins
from pipeline.errors import UserError
from pipeline.files import flatten, read_json, sha256, write_csv, write_json, write_text
from pipeline.statistics import holm, interval95, mcnemar, paired_bootstrap
from stages import run_stage
from stages.cell import PREPARED, Cell, dataset_name, read_history

REPORTS = Path("reports")
TABLE = REPORTS / "ablation.json"

Row = dict[str, Any]

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
    "test.severity.human.all": "severity, human",
}
"""The metrics that the Markdown table shows, with their headings; the JSON and CSV files have all."""

PAIRED = ("test.accuracy", "test.accuracy_flip", "test_clean.accuracy")
"""The metrics that are compared image by image with the baseline's."""


@dataclass(frozen=True)
class Decisions:
    """What one model did on PrivateTest: the images' rows, and bool [seeds, images] for each of `PAIRED`."""

    index: npt.NDArray[np.int64]
    right: dict[str, npt.NDArray[np.bool_]]


def main() -> None:
    params = config.load()
    grid, settings = params.grid, params.compare
    metrics = {model: [_metrics(Cell(model, seed)) for seed in grid.seeds] for model in grid.models}
    twins = read_twins(PREPARED / "duplicates.csv", read_json(PREPARED / "checks.json")["rows"])
    decisions = {
        model: _decisions([Cell(model, seed) for seed in grid.seeds], twins) for model in grid.models
    }

    rows = [
        _row(model, params.model(model).decoder, grid.seeds, metrics[model], decisions, settings)
        for model in grid.models
    ]
    others = [row for row in rows if row["model"] != settings.baseline]
    for metric in PAIRED:  # every variant is one more chance to be lucky: Holm's correction over all of them
        for row, p in zip(others, holm([row[metric]["p"] for row in others]), strict=True):
            row[metric]["p_holm"] = float(p)

    images = metrics[settings.baseline][0]["test"]["images"]
    write_json(TABLE, rows)
    _write_csv(REPORTS / "ablation.csv", rows)
    write_text(REPORTS / "ablation.md", markdown(rows, dataset_name(), images, grid.seeds, settings.baseline))
    _draw(params.grid, rows)
    print((REPORTS / "ablation.md").read_text(encoding="utf-8"))
    log()


def runs() -> tracking.Where | None:
    """Where the run of this stage is in MLflow, or None before the first comparison."""
    if not TABLE.exists():
        return None
    content = sha256(TABLE)[:12]
    return tracking.Where(dataset_name(), "comparison", f"comparison-{content}", content)


def log() -> None:
    rows = read_json(TABLE)
    with tracking.run_of(runs(), {"kind": "comparison", **tracking.context_tags("compare")}) as run:
        run.params({"models": ", ".join(row["model"] for row in rows), "seeds": rows[0]["seeds"]})
        run.metrics({row["model"]: {"accuracy": row["test.accuracy"]["mean"]} for row in rows})
        run.artifacts(REPORTS, "reports")


def _metrics(cell: Cell) -> dict[str, Any]:
    if not cell.metrics.exists():
        raise UserError(f"{cell.metrics} is missing: run `dvc repro` to evaluate {cell.key}.")
    return dict(read_json(cell.metrics))


def _decisions(cells: Sequence[Cell], twins: npt.NDArray[np.bool_]) -> Decisions:
    """Read which images of PrivateTest each seed got right, from the prediction files.

    Raises UserError if they are not about the same images: paired tests compare image by image.
    """
    plain, flipped, images = [], [], []
    for cell in cells:
        if not cell.predictions.exists():
            raise UserError(f"{cell.predictions} is missing: run `dvc repro` to evaluate {cell.key}.")
        with cell.predictions.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        images.append([(int(row["index"]), row["actual"]) for row in rows])
        plain.append([row["predicted"] == row["actual"] for row in rows])
        flipped.append([row["predicted_flip"] == row["actual"] for row in rows])
    if any(other != images[0] for other in images):
        raise UserError(
            f"The predictions of {cells[0].model} are about different images: run `dvc repro` again."
        )
    index = np.array([row for row, _ in images[0]])
    right = np.array(plain)
    return Decisions(
        index,
        {
            "test.accuracy": right,
            "test.accuracy_flip": np.array(flipped),
            "test_clean.accuracy": right[:, ~twins[index]],
        },
    )


def _row(
    model: str, decoder: str, seeds: Sequence[int], metrics: Sequence[dict[str, Any]],
    decisions: dict[str, Decisions], settings: config.CompareParams,
) -> Row:  # fmt: skip
    """One row of ablation.json: every metric's mean, deviation and interval, and the paired tests."""
    row: Row = {"model": model, "decoder": decoder, "seeds": list(seeds)}
    flat = [
        flatten({name: seed[name] for name in ("val", "test", "test_clean", "training")}) for seed in metrics
    ]
    for name, value in flat[0].items():
        if isinstance(value, int | float):
            mean, std, half = interval95([seed[name] for seed in flat])
            row[name] = {"mean": mean, "std": std, "ci95": half}
    if model == settings.baseline:
        return row
    if not np.array_equal(decisions[model].index, decisions[settings.baseline].index):
        raise UserError(
            f"{model} and {settings.baseline} were measured on different images: run `dvc repro` again."
        )
    for metric in PAIRED:
        mine, baseline = decisions[model].right[metric], decisions[settings.baseline].right[metric]
        difference = paired_bootstrap(mine, baseline, settings.resamples)
        row[metric] |= {
            "difference": difference.mean,
            "low": difference.low,
            "high": difference.high,
            "p": difference.p,
            "mcnemar": [mcnemar(a, b) for a, b in zip(mine, baseline, strict=True)],
        }
    return row


def markdown(rows: Sequence[Row], dataset: str, images: int, seeds: Sequence[int], baseline: str) -> str:
    """The table for readers, with what it is about and how far it carries."""
    count = f"{len(seeds)} seed" + ("s" if len(seeds) != 1 else "")
    lines = [f"# {dataset}: {len(rows)} models, {count}", ""]
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
    if len(seeds) == 1:
        lines += [
            "One seed: no deviation between seeds, and the test compares these two networks, not their recipes. "
            f"The best accuracy here has a binomial standard error of {standard_error:.1f} points.",
            "",
        ]
    shown = {key: heading for key, heading in COLUMNS.items() if all(key in row for row in rows)}
    lines.append("| model | " + " | ".join(shown.values()) + " | difference [95 %] | p (Holm) |")
    lines.append("|---|" + "--:|" * (len(shown) + 2))
    for row in rows:
        cells = [_number(key, row[key]) for key in shown]
        lines.append(
            f"| {row['model']} | " + " | ".join([*cells, *_verdict(row["test.accuracy"], baseline)]) + " |"
        )
    lines += [
        "",
        f"Difference: accuracy minus that of `{baseline}`, in points, with the 95 % interval of a paired bootstrap "
        "over images and seeds; p is corrected for the number of variants (Holm).",
    ]
    return "\n".join(lines) + "\n"


def _number(key: str, value: dict[str, float | None]) -> str:
    mean, std = value["mean"], value["std"]
    assert mean is not None
    percent = "severity" not in key and "nll" not in key and "ece" not in key
    text = f"{100 * mean:.2f}" if percent else f"{mean:.3f}"
    if std is not None:
        text += f" ± {100 * std:.2f}" if percent else f" ± {std:.3f}"
    return text


def _verdict(accuracy: dict[str, Any], baseline: str) -> tuple[str, str]:
    if "difference" not in accuracy:
        return "", ""
    low, high = 100 * accuracy["low"], 100 * accuracy["high"]
    p = accuracy["p_holm"]
    return (
        f"{100 * accuracy['difference']:+.2f} [{low:+.2f}, {high:+.2f}]",
        f"{p:.3f}" if p >= 0.001 else "< 0.001",
    )


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


def _draw(grid: config.Grid, rows: Sequence[Row]) -> None:
    curves = {
        model: [
            [(epoch["epoch"], epoch["val_accuracy"]) for epoch in read_history(Cell(model, seed))]
            for seed in grid.seeds
        ]
        for model in grid.models
    }
    figures.validation_curves(curves, REPORTS / "validation_curves.png")
    bars = [
        figures.ModelAccuracy(
            row["model"], row["test.accuracy"]["mean"], row["test_clean.accuracy"]["mean"],
            row["test.accuracy"]["ci95"], row["test_clean.accuracy"]["ci95"],
        )
        for row in rows
    ]  # fmt: skip
    figures.model_bars(bars, REPORTS / "accuracy.png")
    for distance in ("affective", "human"):
        key = f"test.severity.{distance}.all"
        if all(key in row for row in rows):
            points = [
                figures.ModelSeverity(row["model"], row["test.accuracy"]["mean"], row[key]["mean"])
                for row in rows
            ]
            figures.severity_scatter(points, distance, REPORTS / f"severity_{distance}.png")


if __name__ == "__main__":
    run_stage(main)
