"""Generate the sentences of the study that hold its numbers: answer and bound, judges, near duplicates, full recipe.

`fer report` inserts them into the pages. Every other paragraph is written by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from pipeline.comparison import findings
from pipeline.comparison.families import WORDS
from pipeline.comparison.findings import MIN_SEEDS, Judged, Models
from pipeline.comparison.records import RunRecord
from pipeline.comparison.rows import MARGIN, ComparisonRow
from pipeline.comparison.tables import p_value, points
from pipeline.files import JsonDict


def judged(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Return the losses on label words that have at least `MIN_SEEDS` seeds."""
    return [row for row in rows if row.family == WORDS and len(row.paired_seeds) >= MIN_SEEDS]


class Answer(NamedTuple):
    """What the judged losses on label words come to.

    best: the row that PublicTest prefers. better, worse: how many of the `total` rows the corrected test finds above
    and below the baseline. bounded: for how many a gain above `MARGIN` is ruled out, by bounds that hold for all.
    """

    best: ComparisonRow
    total: int
    better: int
    worse: int
    bounded: int


def conclusion(rows: Sequence[ComparisonRow]) -> Answer | None:
    """Return the answer of the study in numbers; None if no loss on label words has enough seeds."""
    words = judged(rows)
    if not words:
        return None
    better, worse = (sum(row.test().verdict == sign for row in words) for sign in (1, -1))
    bounded = sum((upper := row.test().upper) is not None and upper < MARGIN for row in words)
    return Answer(findings.best_of(words), len(words), better, worse, bounded)


def answer(rows: Sequence[ComparisonRow], models: Models) -> str:
    """Return the study's answer in two sentences: the best loss on label words, and bounds for it and for all."""
    result = conclusion(rows)
    if result is None:
        return f"**No loss on label words has been run with {MIN_SEEDS} seeds yet: there is no answer.**"
    outcome = {
        1: "A loss on label words helps",
        0: "The preferred loss on label words is not shown to help" if result.better
        else "No loss on label words is shown to help",
        -1: "Losses on label words do harm",
    }[result.best.test().verdict]  # fmt: skip
    all_words = sum(row.family == WORDS for row in rows)
    judged_only = f" with {MIN_SEEDS} seeds or more" if all_words > result.total else ""
    name = findings.row_name(result.best, rows)
    high = result.best.test().high
    limit = f"a gain of more than {100 * high:.2f} points" if high > 0 else "a gain"
    if result.total > 1:
        which = f"the best of the {result.total}{judged_only} on PublicTest, `{name}`,"
        bound = (
            f"Its own interval rules out {limit}; bounds that hold for all {result.total} at once rule out a gain of "
            f"more than {100 * MARGIN:g} point for {result.bounded or 'none'} of them, and the corrected test finds "
            f"{result.worse or 'none'} less accurate than the baseline and {result.better or 'none'} more accurate."
        )
    else:
        which = f"the only one{judged_only}, `{name}`,"
        bound = f"That rules out {limit}."
    return (
        f"**{outcome}: {which} differs from {baseline_in_words(rows[0], models)} by "
        f"{difference_in_words(result.best)}.** {bound}"
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


def judges(judged: Sequence[Judged]) -> str:
    """Return how many losses on label words each of the four judges finds less and more accurate; "" without any."""
    words = [one for one in judged if one.row.family == WORDS and len(one.row.paired_seeds) >= MIN_SEEDS]
    if not words:
        return ""
    counts = []
    for place, phrase in enumerate(findings.JUDGES.values()):
        verdicts = [test.verdict for one in words if (test := one.tests[place]) is not None]
        counts.append(f"{verdicts.count(-1)} less and {verdicts.count(1)} more accurate {phrase}")
    return f"Of {len(words)} losses on label words, the corrected tests find {', '.join(counts)}."


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
        f"The recipe `full`, with {times:.0f} times the compute of `fast` ({best['training_seconds'] / 60:.0f} minutes "
        f"on {machine['processor']}{threads}), brings the baseline to "
        f"**{100 * best['test_accuracy']:.1f} %{without}, {100 * best['test_accuracy_flip']:.1f} % with flip**."
    )
