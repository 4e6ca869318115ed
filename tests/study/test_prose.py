"""What the pages say of the numbers: never more than the tests confirm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.comparison import findings
from pipeline.comparison.findings import Contrast, Prediction
from pipeline.comparison.statistics import Difference, Interval
from pipeline.study.prose import (
    answer,
    as_accurate,
    by_class,
    detectable,
    full,
    lengths,
    losses_on_words,
    meaning,
    originals,
    predicted,
    rarest,
    replicated,
    timed,
    twins,
    unsteady,
    words_alone,
)
from tests.comparison.test_findings import made_up, study

SEVERITY = "test.severity.human"


def row(model: str, difference: float | None, p: float = 0.5, severity: float = 0.01) -> dict[str, Any]:
    def against(value: float | None) -> dict[str, float]:
        return {} if value is None else {
            "difference": value, "low": value - 0.01, "high": value + 0.01, "p_holm": p, "detectable": 0.014,
        }  # fmt: skip

    return {
        "model": model, "decoder": "argmax", "seeds": [0, 1, 2], "paired_seeds": [0, 1, 2],
        "val.accuracy": {"mean": 0.7}, "test.accuracy": {"mean": 0.7, **against(difference)},
        f"{SEVERITY}.all": {"mean": 0.2, **against(None if difference is None else severity)},
        f"{SEVERITY}.mistakes": {"mean": 0.5, **against(None if difference is None else 0.01)},
    }  # fmt: skip


def told(difference: float, p: float, severity: float = 0.01) -> str:
    rows = [row("cross_entropy", None), row("cosine_one_hot", 0.05, 0.001)]
    other = row("w2v_cosine", 0.0) | {"val.accuracy": {"mean": 0.6}}
    return answer([*rows, row("w2v_cosine", difference, p, severity), other], study())


def test_a_loss_that_the_test_does_not_confirm_is_not_called_better() -> None:
    assert told(0.012, 0.06) == (
        "**No loss on label words is shown to help: the best of the 2, `w2v_cosine` (chosen on "
        "PublicTest), differs from `cross_entropy` (cross-entropy) by +1.20 points on PrivateTest (95 % interval +0.20 "
        "to +2.20, Holm-corrected p 0.060, 3 seeds).** "
        "Of the 2, 0 are more accurate and 0 less accurate than it by that test. "
        "Under the human distance between emotions 0 of 2 decide less severely on the whole and 0 more severely; "
        "the mistakes by themselves are milder in 0 and worse in 0. "
        "Severity is tested over seeds alone, so with 3 of them only large differences are confirmed."
    )


def test_a_loss_that_the_test_confirms_is_called_better_or_worse() -> None:
    better, worse = told(0.012, 0.04, -0.02), told(-0.012, 0.0004)
    assert better.startswith("**A loss on label words helps: the best of the 2, ")
    assert "1 are more accurate and 0 less accurate" in better
    assert "1 of 2 decide less severely on the whole and 0 more severely" in better
    assert "milder in 0 and worse in 1" in better
    assert worse.startswith("**Losses on label words do harm: the best of the 2, ")
    assert "p < 0.001" in worse
    assert "0 are more accurate and 1 less accurate" in worse
    assert "0 of 2 decide less severely on the whole and 1 more severely" in worse


def test_one_loss_is_not_called_the_best_of_one() -> None:
    text = answer([row("cross_entropy", None), row("w2v_cosine", -0.02, 0.01)], study())
    assert text.startswith(
        "**Losses on label words do harm: the only one, `w2v_cosine`, differs from "
        "`cross_entropy` (cross-entropy) by -2.00 points"
    )
    assert "Of the" not in text


def test_a_loss_that_helps_but_is_not_preferred_is_not_passed_over() -> None:
    other = row("w2v_cosine", 0.05, 0.001) | {"val.accuracy": {"mean": 0.6}}
    text = answer([row("cross_entropy", None), row("w2v_cosine", 0.01), other], study())
    assert text.startswith("**The preferred loss on label words is not shown to help: the best of the 2, ")
    assert "Of the 2, 1 are more accurate" in text


def test_the_baseline_is_named_with_its_options() -> None:
    models = study()
    for run in models["cross_entropy"].values():
        run.metrics["settings"]["loss"]["options"]["label_smoothing"] = 0.1
    text = answer([row("cross_entropy", None), row("w2v_cosine", 0.0)], models)
    assert "`cross_entropy` (cross-entropy, label smoothing 0.1)" in text


def test_controls_are_no_losses_on_label_words() -> None:
    rows = [row("cross_entropy", None), row("cosine_one_hot", 0.05, 0.001), row("w2v_permuted", 0.05, 0.001)]
    assert (
        answer(rows, study())
        == "**No loss on label words has been run with 3 seeds yet: there is no answer.**"
    )
    assert detectable(rows, study()) == "Nothing has been compared yet."


def test_fewer_than_three_seeds_are_no_answer() -> None:
    few = row("w2v_cosine", -0.03, 0.001) | {"paired_seeds": [0, 1]}
    assert "there is no answer" in answer([row("cross_entropy", None), few], study())
    assert "differs" in answer([row("cross_entropy", None), few | {"paired_seeds": [0, 1, 2]}], study())


def test_what_could_have_been_missed_is_said() -> None:
    rows = [row("cross_entropy", None), row("w2v_cosine", 0.0)]
    assert "a true difference of 1.4 points" in detectable(rows, study())
    rows.append(row("w2v_cosine", 0.0))
    rows[-1]["test.accuracy"]["detectable"] = 0.021
    rows[-1]["model"] = "other"
    models = study() | {"other": study()["w2v_cosine"]}
    assert "difference of 1.4 to 2.1 points, depending on the row (the most for `other`)" in detectable(
        rows, models
    )
    rows[-1]["paired_seeds"] = [0, 1]  # not judged
    assert "a true difference of 1.4 points" in detectable(rows, models)


def test_twins_are_the_images_that_the_clean_test_lacks() -> None:
    models = study()
    for run in models["cross_entropy"].values():
        run.metrics["test_clean"]["images"] = 500
    assert "leaves out the 200 of 700 test images" in twins(models["cross_entropy"])


def test_the_originals_are_named_if_they_were_run() -> None:
    rows = [row("baseline", None), row("original_first", -0.1)]
    assert originals(rows) == "On PrivateTest `original_first` reaches 70.0 %; `baseline` 70.0 %."
    assert originals(rows[:1]) == "They have not been run yet."


def test_the_full_recipe_is_the_run_that_public_test_prefers() -> None:
    def run(recipe: str, val: float, test: float, flop: float, device: str = "cpu") -> dict[str, Any]:
        return {
            "recipe": recipe, "val_accuracy": val, "test_accuracy": test, "test_accuracy_flip": test + 0.01,
            "flop": flop, "training_seconds": 60 * flop,
            "machine": {"processor": "some", "device": device, "threads": 2},
        }  # fmt: skip

    runs = [run("fast", 0.66, 0.67, 2), run("full", 0.70, 0.71, 20), run("full", 0.69, 0.75, 30)]
    assert "With 10 times the arithmetic, 20 minutes on some with 2 threads, the" in full(runs)
    assert "20 minutes on some, the" in full([runs[0], run("full", 0.70, 0.71, 20, device="cuda")])
    assert "**71.0 %, 72.0 % with flip**" in full(runs)
    assert "**71.0 % (68.0 % without twins), 72.0 % with flip**" in full(
        [runs[0], runs[1] | {"test_accuracy_clean": 0.68}]
    )
    assert timed(runs) == (
        "`fast` reaches 67.0 %, with flip 68.0 %, in 2.0 minutes (one seed). "
        "`full` reaches 73.0 %, with flip 74.0 %, in 25.0 minutes (2 seeds)."
    )
    for some in ([], runs[:1], runs[1:]):
        assert full(some) == "The two recipes have not been timed yet."


def test_the_gap_is_told_at_every_length_that_both_were_trained_at() -> None:
    def trial(model: str, epochs: int, val: float | None, rate: float = 0.1) -> dict[str, Any]:
        return {"model": model, "recipe": {"epochs": epochs}, "learning_rate": rate, "val_accuracy": val}

    trials = [
        trial("baseline", 3, 0.6), trial("baseline", 3, None, 0.3), trial("baseline", 10, 0.65),
        trial("w2v_cosine", 3, 0.57), trial("w2v_cosine", 3, 0.58, 0.3), trial("w2v_cosine", 10, 0.64),
        trial("w2v_cosine", 20, 0.7),
    ]  # fmt: skip
    assert lengths(trials, "baseline").endswith(
        "`w2v_cosine` differs from `baseline` by -2.00 points after 3 epochs and -1.00 points after 10 epochs."
    )
    assert lengths(trials[:5], "baseline") == "The search has not trained both at several lengths yet."


def test_a_pair_of_models_is_called_different_only_if_the_test_says_so() -> None:
    pairs = [
        Contrast("w2v_cosine", against, row("w2v_cosine", difference, p))
        for against, difference, p in (("a", -0.02, 0.01), ("b", -0.02, 0.06), ("c + crm.human", 0.02, 0.04))
    ]
    assert meaning(pairs) == (
        "`w2v_cosine` is less accurate than `a`. `w2v_cosine` does not differ verifiably from `b`. "
        "`w2v_cosine` is more accurate than `c + crm.human`."
    )
    pairs[0].row["paired_seeds"] = [0, 1]
    assert "`a`" not in meaning(pairs)


def test_the_prediction_holds_only_where_the_test_says_so() -> None:
    shares, some = np.full(7, 1 / 7), Interval(0.8, 0.01, 0.02)
    yes = Prediction(
        "w2v",
        3,
        some,
        some,
        Difference(0.01, 0.005, 0.015, 0.001),
        90,
        50,
        20,
        shares,
        shares,
        shares,
        0.1,
        some,
    )
    no = replace(yes, difference=Difference(0.002, -0.001, 0.005, 0.2))
    against = replace(yes, difference=Difference(-0.01, -0.015, -0.005, 0.001))
    equal, few = replace(yes, differing=0), replace(yes, seeds=2)
    yes, also = replace(yes, model="a"), replace(yes, model="b")
    assert predicted([yes, also, equal, few], None).endswith(
        "2 decide more often as arg-max S p than as arg-max p, 0 less often (paired bootstrap, Holm): this is "
        "confirmed for `a` and `b`."
    )
    seldom = replace(yes, model="c", as_costs=Interval(0.7, 0.01, 0.02))
    assert predicted([yes, seldom], Interval(0.75, 0.01, 0.02)).endswith(
        "1 of the 2 decides as arg-max S p as often as two seeds of cross-entropy decide alike."
    )
    assert predicted([yes, seldom], Interval(0.85, 0.01, 0.02)).endswith(
        "None of the 2 decides as arg-max S p as often as two seeds of cross-entropy decide alike."
    )
    no, against = replace(no, model="no"), replace(against, model="against")
    text = predicted([yes, no, against], None)
    assert "1 less often (paired bootstrap, Holm): this is confirmed for `a`." in text
    assert (
        "Where the two rules differ, the other 2 decide as arg-max S p 100 times and as arg-max p 40 times."
        in text
    )
    assert "confirmed for `a`, `b` and `c`." in predicted([yes, also, replace(yes, model="c"), no], None)
    assert "this is confirmed for none." in predicted([no, against], None)
    doubtful = replace(yes, difference=Difference(0.01, 0.0, 0.02, 0.03))  # .03 by itself, .09 among three
    three = [replace(doubtful, model=name) for name in ("a", "b", "c")]
    assert "this is confirmed for none." in predicted(three, None)
    assert predicted([equal, few], None) == "There are too few runs to judge the prediction."


def test_what_the_words_alone_do_is_the_difference_from_their_twin_without_similarities() -> None:
    rows = [row("baseline", None), row(findings.IDEA, -0.02), row(findings.TWIN, -0.015)]
    idea = replace(findings.predictions(study(), "cross_entropy", 50)[0], model=findings.IDEA)
    idea = replace(idea, found=np.full(7, 0.178), predicted=np.full(7, 0.17), plain=np.full(7, 0.19))

    def told(p: float) -> str:
        pair = Contrast(findings.IDEA, findings.TWIN, row(findings.IDEA, -0.005, p))
        return words_alone(rows, [Contrast("a", "b", row("a", 0.0)), pair], [idea])

    assert told(0.2) == (
        "`w2v_cosine` is -2.00 points from `baseline`, `w2v_whitened`, which has the same loss and as many "
        "dimensions but no similarities, -1.50. The one is -0.50 points from the other (95 % interval -1.50 to "
        "+0.50, corrected p 0.200): no difference is shown. `w2v_cosine` decides for *neutral*, the word far from "
        "all others, in 17.8 % of images; arg-max S p does in 17.0 %, arg-max p in 19.0 %."
    )
    assert ": a difference is shown." in told(0.01)
    assert words_alone(rows, [], [idea]) == "Too little has been run yet."


def test_a_loss_whose_seeds_are_far_apart_is_named_with_what_they_reach() -> None:
    models = study()
    models["w2v_cosine"] = {seed: made_up(seed, skill) for seed, skill in ((0, 0.3), (1, 0.6), (2, 0.6))}
    for run in models["w2v_cosine"].values():
        run.metrics["targets"] = "word2vec"
    judged = row("w2v_cosine", -0.02)
    judged["test.accuracy"]["std"] = 0.02
    reached = sorted(100 * run.metrics["test"]["accuracy"] for run in models["w2v_cosine"].values())
    assert unsteady([row("cross_entropy", None), judged], models).startswith(
        f"The seeds of `w2v_cosine` reach {', '.join(f'{value:.1f}' for value in reached)} %: its mean"
    )
    judged["test.accuracy"]["std"] = 0.005
    assert unsteady([row("cross_entropy", None), judged], models).startswith(
        "No loss on label words has seeds more"
    )


def test_the_parts_of_all_classes_add_up_to_the_difference() -> None:
    models = study()
    seeds = [1, 2]
    parts = findings.parts_by_class(models["w2v_cosine"], models["cross_entropy"], seeds)
    accuracies = [
        [models[name][seed].right["argmax"].mean() for seed in seeds]
        for name in ("w2v_cosine", "cross_entropy")
    ]
    difference = np.mean(accuracies[0]) - np.mean(accuracies[1])
    assert sum(parts.values()) == pytest.approx(difference)
    happy = [
        int((run.right["argmax"] & (run.predicted["argmax"] == 3)).sum())
        for run in (
            models["w2v_cosine"][1],
            models["w2v_cosine"][2],
            models["cross_entropy"][1],
            models["cross_entropy"][2],
        )
    ]
    assert parts["happy"] == pytest.approx((happy[0] + happy[1] - happy[2] - happy[3]) / 2 / 700)
    judged = row("w2v_cosine", difference) | {"paired_seeds": seeds}
    assert by_class([row("cross_entropy", None), judged], models) == "Nothing has been compared yet."
    models["w2v_cosine"] = dict.fromkeys((0, 1, 2), models["w2v_cosine"][1])
    text = by_class([row("cross_entropy", None), row("w2v_cosine", -0.1)], models)
    assert text.startswith(
        "The -10.00 points of `w2v_cosine` against `cross_entropy` by the images' class: *"
    )


def test_a_repetition_on_another_machine_is_compared_where_both_have_seeds_enough() -> None:
    def on(processor: str) -> dict[str, dict[int, Any]]:
        run = made_up(0, 0.5)
        machine = {"processor": processor, "torch": "2.13.0"}
        return {"cross_entropy": {0: replace(run, metrics={**run.metrics, "machine": machine})}}

    rows = [row("cross_entropy", None), row("a", -0.02, 0.01), row("b", 0.01), row("c", -0.03, 0.01)]
    again = [row("a", -0.01), row("b", -0.02, 0.01), row("c", 0.04, 0.01)]
    text = replicated(list(zip(rows[1:], again, strict=True)), rows, on("a GPU"), on("a processor"))
    assert text == (
        "3 of the rows have 3 seeds or more both on a GPU (PyTorch 2.13.0) and on a processor (PyTorch 2.13.0). "
        "The second difference from the baseline is 3.67 points from the first on average, furthest for `c` (+7.00). "
        "2 differ from the baseline by the first test and 2 by the second, each corrected for the rows of its own "
        "table, 1 in opposite directions."
    )
    few = [(rows[1], again[0] | {"paired_seeds": [0]}), (rows[2], again[1])]
    assert replicated(few, rows, on("a GPU"), on("a processor")).startswith("1 of the rows")
    assert replicated(few[:1], rows, {}, {}) == "No row has 3 seeds on both machines yet."


def test_models_that_neglect_the_rarest_class_are_counted() -> None:
    def decided(found: float) -> Prediction:
        some = findings.predictions(study(), "cross_entropy", 50)[0]
        shares = [np.full(7, value) for value in (found, 0.02, 0.01)]
        return replace(some, found=shares[0], predicted=shares[1], plain=shares[2])

    assert rarest([decided(0.005), decided(0.015), decided(0.03)]).startswith(
        "1 of the 3 cosine models decide for *d"
    )


def test_rows_with_too_few_seeds_are_not_counted_and_that_is_said() -> None:
    few = row("w2v_cosine", 0.3, 0.001) | {"paired_seeds": [0]}
    text = answer([row("cross_entropy", None), row("w2v_cosine", -0.02, 0.01), few], study())
    assert "the only one with 3 seeds or more, `w2v_cosine`, differs" in text


def test_the_losses_on_label_words_are_listed() -> None:
    rows = [row("cross_entropy", None), row("cosine_one_hot", 0.05), row("w2v_cosine", 0.0)]
    assert losses_on_words(rows, study()) == "The losses on label words are `w2v_cosine`."
    assert losses_on_words(rows[:2], study()) == "No loss on label words has been run yet."


def test_the_idea_is_compared_with_what_it_should_amount_to() -> None:
    pair = Contrast(*findings.AMOUNTS_TO, row("w2v_cosine", -0.0135, 0.029))
    assert as_accurate([Contrast("a", "b", row("a", 0.0)), pair]) == (
        "And `w2v_cosine` is -1.35 points from `cross_entropy + crm.word2vec` (corrected p 0.029): "
        "it is less accurate."
    )
    assert as_accurate([]) == ""
