"""Markdown tables of a study: what `dvc repro` prints and what `make report` puts into the pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.comparison.findings import Contrast, Prediction, corrected, row_name
from pipeline.comparison.paired import Row
from pipeline.comparison.statistics import Interval
from pipeline.data.fer import LABELS
from pipeline.files import write_csv

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

TESTS = {
    "test.accuracy": "accuracy",
    "test.accuracy_flip": "with flip",
    "test_clean.accuracy": "without twins",
    "test.votes.accuracy": "FER+ majority",
    "test.severity.affective.all": "severity, affective",
    "test.severity.affective.mistakes": "of mistakes",
    "test.severity.human.all": "severity, human",
    "test.severity.human.mistakes": "of mistakes",
}
"""The metrics whose difference from the baseline is tested, with their headings."""


SHARES = ("neutral", "disgust")
"""Classes whose shares of the decisions the prediction's table shows: the one farthest from all others in word2vec,
and the rarest."""


def markdown(rows: Sequence[Row], dataset: str, images: int, baseline: str) -> str:
    """The table for readers, with what it is about and how far it carries."""
    counts = sorted({len(row["seeds"]) for row in rows})
    seeds = (
        "1 seed"
        if counts == [1]
        else f"{counts[0] if len(counts) == 1 else f'{counts[0]} to {counts[-1]}'} seeds"
    )
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
            "A row with one seed has no deviation, and its test compares two networks, not their recipes. "
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
        "over images and the seeds that both have. p is corrected for the number of variants (Holm), intervals are "
        "not: one may exclude 0 where p is above .05. Before the "
        "correction no p can be below 2 divided by the number of resamples."
    )


def difference_table(rows: Sequence[Row]) -> str:
    """Every row against the baseline in all that is tested: difference, 95 % interval and corrected p."""
    shown = {
        key: heading
        for key, heading in TESTS.items()
        if any("difference" in row[key] for row in rows if key in row)
    }
    if not shown:
        return "Nothing has been compared yet."
    lines = [f"| model | {' | '.join(f'{heading} | p' for heading in shown.values())} |"]
    lines.append("|---|" + "--:|" * (2 * len(shown)))
    for row in rows[1:]:
        cells = [
            cell
            for key in shown
            for cell in against_baseline(row[key], points if "accuracy" in key else plain)
        ]
        lines.append(f"| {' | '.join([row_name(row, rows), *cells])} |")
    return "\n".join(lines)


def contrast_table(contrasts: Sequence[Contrast]) -> str:
    """What the words add, whether their meaning matters and what the loss itself does."""
    if not contrasts:
        return "Too little has been run yet."
    lines = ["| model | against | seeds | difference [95 %] | p (Holm) |", "|---|---|--:|--:|--:|"]
    for model, against, row in contrasts:
        cells = [model, against, str(len(row["paired_seeds"])), *against_baseline(row["test.accuracy"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def replication_table(pairs: Sequence[tuple[Row, Row]], rows: Sequence[Row]) -> str:
    """The difference of each row from the baseline, here and where it was trained a second time."""
    if not pairs:
        return "Nothing has been trained twice yet."
    lines = [
        "| model | seeds | difference [95 %] | p (Holm) | seeds, again | difference, again [95 %] | p (Holm) |"
    ]
    lines.append("|---|" + "--:|" * 6)
    for pair in pairs:
        cells = [row_name(pair[0], rows)]
        for row in pair:
            cells += [str(len(row["paired_seeds"])), *against_baseline(row["test.accuracy"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(key: str, value: dict[str, float | None]) -> str:
    """Mean and deviation as the table shows them: accuracies and F1 in per cent, the rest as it is."""
    mean, std = value["mean"], value["std"]
    assert mean is not None
    percent = "severity" not in key and "nll" not in key and "ece" not in key
    text = f"{100 * mean:.2f}" if percent else f"{mean:.3f}"
    if std is not None:
        text += f" ± {100 * std:.2f}" if percent else f" ± {std:.3f}"
    return text


def points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def plain(value: float) -> str:
    return f"{value:+.3f}"


def against_baseline(found: dict[str, Any], written: Callable[[float], str] = points) -> tuple[str, str]:
    """Difference with its interval, and the corrected p; both empty where nothing was compared."""
    if "difference" not in found:
        return "", ""
    difference, low, high = (written(found[name]) for name in ("difference", "low", "high"))
    return f"{difference} [{low}, {high}]", p_value(found["p_holm"])


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def prediction_table(rows: Sequence[Prediction], posterior: str, between_seeds: Interval | None) -> str:
    """The test of the prediction: agreement, spread and accuracy of every cosine model."""
    if not rows:
        return "No model with the cosine loss has been run yet."
    lines = []
    if between_seeds is not None:
        alike = per_cent(between_seeds)
        lines += [f"Two seeds of `{posterior}` decide alike on {alike} % of PrivateTest.", ""]
    heads = (
        "model", "seeds", "as arg-max p", "as arg-max S p", "difference [95 %]", "p (Holm)", "where these differ",
        "with S p", "with p", "spread of cosines", "accuracy", *(f"{label}: found, by S p, by p" for label in SHARES),
    )  # fmt: skip
    lines += [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    p_values = corrected(rows)
    for row in rows:
        cells = [row.model, str(row.seeds), per_cent(row.as_posterior), per_cent(row.as_costs)]
        mean, low, high, _ = row.difference
        cells += [f"{points(mean)} [{points(low)}, {points(high)}]"]
        cells += [p_value(p_values[row.model]) if row.model in p_values else ""]
        cells += [str(count) for count in (row.differing, row.with_costs, row.with_posterior)]
        cells += [f"{row.spread:.3f}", per_cent(row.accuracy)]
        for label in map(LABELS.index, SHARES):
            parts = (row.found[label], row.predicted[label], row.plain[label])
            cells.append(", ".join(f"{100 * share:.1f}" for share in parts))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def per_cent(value: Interval) -> str:
    """Mean and standard deviation."""
    return f"{100 * value.mean:.1f}" + ("" if value.std is None else f" ± {100 * value.std:.1f}")


def correlation_table(rows: Sequence[tuple[str, float, float]]) -> str:
    """Targets, their correlation with the baseline's confusion, and its p value."""
    if not rows:
        return "Too little has been run yet."
    lines = ["| targets | Spearman's rho | p (Mantel, Holm) |", "|---|--:|--:|"]
    return "\n".join([*lines, *(f"| {name} | {rho:+.2f} | {p_value(p)} |" for name, rho, p in rows)])


def write_csv_table(path: Path, rows: Sequence[Row]) -> None:
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
