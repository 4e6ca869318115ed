"""Sentences of the study that hold its numbers; `stages.report` puts them into the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from pipeline.comparison import Row
from pipeline.data.fer import LABELS
from pipeline.statistics import LEVEL, holm
from stages import findings
from stages.findings import Contrast, Models, Prediction, row_name
from stages.runs import Run
from stages.search import gaps
from stages.tables import p_value, points
from stages.trial import Trial

ENOUGH = 3
"""Seeds from which a row is judged: with fewer the test is about networks, not recipes (docs/benchmarks.md)."""


def judged(rows: Sequence[Row], models: Models) -> list[Row]:
    """The losses on label words that have seeds enough."""
    return [row for row in rows if findings.is_word_loss(row, models) and len(row["paired_seeds"]) >= ENOUGH]


def answer(rows: Sequence[Row], models: Models) -> str:
    """The study's answer: what the best loss on label words does, what all do, whether mistakes get milder."""
    words = judged(rows, models)
    if not words:
        return f"**No loss on label words has been run with {ENOUGH} seeds yet: there is no answer.**"
    best = findings.best_of(words)
    outcome = {1: "it helps", 0: "no difference is shown", -1: "it does harm"}[findings.verdict(best)]
    name, against, count = row_name(best, rows), described(rows[0], models), len(words)
    which = (
        f"The best of the {count} losses on label words that have {ENOUGH} seeds or more, `{name}` (chosen on "
        "PublicTest),"
        if count > 1
        else f"The one loss on label words that has {ENOUGH} seeds or more, `{name}`,"
    )
    lines = [f"**{which} differs from {against} by {told(best)}: {outcome}.**"]
    if count > 1:
        better, worse = (sum(findings.verdict(row) == sign for row in words) for sign in (1, -1))
        lines.append(
            f"Of the {count}, {better} are more accurate and {worse} less accurate than it by that test."
        )
    severities = [severity(words, distance) for distance in ("human", "affective")]
    lines += [line for line in severities if line]
    if any(severities):
        seeds = max(len(row["paired_seeds"]) for row in words)
        lines.append(
            f"Severity is tested over seeds alone, so with {seeds} of them only large differences are confirmed."
        )
    return " ".join(lines)


def severity(rows: Sequence[Row], distance: str) -> str:
    """How many rows decide less and more severely than the baseline, and whether their mistakes alone are milder."""

    def verdicts(part: str) -> list[int]:
        key = f"test.severity.{distance}.{part}"
        return [findings.verdict(row, key) for row in rows if "p_holm" in row.get(key, ())]

    whole, mistakes = verdicts("all"), verdicts("mistakes")
    if not whole:
        return ""
    return (
        f"Under the {distance} distance between emotions {whole.count(-1)} of {len(whole)} decide less severely on the "
        f"whole and {whole.count(1)} more severely; the mistakes by themselves are milder in {mistakes.count(-1)} and "
        f"worse in {mistakes.count(1)}."
    )


def meaning(contrasts: Sequence[Contrast]) -> str:
    """What the pairs of models say, one sentence each."""
    words = {1: "is more accurate than", 0: "does not differ verifiably from", -1: "is less accurate than"}
    return " ".join(
        f"`{model}` {words[findings.verdict(row)]} `{against}`."
        for model, against, row in contrasts
        if len(row["paired_seeds"]) >= ENOUGH
    )


