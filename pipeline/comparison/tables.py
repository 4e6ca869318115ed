"""Write the tables of a study: those that `dvc repro` prints and those that `fer report` inserts into the pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from pipeline.comparison import findings
from pipeline.comparison.costs import Cost
from pipeline.comparison.families import QUESTIONS
from pipeline.comparison.findings import Contrast, Judged, Prediction, ScoreFit
from pipeline.comparison.protocols import Epochs, Readings
from pipeline.comparison.registry import AMBIGUITY, METRICS, Metric, in_points
from pipeline.comparison.rows import MARGIN, ComparisonRow, MetricSummary, PairedTest
from pipeline.comparison.statistics import Interval
from pipeline.data.fer import LABELS
from pipeline.files import write_csv

SHARES = ("neutral", "disgust")
"""Classes whose share of the decisions is shown in the prediction table: the one farthest from all others in
Word2Vec, and the rarest."""

AGAINST = ("difference [95 %]", "p (Holm)")
"""Headings of the two columns of `against_baseline`."""
BOUNDS = ("upper bound", "detectable")
"""Headings of the two columns of `bounds`."""


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Return a Markdown table whose first `text_columns` columns hold text and whose others hold numbers."""
    rule = ["---"] * text_columns + ["--:"] * (len(headings) - text_columns)
    lines = [f"| {' | '.join(headings)} |", f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def markdown(rows: Sequence[ComparisonRow], dataset: str, images: int, baseline: str) -> str:
    """Return the table for readers, with a title, its units and its limits."""
    title, *limits = introduction(rows, dataset, images)
    return "\n\n".join([f"# {title}", *limits, table(rows), footnote(baseline)]) + "\n"


def introduction(rows: Sequence[ComparisonRow], dataset: str, images: int) -> list[str]:
    """Return the title of a comparison, then its units and its limits, a paragraph each."""
    fewest, *_, most = sorted(len(row.seeds) for row in rows) * 2
    seeds = f"{most} seed{'s' * (most > 1)}" if fewest == most else f"{fewest} to {most} seeds"
    models = len({row.model for row in rows})
    parts = [
        f"{dataset}: {models} model{'s' * (models > 1)}, {seeds}",
        f"Measured on the {images:,} images of PrivateTest; PublicTest alone chose the epoch. "
        "Accuracies and F1 are in per cent; severity is the mean distance from label to decision over all images "
        "(0: all correct, 1: all as wrong as possible).",
    ]
    if dataset == "synthetic":
        parts.append("These are drawn faces: the table shows that the pipeline runs and says nothing about people.")
    if fewest == 1:
        best = max(row["test.accuracy"].mean for row in rows)
        standard_error = 100 * (best * (1 - best) / images) ** 0.5
        parts.append(
            "A row with one seed has no standard deviation, and its test compares two networks, not their recipes. "
            f"The best accuracy here has a binomial standard error of {standard_error:.1f} points."
        )
    return parts


def common_metrics(rows: Sequence[ComparisonRow]) -> list[Metric]:
    """Return the metrics of the table's columns: those that every row has."""
    return [metric for metric in METRICS if all(metric.name in row for row in rows)]


def table(rows: Sequence[ComparisonRow]) -> str:
    """Return a table of the metrics that every row has, with each row's difference from the baseline."""
    shown = common_metrics(rows)
    several = any(len(row.seeds) > 1 for row in rows)
    seeds = ["seeds"] if several else []
    return markdown_table(
        ["model", *seeds, *(metric.heading for metric in shown), *AGAINST],
        (
            [
                findings.row_name(row, rows),
                *([str(len(row.seeds))] if several else []),
                *(number(metric, row[metric.name]) for metric in shown),
                *against_baseline(row["test.accuracy"].test),
            ]
            for row in rows
        ),
    )


def footnote(baseline: str) -> str:
    """Return the note on differences, intervals and p values that belongs below `table`."""
    return (
        f"Difference: accuracy minus that of `{baseline}`, in points, over the images and the seeds that both have, "
        "with the 95 % interval of the crossed test. p is corrected for the rows of the same family (Holm); the "
        "intervals are not, so an interval may exclude 0 where p is above .05."
    )


def bounds_table(rows: Sequence[ComparisonRow]) -> str:
    """Return a table of accuracy's tests: what is ruled out, what would have been found, and the bootstrap's verdict.

    A legend of the families follows.
    """
    tested = [(row, test) for row in rows if (test := row["test.accuracy"].test)]
    if not tested:
        return "Nothing has been compared yet."
    limit = f"within ±{100 * MARGIN:g}: p (Holm)"
    found = markdown_table(
        ["model", "family", *AGAINST, *BOUNDS, limit, "bootstrap [95 %]", "p"],
        (
            [
                findings.row_name(row, rows),
                str(row.family),
                *against_baseline(test),
                *bounds(test),
                "" if test.p_equivalent is None else p_value(test.p_equivalent),
                *bootstrapped(test),
            ]
            for row, test in tested
        ),
        text_columns=2,
    )
    families = {row.family: test.tests for row, test in tested if row.family}
    legend = [f"- **{name}** ({size} here): {QUESTIONS[name]}" for name, size in families.items()]
    return "\n".join([found, "", *legend])


def judges_table(judged: Sequence[Judged], rows: Sequence[ComparisonRow]) -> str:
    """Return a table of four judges side by side, each with its difference, interval and corrected p."""
    if not judged:
        return "Plain cross-entropy has not been run, or is the baseline."
    return markdown_table(
        ["model", *(heading for judge in findings.JUDGES for heading in (judge, "p"))],
        (
            [findings.row_name(one.row, rows), *(cell for test in one.tests for cell in against_baseline(test))]
            for one in judged
        ),
    )


def recall_table(rows: Sequence[ComparisonRow], classes: Sequence[str]) -> str:
    """Return a table of each class's recall minus the baseline's, with its interval and corrected p."""
    tested = findings.recall_tests(rows, classes)
    if not tested:
        return "Nothing has been compared yet."
    return markdown_table(
        ["model", *(heading for label in classes for heading in (label, "p"))],
        (
            [findings.row_name(row, rows), *(cell for label in classes for cell in against_baseline(tests.get(label)))]
            for row, tests in tested
        ),
    )


def ambiguity_table(rows: Sequence[ComparisonRow]) -> str:
    """Return a table of what models make of ambiguous faces, without votes an empty text.

    Means with half the width of their 95 % intervals over seeds. Decoders change none of it, so their rows are left
    out.
    """
    own = [row for row in rows if row.family != "decoders"]
    shown = [metric for metric in AMBIGUITY if all(metric.name in row for row in own)]
    if not shown:
        return ""
    return markdown_table(
        ["model", *(metric.heading for metric in shown)],
        ([findings.row_name(row, rows), *(over_seeds(metric, row[metric.name]) for metric in shown)] for row in own),
    )


def difference_table(rows: Sequence[ComparisonRow]) -> str:
    """Return a table of every tested difference from the baseline, with its 95 % interval and corrected p."""
    shown = [metric for metric in METRICS if any(metric.name in row and row[metric.name].test for row in rows)]
    if not shown:
        return "Nothing has been compared yet."
    return markdown_table(
        ["model", *(heading for metric in shown for heading in (metric.heading, "p"))],
        (
            [
                findings.row_name(row, rows),
                *(cell for metric in shown for cell in against_baseline(row[metric.name].test, metric.percent)),
            ]
            for row in rows[1:]
        ),
    )


def contrast_table(
    contrasts: Sequence[Contrast], metrics: Mapping[str, str] = MappingProxyType({"test.accuracy": "accuracy"})
) -> str:
    """Return a table of pairs of models and their difference in each metric (its name: its heading)."""
    if not contrasts:
        return "Too little has been run yet."
    headings = (
        cell
        for metric, heading in metrics.items()
        for cell in (f"{heading}: difference{', points' * in_points(metric)} [95 %]", AGAINST[1], *BOUNDS)
    )
    return markdown_table(
        ["model", "against", "seeds", *headings],
        (
            [
                str(model),
                str(against),
                str(len(row.paired_seeds)),
                *(
                    cell
                    for metric in metrics
                    for cell in (
                        *against_baseline(row[metric].test, in_points(metric)),
                        *bounds(row[metric].test, in_points(metric)),
                    )
                ),
            ]
            for model, against, row in contrasts
        ),
        text_columns=2,
    )


def replication_table(pairs: Sequence[tuple[ComparisonRow, ComparisonRow]], rows: Sequence[ComparisonRow]) -> str:
    """Return a table of each row's difference from the baseline, in the study and in its repetition elsewhere."""
    if not pairs:
        return "Nothing has been repeated on other hardware yet."
    return markdown_table(
        ["model", "seeds", *AGAINST, "seeds, repeated", "difference, repeated [95 %]", "p (Holm)"],
        (
            [findings.row_name(row, rows), *seeds_and_difference(row), *seeds_and_difference(again)]
            for row, again in pairs
        ),
    )


def protocol_table(found: Mapping[str, Readings], rows: Sequence[ComparisonRow]) -> str:
    """Return a table of what the planned test finds next to what the usual protocols would have reported."""
    tested = {row.model: row.test() for row in rows if row.model in found and row.family != "decoders"}
    return markdown_table(
        ["model", f"planned: {AGAINST[0]}", "mean", "one seed", "best epoch", "best seed"],
        ([model, against_baseline(tested[model])[0], *(points(value) for value in found[model])] for model in tested),
    )


def cost_table(found: Mapping[str, Cost]) -> str:
    """Return a table of the operations of each training, relative to the baseline's, and of the settings added."""
    return markdown_table(
        ["model", "operations", "settings added"],
        (
            [model, "" if cost.operations is None else f"{cost.operations:.2f}", str(cost.settings)]
            for model, cost in found.items()
        ),
    )


def epoch_table(found: Mapping[str, Epochs]) -> str:
    """Return a table of the accuracy on PublicTest after the epoch that was chosen there and after the last one."""
    return markdown_table(
        ["model", "chosen epoch", "last epoch", "lost"],
        (
            [model, mean_std(chosen, 2, 100), mean_std(last, 2, 100), f"{100 * (chosen.mean - last.mean):.2f}"]
            for model, (chosen, last) in found.items()
        ),
    )


def prediction_table(rows: Sequence[Prediction], posterior: str, between_seeds: Interval | None) -> str:
    """Return a table that tests the prediction: agreement, spread and accuracy of every cosine model."""
    if not rows:
        return "No model with the cosine loss has been run yet."
    headings = (
        "model", "seeds", "as arg-max p", "as arg-max S p", *AGAINST, "where they differ",
        "with S p", "with p", "spread of cosines", "accuracy",
        *(f"{label}: observed, by S p, by p" for label in SHARES),
    )  # fmt: skip
    p_values = findings.corrected_p(rows)
    lines = []
    for row in rows:
        difference = against_baseline(PairedTest(*row.difference))[0]
        tested = p_value(p_values[row.model]) if row.model in p_values else ""
        counts = [str(count) for count in (row.differing, row.with_costs, row.with_posterior)]
        classes = [
            ", ".join(f"{100 * share[k]:.1f}" for share in (row.found, row.predicted, row.plain))
            for k in map(LABELS.index, SHARES)
        ]
        lines.append(
            [
                row.model, str(row.seeds), per_cent(row.as_posterior), per_cent(row.as_costs), difference, tested,
                *counts, f"{row.spread:.3f}", per_cent(row.accuracy), *classes,
            ]
        )  # fmt: skip
    found = markdown_table(headings, lines)
    if between_seeds is None:
        return found
    return (
        f"Two seeds of `{posterior}` make the same decision on {per_cent(between_seeds)} % of PrivateTest.\n\n{found}"
    )


def score_table(rows: Sequence[ScoreFit]) -> str:
    """Return a table of how well the prediction fits each cosine model's scores, with and without its similarities."""
    if not rows:
        return "No model with the cosine loss has been run yet."
    return markdown_table(
        ["model", "seeds", "R² with S", "R² with S = I", "R² with S = I, scaled", "p (relabelled, Holm)"],
        (
            [
                row.model,
                str(row.seeds),
                *(mean_std(value, 3) for value in (row.similarities, row.alone, row.scaled)),
                "" if row.p_holm is None else p_value(row.p_holm),
            ]
            for row in rows
        ),
    )


def correlation_table(rows: Sequence[tuple[str, float, float]]) -> str:
    """Return a table of targets, the correlation of their cosines with the baseline's confusion, and p."""
    if not rows:
        return "Too little has been run yet."
    return markdown_table(
        ["targets", "Spearman's rho", "p (Mantel, Holm)"], ([name, f"{rho:+.2f}", p_value(p)] for name, rho, p in rows)
    )


def write_csv_table(path: Path, rows: Sequence[ComparisonRow]) -> None:
    """Write one line per model and metric, for spreadsheets and plotting libraries."""
    fields = ("mean", "std", "half_width", "difference", "low", "high", "p", "p_holm", "upper", "detectable")
    write_csv(
        path,
        ["model", "decoder", "family", "seeds", "metric", *fields],
        (
            [row.model, row.decoder, row.family, len(row.seeds), name, *(values.get(field) for field in fields)]
            for row in rows
            for name, summary in row.metrics.items()
            for values in [summary.to_dict()]
        ),
    )


# --- table entries


def number(metric: Metric, value: MetricSummary) -> str:
    """Format mean and standard deviation: fractions in per cent, other values unchanged."""
    return mean_std(value, 2, 100) if metric.percent else mean_std(value, 3)


def over_seeds(metric: Metric, value: MetricSummary) -> str:
    """Format mean and half the width of its 95 % interval over seeds."""
    return number(metric, replace(value, std=value.half_width))


def points(fraction: float) -> str:
    """Format a difference of two fractions in percentage points, with its sign."""
    return f"{100 * fraction:+.2f}"


def against_baseline(test: PairedTest | None, percent: bool = True) -> tuple[str, str]:
    """Format a difference with its interval, and its corrected p; both are empty without a test."""
    if test is None:
        return "", ""
    difference, low, high = (
        points(value) if percent else f"{value:+.3f}" for value in (test.difference, test.low, test.high)
    )
    return f"{difference} [{low}, {high}]", p_value(test.p_holm)


def bounds(test: PairedTest | None, percent: bool = True) -> tuple[str, str]:
    """Format the bound that holds for a whole family and what its test could have found."""
    if test is None or test.upper is None or test.detectable is None:
        return "", ""
    if not percent:
        return f"{test.upper:+.3f}", f"{test.detectable:.3f}"
    return points(test.upper), f"{100 * test.detectable:.2f}"


def bootstrapped(test: PairedTest) -> tuple[str, str]:
    """Format the interval of the bootstrap and its p, which is not corrected; both are empty without one."""
    if test.bootstrap is None:
        return "", ""
    low, high, p = test.bootstrap
    return f"[{points(low)}, {points(high)}]", p_value(p)


def seeds_and_difference(row: ComparisonRow) -> tuple[str, str, str]:
    """Format the number of paired seeds, the difference in accuracy and its corrected p."""
    return str(len(row.paired_seeds)), *against_baseline(row.test())


def p_value(p: float) -> str:
    """Format a p value with three decimals."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def per_cent(value: Interval) -> str:
    """Format mean and standard deviation in per cent."""
    return mean_std(value, 1, 100)


def mean_std(value: Interval | MetricSummary, digits: int, factor: float = 1) -> str:
    """Format mean and standard deviation, the latter if there is one, times a factor."""
    text = f"{factor * value.mean:.{digits}f}"
    return text if value.std is None else f"{text} ± {factor * value.std:.{digits}f}"
