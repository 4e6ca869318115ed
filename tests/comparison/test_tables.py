"""The tables that readers see, from rows that are easy to check by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.comparison.families import Family
from pipeline.comparison.findings import Contrast, Judged, Prediction, RowId, ScoreFit, row_name
from pipeline.comparison.rows import ComparisonRow, MetricSummary, PairedTest
from pipeline.comparison.statistics import Difference, Interval
from pipeline.comparison.tables import (
    ambiguity_table,
    bounds_table,
    contrast_table,
    correlation_table,
    difference_table,
    judges_table,
    markdown,
    prediction_table,
    recall_table,
    replication_table,
    score_table,
)


def row(
    model: str, accuracy: float, std: float | None, decoder: str = "argmax", test: PairedTest | None = None,
    severity: PairedTest | None = None, seeds: Sequence[int] | None = None,
) -> ComparisonRow:  # fmt: skip
    metrics = {
        "test.accuracy": MetricSummary(accuracy, std, test=test),
        "test.severity.human.all": MetricSummary(0.25, test=severity),
    }
    seeds = seeds or ([0] if std is None else [0, 1])
    return ComparisonRow(model, decoder, seeds, metrics, seeds if test else ())


def test_a_row_is_named_after_a_decoder_that_is_not_the_models_own() -> None:
    rows = [row("a", 0.6, None), row("a", 0.6, None, "crm.word2vec")]
    assert [row_name(one, rows) for one in rows] == ["a", "a + crm.word2vec"]


def test_table_gives_per_cent_points_and_the_verdict() -> None:
    variant = row("w2v", 0.64, None, test=PairedTest(-0.02, -0.03, -0.01, 0.0002, p_holm=0.0004))
    text = markdown([row("baseline", 0.66, None), variant], "fer2013", 3589, "baseline")
    assert "2 models, 1 seed" in text
    assert "| baseline | 66.00 | 0.250 |  |  |" in text
    assert "| w2v | 64.00 | 0.250 | -2.00 [-3.00, -1.00] | < 0.001 |" in text
    assert "standard error of 0.8 points" in text
    assert "drawn faces" not in text


def test_table_of_drawn_faces_says_so_and_seeds_have_deviations() -> None:
    text = markdown([row("baseline", 0.66, 0.005)], "synthetic", 210, "baseline")
    assert "drawn faces" in text
    assert "| baseline | 2 | 66.00 ± 0.50 |" in text
    assert "one seed" not in text


def test_every_test_has_its_difference_interval_and_p() -> None:
    variant = row(
        "w2v", 0.64, 0.01, test=PairedTest(-0.02, -0.03, -0.01, 0.0001, p_holm=0.0004),
        severity=PairedTest(0.0123, -0.001, 0.02, 0.03, p_holm=0.07),
    )  # fmt: skip
    assert difference_table([row("baseline", 0.66, 0.01), variant, row("other", 0.6, None)]).splitlines() == [
        "| model | accuracy | p | severity, human | p |",
        "|---|--:|--:|--:|--:|",
        "| w2v | -2.00 [-3.00, -1.00] | < 0.001 | +0.012 [-0.001, +0.020] | 0.070 |",
        "| other |  |  |  |  |",
    ]
    assert difference_table([row("baseline", 0.66, None)]) == "Nothing has been compared yet."


def test_bounds_are_what_is_ruled_out_and_what_would_have_been_found() -> None:
    test = PairedTest(
        -0.02, -0.03, -0.01, 0.0002, p_holm=0.0004, tests=2, upper=-0.004, detectable=0.0175, p_equivalent=1.0,
        bootstrap=[-0.035, -0.005, 0.012],
    )  # fmt: skip
    rows = [row("baseline", 0.66, 0.01), row("w2v", 0.64, 0.01, test=test)]
    text = bounds_table([rows[0], replace(rows[1], family="words")])
    assert "| w2v | words | -2.00 [-3.00, -1.00] | < 0.001 | -0.40 | 1.75 | 1.000 | [-3.50, -0.50] | 0.012 |" in text
    assert "**words** (2 here)" in text
    assert "controls" not in text
    assert bounds_table(rows[:1]) == "Nothing has been compared yet."


def test_each_judge_has_its_difference_and_p() -> None:
    rows = [row("baseline", 0.66, 0.01), row("w2v", 0.64, 0.01)]
    test = PairedTest(-0.02, -0.03, -0.01, 0.01, p_holm=0.02)
    judged = [Judged(rows[0], (None, None, None, test)), Judged(rows[1], (test, None, test, None))]
    assert judges_table(judged, rows).splitlines()[2:] == [
        "| baseline |  |  |  |  |  |  | -2.00 [-3.00, -1.00] | 0.020 |",
        "| w2v | -2.00 [-3.00, -1.00] | 0.020 |  |  | -2.00 [-3.00, -1.00] | 0.020 |  |  |",
    ]
    assert judges_table([], rows)


def test_recalls_have_a_column_for_each_class() -> None:
    test = PairedTest(-0.42, -0.5, -0.3, 0.0001, p_holm=0.0004)
    variant = row("w2v", 0.64, 0.01)
    metrics = {**variant.metrics, "test.per_class.disgust.recall": MetricSummary(0.06, 0.01, test=test)}
    rows = [row("baseline", 0.66, 0.01), replace(variant, metrics=metrics)]
    assert recall_table(rows, ["angry", "disgust"]).splitlines()[2:] == [
        "| w2v |  |  | -42.00 [-50.00, -30.00] | < 0.001 |"
    ]
    assert recall_table(rows[:1], ["angry"]) == "Nothing has been compared yet."


def test_a_contrast_names_both_models() -> None:
    test = PairedTest(-0.02, -0.03, -0.01, 0.001, p_holm=0.004, upper=-0.005, detectable=0.0125)
    contrast = Contrast(RowId("w2v"), RowId("one_hot"), row("w2v", 0.64, 0.01, test=test))
    wanted = "| w2v | one_hot | 2 | -2.00 [-3.00, -1.00] | 0.004 | -0.50 | 1.25 |"
    assert contrast_table([contrast]).splitlines()[-1] == wanted
    twice = contrast_table([contrast], {"test.accuracy": "a", "test.severity.human.all": "b"})
    assert twice.splitlines()[-1] == f"{wanted}  |  |  |  |"
    assert contrast_table([]) == "Too little has been run yet."


def test_a_contrast_in_severity_is_no_number_of_points() -> None:
    test = PairedTest(-0.0164, -0.0267, -0.0061, 0.001, p_holm=0.004, upper=-0.005, detectable=0.0125)
    severe = replace(row("w2v", 0.64, 0.01, severity=test), paired_seeds=[0, 1])
    contrast = Contrast(RowId("w2v"), RowId("one_hot"), severe)
    found = contrast_table([contrast], {"test.severity.human.all": "severity"})
    assert found.splitlines()[-1] == ("| w2v | one_hot | 2 | -0.016 [-0.027, -0.006] | 0.004 | -0.005 | 0.013 |")


def test_the_prediction_is_shown_with_its_deviations() -> None:
    shares = np.array([0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.3])
    measured = Prediction(
        "w2v", 3, Interval(0.8, 0.01, 0.02), Interval(0.85, None, None), Difference(0.05, 0.01, 0.09, 0.02, 0.02, 8.0),
        300, 140, 110, shares, shares[::-1], np.full(7, 1 / 7), 0.125, Interval(0.66, 0.004, 0.01),
    )  # fmt: skip
    lines = prediction_table([measured], "cross_entropy", Interval(0.79, 0.005, 0.01)).splitlines()
    assert lines[0] == "Two seeds of `cross_entropy` make the same decision on 79.0 ± 0.5 % of PrivateTest."
    assert lines[-1] == (
        "| w2v | 3 | 80.0 ± 1.0 | 85.0 | +5.00 [+1.00, +9.00] | 0.020 | 300 | 140 | 110 | 0.125 | 66.0 ± 0.4 "
        "| 30.0, 10.0, 14.3 | 10.0, 10.0, 14.3 |"
    )
    assert prediction_table([], "cross_entropy", None) == "No model with the cosine loss has been run yet."


def test_a_fit_of_scores_has_no_p_where_there_is_nothing_to_relabel() -> None:
    several, less, one = Interval(0.85, 0.01, 0.09), Interval(-0.3, 0.02, 0.2), Interval(0.82, None, None)
    rows = [ScoreFit("w2v", 2, several, less, several, 2e-4, 0.004), ScoreFit("one_hot", 1, one, one, one, None)]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in score_table(rows).splitlines()[2:]]
    assert [line[0] for line in lines] == ["w2v", "one_hot"]
    assert [line[-1] for line in lines] == ["0.004", ""]
    assert "-0.300 ± 0.020" in lines[0]
    assert score_table([])


def test_what_models_make_of_ambiguous_faces_stands_with_intervals_over_seeds() -> None:
    def measured(model: str, decoder: str, family: Family | None, **metrics: MetricSummary) -> ComparisonRow:
        found = {name.replace("__", "."): value for name, value in metrics.items()}
        return ComparisonRow(model, decoder, [0, 1], found, family=family)

    second, entropy = MetricSummary(0.391, 0.01, 0.0452), MetricSummary(0.25, 0.1, None)
    rows = [
        measured("baseline", "argmax", None, test__pairs__exact=second, test__votes__uncertainty=entropy),
        measured("baseline", "crm.word2vec", "decoders"),
        measured("rul", "argmax", "controls", test__pairs__exact=second, test__votes__uncertainty=entropy),
    ]
    assert [line.split(" | ")[1:] for line in ambiguity_table(rows).splitlines()[2:]] == [
        ["39.10 ± 4.52", "0.250 |"]
    ] * 2
    assert ambiguity_table([row("baseline", 0.7, None)]) == "", "without votes there is nothing to say"


def test_a_correlation_has_its_sign_and_p() -> None:
    assert correlation_table([("word2vec", 0.456, 0.0312)]).splitlines()[-1] == "| word2vec | +0.46 | 0.031 |"
    assert correlation_table([]) == "Too little has been run yet."


def test_a_repetition_stands_beside_what_it_repeats() -> None:
    def compared(difference: float, seeds: list[int]) -> ComparisonRow:
        test = PairedTest(difference, difference - 0.01, difference + 0.01, 0.01, p_holm=0.02)
        return row("w2v_cosine", 0.6, None, test=test, seeds=seeds)

    first, second = compared(-0.02, [0, 1, 2, 3, 4]), compared(-0.03, [0])
    assert replication_table([(first, second)], [first]).splitlines()[2] == (
        "| w2v_cosine | 5 | -2.00 [-3.00, -1.00] | 0.020 | 1 | -3.00 [-4.00, -2.00] | 0.020 |"
    )