def replicated(pairs: Sequence[tuple[Row, Row]], rows: Sequence[Row], models: Models, others: Models) -> str:
    """Whether a second training on another machine gives the same differences from the baseline."""
    if not pairs:
        return "Nothing has been trained twice yet."
    pairs = [pair for pair in pairs if all(len(row["paired_seeds"]) >= ENOUGH for row in pair)]
    if not pairs:
        return f"No row has {ENOUGH} seeds on both machines yet."
    here, there = (findings.first(next(iter(some.values())))["machine"] for some in (models, others))
    gaps = {
        row_name(row, rows): again["test.accuracy"]["difference"] - row["test.accuracy"]["difference"]
        for row, again in pairs
    }
    most = max(gaps, key=lambda name: abs(gaps[name]))
    verdicts = [(findings.verdict(row), findings.verdict(again)) for row, again in pairs]
    opposite = sum(a * b < 0 for a, b in verdicts)
    return (
        f"{len(pairs)} of the rows have {ENOUGH} seeds or more both on {here['processor']} (PyTorch {here['torch']}) "
        f"and on {there['processor']} (PyTorch {there['torch']}). The second difference from the baseline is "
        f"{100 * fmean(map(abs, gaps.values())):.2f} points from the first on average and {points(gaps[most])} at "
        f"most (`{most}`). "
        f"{sum(a != 0 for a, _ in verdicts)} differ from the baseline by the first test and "
        f"{sum(b != 0 for _, b in verdicts)} by the second, {opposite or 'none'} in opposite directions."
    )


def by_class(rows: Sequence[Row], models: Models) -> str:
    """Which classes the difference of the answer's row comes from: points of accuracy that add up to it."""
    words = judged(rows, models)
    if not words:
        return "Nothing has been compared yet."
    best = findings.best_of(words)
    parts = findings.parts_by_class(models[best["model"]], models[rows[0]["model"]], best["paired_seeds"])
    ranked = sorted(parts, key=lambda label: parts[label])
    told = ", ".join(f"*{label}* {points(parts[label])}" for label in ranked)
    return (
        f"The {points(best['test.accuracy']['difference'])} points of `{row_name(best, rows)}` against "
        f"`{rows[0]['model']}` by the images' class: {told}."
    )


def predicted(rows: Sequence[Prediction]) -> str:
    """Whether the prediction holds: more agreement with arg-max S p than with arg-max p, where the two differ."""
    tested = [row for row in rows if row.differing and row.seeds >= ENOUGH]
    if not tested:
        return "There are too few runs to judge the prediction."
    corrected = holm([row.difference.p for row in tested])
    signs = [
        int(np.sign(row.difference.mean)) * (p < LEVEL) for row, p in zip(tested, corrected, strict=True)
    ]
    more, less = signs.count(1), signs.count(-1)
    outcome = (
        "the prediction holds for all" if more == len(tested)
        else f"the prediction holds for {more} of them" if more
        else "the prediction is not confirmed"
    )  # fmt: skip
    with_costs, with_posterior = (
        sum(row.with_costs for row in tested),
        sum(row.with_posterior for row in tested),
    )
    return (
        f"Of the {len(tested)} cosine models with unequal cosines and {ENOUGH} seeds or more, {more} decide more often "
        f"as arg-max S p than as arg-max p, {less} less often (paired bootstrap, Holm): {outcome}. Where the two rules "
        f"differ, they decide as arg-max S p {with_costs} times and as arg-max p {with_posterior} times."
    )


def rarest(rows: Sequence[Prediction], label: str = "disgust") -> str:
    """How many cosine models decide for the rarest class less often than either rule says."""
    if not rows:
        return "No model with the cosine loss has been run yet."
    k = LABELS.index(label)
    fewer = sum(row.found[k] < min(row.predicted[k], row.plain[k]) for row in rows)
    return (
        f"{fewer} of the {len(rows)} cosine models decide for *{label}*, the rarest class, less often than either "
        "rule says."
    )


def described(row: Row, models: Models) -> str:
    """The baseline in words."""
    loss = findings.first(models[row["model"]])["settings"]["loss"]
    options = "".join(f", {name.replace('_', ' ')} {value:g}" for name, value in loss["options"].items())
    return f"`{row['model']}` ({loss['name'].replace('_', '-')}{options})"


