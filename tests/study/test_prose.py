"""The generated sentences: which numbers they hold, and that they never claim more than the tests confirm."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipeline.comparison.findings import Judged
from pipeline.comparison.rows import ComparisonRow, PairedTest
from pipeline.study.prose import answer, conclusion, full, judges, near_duplicates
from tests.factories import row, study

BASELINE = row("cross_entropy", None)


def rows(difference: float, p: float) -> list[ComparisonRow]:
    """A control that is better, a loss on words that PublicTest prefers, and one that it does not, with no effect."""
    other = row("w2v_cosine", 0.0, val=0.6)
    return [BASELINE, row("cosine_one_hot", 0.05, 0.001), row("w2v_cosine", difference, p), other]


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])(?:\*\*)?\s+", text)


def claim(text: str) -> str:
    """What comes before the first number."""
    return re.split(r"\d", text)[0]


@pytest.mark.parametrize(("difference", "p"), [(0.012, 0.06), (0.012, 0.04), (-0.012, 0.0004)])
def test_the_answer_is_two_sentences_with_the_preferred_row_and_its_test(difference: float, p: float) -> None:
    text = answer(rows(difference, p), study())
    first, second = sentences(text)
    for number in (difference, difference - 0.01, difference + 0.01):
        assert f"{100 * number:+.2f}" in first
    assert ("< 0.001" if p < 0.001 else f"{p:.3f}") in first
    assert "`w2v_cosine`" in first
    assert "`cross_entropy`" in first
    # A gain above the end of its own interval is ruled out, if it allows any.
    assert (f"{100 * difference + 1:.2f}" in second) == (difference > 0)


def test_a_claim_is_as_strong_as_its_test() -> None:
    """A difference that is confirmed up, down and not at all are three things to say."""
    confirmed, unsure, worse, unsure_too = (
        claim(answer(rows(*case), study())) for case in ((0.012, 0.04), (0.012, 0.06), (-0.012, 0.04), (-0.012, 0.06))
    )
    assert len({confirmed, unsure, worse}) == 3
    assert unsure == unsure_too


def test_the_numbers_are_those_of_the_losses_on_words_alone() -> None:
    result = conclusion(rows(0.012, 0.04))
    assert result is not None
    assert (result.best.test().difference, result.total, result.better, result.worse) == (0.012, 2, 1, 0)
    assert result.bounded == 0
    result = conclusion(rows(-0.012, 0.0004))
    assert result is not None
    assert (result.better, result.worse) == (0, 1)
    assert result.bounded == 1  # the other row's bound is two points
    assert conclusion([BASELINE, *rows(0.0, 1.0)[1:2], row("w2v_permuted", 0.05, 0.001)]) is None


def test_a_loss_that_helps_but_is_not_preferred_is_not_passed_over() -> None:
    other = row("w2v_cosine", 0.05, 0.001, val=0.6)
    text = answer([BASELINE, row("w2v_cosine", 0.01), other], study())
    assert claim(text) != claim(answer(rows(0.01, 0.5), study()))
    result = conclusion([BASELINE, row("w2v_cosine", 0.01), other])
    assert result is not None
    assert (result.best.test().difference, result.better) == (0.01, 1)


def test_one_loss_is_not_the_best_of_one_and_below_zero_there_is_no_gain_to_bound() -> None:
    first, second = sentences(answer([BASELINE, row("w2v_cosine", -0.02, 0.01)], study()))
    assert "-2.00" in first
    assert claim(first) != claim(answer([*rows(-0.02, 0.01)], study()))
    assert not re.search(r"\d", second)
    assert re.search(r"0\.30", sentences(answer([BASELINE, row("w2v_cosine", -0.007)], study()))[1])


def test_the_baseline_is_named_with_its_options() -> None:
    models = study()
    for run in models["cross_entropy"].values():
        run.metrics["settings"]["loss"]["options"]["label_smoothing"] = 0.1
    assert "label smoothing 0.1" in answer([BASELINE, row("w2v_cosine", 0.0)], models)


def test_fewer_than_three_seeds_are_no_answer_and_do_not_count() -> None:
    few = row("w2v_cosine", 0.3, 0.001, seeds=[0, 1])
    enough = row("w2v_cosine", -0.03, 0.001)
    assert conclusion([BASELINE, few]) is None
    assert not re.search(r"0\.3|30\.", answer([BASELINE, few], study()))
    assert conclusion([BASELINE, enough, few]) == conclusion([BASELINE, enough])
    # That others were left out is said.
    assert answer([BASELINE, enough, few], study()) != answer([BASELINE, enough], study())


def test_each_judge_counts_the_losses_on_words_that_it_finds_worse_and_better() -> None:
    def test(difference: float, p: float) -> PairedTest:
        return PairedTest(difference, -1, 1, p, p_holm=p)

    words = [row("w2v_cosine", 0.0) for _ in range(3)]
    worse, better, none = test(-0.1, 0.01), test(0.1, 0.01), test(-0.1, 0.2)
    judged = [
        Judged(BASELINE, (None, None, None, worse)),
        Judged(row("cosine_one_hot", 0.0), (worse, worse, worse, worse)),
        Judged(words[0], (worse, worse, none, better)),
        Judged(words[1], (worse, none, none, better)),
        Judged(words[2], (none, none, None, worse)),
    ]
    text = judges(judged)
    assert [int(number) for number in re.findall(r"\d+", text)] == [3, 2, 0, 1, 0, 0, 0, 1, 2]
    assert judges(judged[:2]) == ""


def test_near_duplicates_are_the_images_that_the_clean_test_lacks() -> None:
    models = study()
    for run in models["cross_entropy"].values():
        run.metrics["test_clean"]["images"] = 500
    text = near_duplicates(models["cross_entropy"])
    assert len(sentences(text)) == 1
    assert re.findall(r"\d+", text) == ["200", "700"]


def test_the_full_recipe_is_the_run_that_public_test_prefers() -> None:
    def run(recipe: str, val: float, test: float, flop: float, device: str = "cpu") -> dict[str, Any]:
        return {
            "recipe": recipe, "val_accuracy": val, "test_accuracy": test, "test_accuracy_flip": test + 0.01,
            "flop": flop, "training_seconds": 60 * flop,
            "machine": {"processor": "some", "device": device, "threads": 2},
        }  # fmt: skip

    def numbers(text: str) -> list[float]:
        assert len(sentences(text)) == 1
        return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]

    runs = [run("fast", 0.66, 0.67, 2), run("full", 0.70, 0.71, 20), run("full", 0.69, 0.75, 30)]
    # Ten times the compute, twenty minutes on two threads; accuracy, and that with the mirror image.
    assert numbers(full(runs)) == [10, 20, 2, 71, 72]
    assert numbers(full([runs[0], run("full", 0.70, 0.71, 20, device="cuda")])) == [10, 20, 71, 72]
    assert numbers(full([runs[0], runs[1] | {"test_accuracy_clean": 0.68}])) == [10, 20, 2, 71, 68, 72]
    for some in ([], runs[:1], runs[1:]):
        assert numbers(full(some)) == []
