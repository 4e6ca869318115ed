"""Sentences of the study that hold its numbers; `pipeline.study.report` puts them into the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from pipeline.comparison import findings
from pipeline.comparison.findings import ENOUGH, Contrast, Models, Prediction, row_name
from pipeline.comparison.paired import Row
from pipeline.comparison.records import RunRecord
from pipeline.comparison.statistics import ALPHA, Interval
from pipeline.comparison.tables import p_value, points
from pipeline.data.fer import LABELS
from pipeline.study.lr_search import gaps
from pipeline.study.trial import Trial


def judged(rows: Sequence[Row], models: Models) -> list[Row]:
    """The losses on label words that have seeds enough."""
    return [row for row in rows if findings.is_word_loss(row, models) and len(row["paired_seeds"]) >= ENOUGH]


def answer(rows: Sequence[Row], models: Models) -> str:
    """The study's answer: what the best loss on label words does, what all do, whether mistakes get milder."""
    words = judged(rows, models)
    if not words:
        return f"**No loss on label words has been run with {ENOUGH} seeds yet: there is no answer.**"
    best = findings.best_of(words)
    better, worse = (sum(findings.verdict(row) == sign for row in words) for sign in (1, -1))
    outcome = {
        1: "A loss on label words helps",
        0: "The preferred loss on label words is not shown to help" if better
        else "No loss on label words is shown to help",
        -1: "Losses on label words do harm",
    }[findings.verdict(best)]  # fmt: skip
    name, against, count = row_name(best, rows), described(rows[0], models), len(words)
    all_words = sum(findings.is_word_loss(row, models) for row in rows)
    judged_only = f" with {ENOUGH} seeds or more" if all_words > count else ""
    which = (
        f"the best of the {count}{judged_only}, `{name}` (chosen on PublicTest),"
        if count > 1
        else f"the only one{judged_only}, `{name}`,"
    )
    lines = [f"**{outcome}: {which} differs from {against} by {told(best)}.**"]
    if count > 1:
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


def losses_on_words(rows: Sequence[Row], models: Models) -> str:
    """Which rows the answer is about."""
    names = [f"`{row['model']}`" for row in judged(rows, models)]
    return (
        f"The losses on label words are {listed(names)}."
        if names
        else "No loss on label words has been run yet."
    )


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
        f"{100 * fmean(map(abs, gaps.values())):.2f} points from the first on average, furthest for `{most}` "
        f"({points(gaps[most])}). {sum(a != 0 for a, _ in verdicts)} differ from the baseline by the first test and "
        f"{sum(b != 0 for _, b in verdicts)} by the second, each corrected for the rows of its own table, "
        f"{opposite or 'none'} in opposite directions."
    )


def by_class(rows: Sequence[Row], models: Models) -> str:
    """Which classes the idea as it was meant gains or loses: points of accuracy that add up to the difference."""
    idea = next((row for row in judged(rows, models) if row["model"] == findings.IDEA), None)
    if idea is None:
        return "Nothing has been compared yet."
    parts = findings.parts_by_class(models[findings.IDEA], models[rows[0]["model"]], idea["paired_seeds"])
    ranked = sorted(parts, key=lambda label: parts[label])
    told = ", ".join(f"*{label}* {points(parts[label])}" for label in ranked)
    return (
        f"The {points(idea['test.accuracy']['difference'])} points of `{findings.IDEA}` against "
        f"`{rows[0]['model']}` by the images' class: {told}."
    )


def predicted(rows: Sequence[Prediction], alike: Interval | None) -> str:
    """Which part of the prediction holds: more agreement with arg-max S p than with arg-max p, where the two differ;
    and as much as two seeds have (`alike`)."""
    corrected = findings.corrected(rows)
    if not corrected:
        return "There are too few runs to judge the prediction."
    tested = [row for row in rows if row.model in corrected]
    signs = [int(np.sign(row.difference.mean)) * (corrected[row.model] < ALPHA) for row in tested]
    more, less = signs.count(1), signs.count(-1)
    holds = [f"`{row.model}`" for row, sign in zip(tested, signs, strict=True) if sign > 0]
    outcome = f"this is confirmed for {listed(holds)}" if more else "this is confirmed for none"
    lines = [
        f"Of the {len(tested)} cosine models with unequal cosines and {ENOUGH} seeds or more, {more} decide more often "
        f"as arg-max S p than as arg-max p, {less} less often (paired bootstrap, Holm): {outcome}."
    ]
    if 0 < more < len(tested):
        others = [row for row, sign in zip(tested, signs, strict=True) if sign <= 0]
        with_costs, with_posterior = (
            sum(row.with_costs for row in others), sum(row.with_posterior for row in others)
        )  # fmt: skip
        lines.append(
            f"Where the two rules differ, the other {len(others)} decide as arg-max S p {with_costs} times and as "
            f"arg-max p {with_posterior} times."
        )
    if alike is not None:
        enough = sum(row.as_costs.mean >= alike.mean for row in tested)
        lines.append(
            f"{enough or 'None'} of the {len(tested)} decide{'s' * (enough < 2)} as arg-max S p as often as two seeds "
            "of cross-entropy decide alike."
        )
    return " ".join(lines)