def told(row: Row) -> str:
    """A difference in accuracy with all that belongs to it."""
    accuracy, seeds = row["test.accuracy"], len(row["paired_seeds"])
    return (
        f"{points(accuracy['difference'])} points on PrivateTest (95 % interval {points(accuracy['low'])} to "
        f"{points(accuracy['high'])}, Holm-corrected p {p_value(accuracy['p_holm'])}, {seeds} "
        f"seed{'s' * (seeds > 1)})"
    )


def twins(runs: Mapping[int, Run]) -> str:
    """How many images `without twins` leaves out."""
    metrics = findings.first(runs)
    images, clean = metrics["test"]["images"], metrics["test_clean"]["images"]
    return (
        f'"Without twins" leaves out the {images - clean:,} of {images:,} test images that have an exact or near twin '
        "in Training."
    )


def originals(rows: Sequence[Row]) -> str:
    """What the two losses of the first README reach once they can train."""
    found = [row for row in rows if row["model"].startswith("original_")]
    if not found:
        return "They have not been run yet."
    reached = [f"`{row['model']}` reaches {100 * row['test.accuracy']['mean']:.1f} %" for row in found]
    return f"On PrivateTest {', '.join(reached)}; `{rows[0]['model']}` {100 * rows[0]['test.accuracy']['mean']:.1f} %."


def lengths(trials: Sequence[Trial], baseline: str, model: str = "w2v_cosine") -> str:
    """Whether a longer training changes how far the idea as it was meant is from the baseline."""
    found = gaps(trials, model, baseline)
    if len(found) < 2:
        return "The search has not trained both at several lengths yet."
    told = " and ".join(f"{points(gap)} points after {epochs} epochs" for epochs, gap in found.items())
    return (
        f"In the search for learning rates (PublicTest, one seed, each at its best rate) `{model}` differs from "
        f"`{baseline}` by {told}."
    )


def timed(runs: Sequence[Mapping[str, Any]]) -> str:
    """What each recipe reaches on PrivateTest and how long it takes, the mean of its runs."""
    lines = []
    for recipe in dict.fromkeys(run["recipe"] for run in runs):
        some = [run for run in runs if run["recipe"] == recipe]
        plain, flip = (
            100 * fmean(run[name] for run in some) for name in ("test_accuracy", "test_accuracy_flip")
        )
        minutes = fmean(run["training_seconds"] for run in some) / 60
        counted = f"{len(some)} seeds" if len(some) > 1 else "one seed"
        lines.append(
            f"`{recipe}` reaches {plain:.1f} %, with flip {flip:.1f} %, in {minutes:.1f} minutes ({counted})."
        )
    return " ".join(lines) or "The two recipes have not been timed yet."


def full(timed: Sequence[Mapping[str, Any]]) -> str:
    """What the full recipe adds to the fast one."""
    by_recipe = {name: [run for run in timed if run["recipe"] == name] for name in ("fast", "full")}
    if not all(by_recipe.values()):
        return "The two recipes have not been timed yet."
    best = max(by_recipe["full"], key=lambda run: run["val_accuracy"])
    times = best["flop"] / fmean(run["flop"] for run in by_recipe["fast"])
    same = all(run["machine"] == best["machine"] for run in by_recipe["fast"])
    return (
        f"With {times:.0f} times the arithmetic, {best['training_seconds'] / 60:.0f} minutes on "
        f"{'the same' if same else 'another'} machine, the baseline reaches "
        f"**{100 * best['test_accuracy']:.1f} %, {100 * best['test_accuracy_flip']:.1f} % with flip**."
    )


def detectable(rows: Sequence[Row], models: Models) -> str:
    """What the study could have missed."""
    limits = [row["test.accuracy"]["detectable"] for row in judged(rows, models)]
    if not limits:
        return "Nothing has been compared yet."
    low, high = f"{100 * min(limits):.1f}", f"{100 * max(limits):.1f}"
    return (
        f"For the losses on label words a true difference of {low if low == high else f'{low} to {high}'} points, "
        "depending on the row, would have been found in about 80 % of cases before the correction for "
        "many rows: smaller ones may exist."
    )
