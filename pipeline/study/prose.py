"""Generate the sentences of the study that hold its numbers: answer, bound, near duplicates, full recipe.

`fer report` inserts them into the pages. Every other paragraph is written by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from pipeline.comparison import findings
from pipeline.comparison.findings import ENOUGH, Models, row_name
from pipeline.comparison.records import RunRecord
from pipeline.comparison.rows import ComparisonRow
from pipeline.comparison.tables import p_value, points
from pipeline.files import JsonDict


def judged(rows: Sequence[ComparisonRow], models: Models) -> list[ComparisonRow]:
    """Return the losses on label words that have at least `ENOUGH` seeds."""
    return [row for row in rows if findings.is_word_loss(row, models) and len(row.paired_seeds) >= ENOUGH]


def answer(rows: Sequence[ComparisonRow], models: Models) -> str:
    """Return the study's answer: the best loss on label words, all of them together, and the severity of mistakes."""
    words = judged(rows, models)
    if not words:
        return f"**No loss on label words has been run with {ENOUGH} seeds yet: there is no answer.**"
    best = findings.best_of(words)
    better, worse = (sum(row.test().verdict == sign for row in words) for sign in (1, -1))
    outcome = {
        1: "A loss on label words helps",
        0: "The preferred loss on label words is not shown to help" if better
        else "No loss on label words is shown to help",
        -1: "Losses on label words do harm",
    }[best.test().verdict]  # fmt: skip
    name, against, count = row_name(best, rows), baseline_in_words(rows[0], models), len(words)
    all_words = sum(findings.is_word_loss(row, models) for row in rows)
    judged_only = f" with {ENOUGH} seeds or more" if all_words > count else ""
    which = (
        f"the best of the {count}{judged_only}, `{name}` (chosen on PublicTest),"
        if count > 1
        else f"the only one{judged_only}, `{name}`,"
    )
    lines = [f"**{outcome}: {which} differs from {against} by {difference_in_words(best)}.**"]
    if count > 1:
        lines.append(
            f"Of the {count}, {better} are more accurate than it and {worse} are less accurate by that test."
        )
    severities = [severity(words, distance) for distance in ("human", "affective")]
    lines += [line for line in severities if line]
    if any(severities):
        seeds = max(len(row.paired_seeds) for row in words)
        lines.append(
            f"Severity is tested over seeds alone, so with {seeds} of them only large differences can be confirmed."
        )
    return " ".join(lines)


def severity(rows: Sequence[ComparisonRow], distance: str) -> str:
    """Count the rows whose severity differs from the baseline's, over all images and over mistakes alone."""

    def verdicts(part: str) -> list[int]:
        key = f"test.severity.{distance}.{part}"
        return [row.test(key).verdict for row in rows if key in row and row[key].test]

    whole, mistakes = verdicts("all"), verdicts("mistakes")
    if not whole:
        return ""
    return (
        f"By the {distance} distance between emotions, severity over all images is significantly lower in "
        f"{whole.count(-1)} of {len(whole)} and higher in {whole.count(1)}; over mistakes alone it is lower in "
        f"{mistakes.count(-1)} and higher in {mistakes.count(1)}."
    )


def baseline_in_words(row: ComparisonRow, models: Models) -> str:
    """Return the baseline's name with its loss and options."""
    loss = findings.first(models[row.model])["settings"]["loss"]
    options = "".join(f", {name.replace('_', ' ')} {value:g}" for name, value in loss["options"].items())
    return f"`{row.model}` ({loss['name'].replace('_', '-')}{options})"


def difference_in_words(row: ComparisonRow) -> str:
    """Return a difference in accuracy with its interval, corrected p and number of seeds."""
    test, seeds = row.test(), len(row.paired_seeds)
    return (
        f"{points(test.difference)} points on PrivateTest (95 % interval {points(test.low)} to {points(test.high)}, "
        f"Holm-corrected p {p_value(test.p_holm)}, {seeds} seed{'s' * (seeds > 1)})"
    )


def detectable(rows: Sequence[ComparisonRow], models: Models) -> str:
    """Return the bound of the answer: the size of difference that the study could have missed."""
    limits = {row.model: row.test().detectable or 0.0 for row in judged(rows, models)}
    if not limits:
        return "Nothing has been compared yet."
    *_, most = sorted(limits, key=lambda model: limits[model])
    low, high = f"{100 * min(limits.values()):.1f}", f"{100 * limits[most]:.1f}"
    return (
        f"For the losses on label words, a true difference of {low if low == high else f'{low} to {high}'} points, "
        f"depending on the row (largest for `{most}`), would have been found in about 80 % of cases before the "
        "correction for multiple comparisons; smaller differences may exist."
    )


def near_duplicates(runs: Mapping[int, RunRecord]) -> str:
    """Return how many images `without near duplicates` leaves out."""
    metrics = findings.first(runs)
    images, clean = metrics["test"]["images"], metrics["test_clean"]["images"]
    return (
        f'"Without near duplicates" leaves out the {images - clean:,} of {images:,} test images that have an exact or '
        "near duplicate in Training."
    )


def full(timed: Sequence[JsonDict]) -> str:
    """Return what the full recipe costs and reaches, compared with the fast one."""
    by_recipe = {name: [run for run in timed if run["recipe"] == name] for name in ("fast", "full")}
    if not all(by_recipe.values()):
        return "The two recipes have not been timed yet."
    best = max(by_recipe["full"], key=lambda run: run["val_accuracy"])
    times = best["flop"] / fmean(run["flop"] for run in by_recipe["fast"])
    machine = best["machine"]
    threads = f" with {machine['threads']} threads" if machine["device"] == "cpu" else ""
    clean = best.get("test_accuracy_clean")  # older records have none
    without = f" ({100 * clean:.1f} % without near duplicates)" if clean is not None else ""
    return (
        f"With {times:.0f} times the compute ({best['training_seconds'] / 60:.0f} minutes on "
        f"{machine['processor']}{threads}), the baseline reaches "
        f"**{100 * best['test_accuracy']:.1f} %{without}, {100 * best['test_accuracy_flip']:.1f} % with flip**."
    )
