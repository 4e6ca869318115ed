"""Every figure of a study: of the cells in the workspace (compare) or of the runs kept in git (report)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.comparison import findings
from pipeline.comparison.findings import Models
from pipeline.comparison.paired import Row
from pipeline.data.fer import LABELS
from pipeline.figures import study as figures
from pipeline.labels.targets import uses_seed

RESAMPLES = 2000
"""Enough for the intervals of a figure."""


def draw(models: Models, rows: Sequence[Row], baseline: str, folder: Path) -> None:
    """Curves, accuracy, severity, recalls and targets of all models; of cosine models, the test of the prediction."""
    curves = {
        model: [
            [(epoch["epoch"], epoch["val_accuracy"]) for epoch in run.metrics["history"]]
            for run in runs.values()
        ]
        for model, runs in models.items()
    }
    figures.validation_curves(curves, folder / "validation_curves.png")
    names = [findings.row_name(row, rows) for row in rows]
    accuracies = [
        figures.ModelAccuracy(
            name, row["test.accuracy"]["mean"], row["test_clean.accuracy"]["mean"],
            row["test.accuracy"]["ci95"], row["test_clean.accuracy"]["ci95"],
        )
        for name, row in zip(names, rows, strict=True)
    ]  # fmt: skip
    figures.model_bars(accuracies, folder / "accuracy.png")
    for distance in ("affective", "human"):
        key = f"test.severity.{distance}.all"
        if all(key in row for row in rows):
            severities = [
                figures.ModelSeverity(
                    name, row["test.accuracy"]["mean"], row[key]["mean"],
                    row["test.accuracy"]["ci95"], row[key]["ci95"],
                )
                for name, row in zip(names, rows, strict=True)
            ]  # fmt: skip
            figures.severity_scatter(severities, distance, folder / f"severity_{distance}.png")
    recalls = findings.recall_differences(models, baseline, RESAMPLES)
    if recalls:
        own = {row["model"]: row["test.accuracy"]["mean"] for row in rows if findings.is_own(row, models)}
        figures.recall_differences(
            recalls, LABELS, folder / "recall_differences.png", left_out=figures.far_below(own)
        )
    grams = {}
    for seed, run in (next(iter(runs.items())) for runs in models.values()):
        targets = run.metrics["targets"]
        title = f"{targets}, seed {seed}" if uses_seed(targets) else targets
        grams[title] = np.array(run.metrics["gram"])
    figures.grams(grams, LABELS, folder / "grams.png")

    posterior = findings.posterior_of(models, baseline)
    predictions = findings.predictions(models, posterior, RESAMPLES)
    if predictions:
        figures.spread_scatter(
            [(row.model, row.spread, row.accuracy.mean, row.accuracy.half_width) for row in predictions],
            folder / "spread.png",
        )
        figures.agreement_bars(
            [
                (
                    row.model,
                    (row.as_posterior.mean, row.as_posterior.half_width),
                    (row.as_costs.mean, row.as_costs.half_width),
                )
                for row in predictions
            ],
            None if (common := findings.between_seeds(models, posterior)) is None else common.mean,
            folder / "agreement.png",
        )
        figures.shares_of_decisions(
            [(row.model, row.found, row.predicted, row.plain) for row in predictions],
            LABELS,
            folder / "shares.png",
        )