def as_accurate(contrasts: Sequence[Contrast]) -> str:
    """Whether the idea as it was meant is as accurate as what it should amount to."""
    found = next((row for model, against, row in contrasts if (model, against) == findings.AMOUNTS_TO), None)
    if found is None:
        return ""
    (model, against), accuracy = findings.AMOUNTS_TO, found["test.accuracy"]
    outcome = {1: "it is more accurate", 0: "no difference is shown", -1: "it is less accurate"}[
        findings.verdict(found)
    ]
    return (
        f"And `{model}` is {points(accuracy['difference'])} points from `{against}` (corrected p "
        f"{p_value(accuracy['p_holm'])}): {outcome}."
    )


def words_alone(
    rows: Sequence[Row],
    contrasts: Sequence[Contrast],
    predictions: Sequence[Prediction],
    label: str = "neutral",
) -> str:
    """How much of what the idea as it was meant loses is there without the similarities of the words, and whether the
    class that is far from all others is decided for less often, as S p says."""
    own = {row["model"]: row for row in rows[::-1]}  # the first row of a model is its own decoder's
    pair = next((pair for pair in contrasts if pair[:2] == (findings.IDEA, findings.TWIN)), None)
    found = next((row for row in predictions if row.model == findings.IDEA), None)
    if pair is None or found is None:
        return "Too little has been run yet."
    whole, bare = (
        points(own[name]["test.accuracy"]["difference"]) for name in (findings.IDEA, findings.TWIN)
    )
    added, k = pair.row["test.accuracy"], LABELS.index(label)
    shown = "a" if findings.verdict(pair.row) else "no"
    shares = [f"{100 * share[k]:.1f} %" for share in (found.found, found.predicted, found.plain)]
    return (
        f"`{findings.IDEA}` is {whole} points from `{rows[0]['model']}`, `{findings.TWIN}`, which has the same loss "
        f"and as many dimensions but no similarities, {bare}. The one is {points(added['difference'])} points from the "
        f"other (95 % interval {points(added['low'])} to {points(added['high'])}, corrected p "
        f"{p_value(added['p_holm'])}): {shown} difference is shown. `{findings.IDEA}` decides for *{label}*, the word "
        f"far from all others, in {shares[0]} of images; arg-max S p does in {shares[1]}, arg-max p in {shares[2]}."
    )


def unsteady(rows: Sequence[Row], models: Models, limit: float = 0.01) -> str:
    """Losses on label words whose seeds differ by more than luck elsewhere does, with their seeds' accuracies."""
    told = []
    for row in judged(rows, models):
        if row["test.accuracy"]["std"] > limit:
            reached = sorted(run.metrics["test"]["accuracy"] for run in models[row["model"]].values())
            accuracies = ", ".join(f"{100 * accuracy:.1f}" for accuracy in reached)
            told.append(
                f"The seeds of `{row['model']}` reach {accuracies} %: its mean, its interval and what would be "
                "detectable hang on the lowest."
            )
    return " ".join(told) or "No loss on label words has seeds more than a point apart (standard deviation)."


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


def listed(names: Sequence[str]) -> str:
    """a, b and c"""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


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


def twins(runs: Mapping[int, RunRecord]) -> str:
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
    machine = best["machine"]
    threads = f" with {machine['threads']} threads" if machine["device"] == "cpu" else ""
    clean = best.get("test_accuracy_clean")  # older records have none
    without = f" ({100 * clean:.1f} % without twins)" if clean is not None else ""
    return (
        f"With {times:.0f} times the arithmetic, {best['training_seconds'] / 60:.0f} minutes on "
        f"{machine['processor']}{threads}, the baseline reaches "
        f"**{100 * best['test_accuracy']:.1f} %{without}, {100 * best['test_accuracy_flip']:.1f} % with flip**."
    )


def detectable(rows: Sequence[Row], models: Models) -> str:
    """What the study could have missed."""
    limits = {row["model"]: row["test.accuracy"]["detectable"] for row in judged(rows, models)}
    if not limits:
        return "Nothing has been compared yet."
    *_, most = sorted(limits, key=lambda model: limits[model])
    low, high = f"{100 * min(limits.values()):.1f}", f"{100 * limits[most]:.1f}"
    return (
        f"For the losses on label words a true difference of {low if low == high else f'{low} to {high}'} points, "
        f"depending on the row (the most for `{most}`), would have been found in about 80 % of cases before the "
        "correction for many rows: smaller ones may exist."
    )
