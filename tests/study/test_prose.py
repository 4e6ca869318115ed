"""What the pages say of the numbers: never more than the tests confirm."""

from __future__ import annotations

from typing import Any

from pipeline.study.prose import answer, detectable, full, near_duplicates
from tests.factories import row, study


def told(difference: float, p: float, severity: float = 0.01) -> str:
    rows = [row("cross_entropy", None), row("cosine_one_hot", 0.05, 0.001)]
    other = row("w2v_cosine", 0.0, val=0.6)
    return answer([*rows, row("w2v_cosine", difference, p, severity), other], study())


def test_a_loss_that_the_test_does_not_confirm_is_not_called_better() -> None:
    assert told(0.012, 0.06) == (
        "**No loss on label words is shown to help: the best of the 2, `w2v_cosine` (chosen on "
        "PublicTest), differs from `cross_entropy` (cross-entropy) by +1.20 points on PrivateTest (95 % interval +0.20 "
        "to +2.20, Holm-corrected p 0.060, 3 seeds).** "
        "Of the 2, 0 are more accurate than it and 0 are less accurate by that test. "
        "By the human distance between emotions, severity over all images is significantly lower in 0 of 2 and higher "
        "in 0; over mistakes alone it is lower in 0 and higher in 0. "
        "Severity is tested over seeds alone, so with 3 of them only large differences can be confirmed."
    )


def test_a_loss_that_the_test_confirms_is_called_better_or_worse() -> None:
    better, worse = told(0.012, 0.04, -0.02), told(-0.012, 0.0004)
    assert better.startswith("**A loss on label words helps: the best of the 2, ")
    assert "1 are more accurate than it and 0 are less accurate" in better
    assert "significantly lower in 1 of 2 and higher in 0" in better
    assert "over mistakes alone it is lower in 0 and higher in 1" in better
    assert worse.startswith("**Losses on label words do harm: the best of the 2, ")
    assert "p < 0.001" in worse
    assert "0 are more accurate than it and 1 are less accurate" in worse
    assert "significantly lower in 0 of 2 and higher in 1" in worse


def test_one_loss_is_not_called_the_best_of_one() -> None:
    text = answer([row("cross_entropy", None), row("w2v_cosine", -0.02, 0.01)], study())
    assert text.startswith(
        "**Losses on label words do harm: the only one, `w2v_cosine`, differs from "
        "`cross_entropy` (cross-entropy) by -2.00 points"
    )
    assert "Of the" not in text


def test_a_loss_that_helps_but_is_not_preferred_is_not_passed_over() -> None:
    other = row("w2v_cosine", 0.05, 0.001, val=0.6)
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
    few = row("w2v_cosine", -0.03, 0.001, seeds=[0, 1])
    assert "there is no answer" in answer([row("cross_entropy", None), few], study())
    assert "differs" in answer([row("cross_entropy", None), row("w2v_cosine", -0.03, 0.001)], study())


def test_what_could_have_been_missed_is_said() -> None:
    rows = [row("cross_entropy", None), row("w2v_cosine", 0.0)]
    assert "a true difference of 1.4 points" in detectable(rows, study())
    rows.append(row("other", 0.0, detectable=0.021))
    models = study() | {"other": study()["w2v_cosine"]}
    assert "difference of 1.4 to 2.1 points, depending on the row (largest for `other`)" in detectable(
        rows, models
    )
    rows[-1] = row("other", 0.0, detectable=0.021, seeds=[0, 1])  # not judged
    assert "a true difference of 1.4 points" in detectable(rows, models)


def test_near_duplicates_are_the_images_that_the_clean_test_lacks() -> None:
    models = study()
    for run in models["cross_entropy"].values():
        run.metrics["test_clean"]["images"] = 500
    assert "leaves out the 200 of 700 test images" in near_duplicates(models["cross_entropy"])


def test_the_full_recipe_is_the_run_that_public_test_prefers() -> None:
    def run(recipe: str, val: float, test: float, flop: float, device: str = "cpu") -> dict[str, Any]:
        return {
            "recipe": recipe, "val_accuracy": val, "test_accuracy": test, "test_accuracy_flip": test + 0.01,
            "flop": flop, "training_seconds": 60 * flop,
            "machine": {"processor": "some", "device": device, "threads": 2},
        }  # fmt: skip

    runs = [run("fast", 0.66, 0.67, 2), run("full", 0.70, 0.71, 20), run("full", 0.69, 0.75, 30)]
    assert "With 10 times the compute (20 minutes on some with 2 threads), the" in full(runs)
    assert "(20 minutes on some), the" in full([runs[0], run("full", 0.70, 0.71, 20, device="cuda")])
    assert "**71.0 %, 72.0 % with flip**" in full(runs)
    assert "**71.0 % (68.0 % without near duplicates), 72.0 % with flip**" in full(
        [runs[0], runs[1] | {"test_accuracy_clean": 0.68}]
    )
    for some in ([], runs[:1], runs[1:]):
        assert full(some) == "The two recipes have not been timed yet."


def test_rows_with_too_few_seeds_are_not_counted_and_that_is_said() -> None:
    few = row("w2v_cosine", 0.3, 0.001, seeds=[0])
    text = answer([row("cross_entropy", None), row("w2v_cosine", -0.02, 0.01), few], study())
    assert "the only one with 3 seeds or more, `w2v_cosine`, differs" in text
