"""Rows of the table against plain arithmetic on a small made-up study."""

from __future__ import annotations

import statistics
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.comparison.paired import Entry, compare
from pipeline.comparison.rows import MARGIN, PairedTest, corrected, read_rows, write_rows
from pipeline.comparison.statistics import crossed_t, holm, mcnemar, minimum_detectable_difference, tost, upper_bound
from pipeline.errors import UserError

IMAGES = 400
PAIRED = ("test.accuracy", "test.accuracy_flip", "test_clean.accuracy", "test.votes.accuracy")
SETTINGS = {"loss": {"name": "cross_entropy", "options": {}, "targets": "one_hot"}}


def entry(
    model: str, seeds: list[int], accuracy: float, decoder: str = "argmax", start: int = 0, targets: str = "one_hot"
) -> Entry:
    rng = np.random.default_rng(zlib.crc32(f"{model} {decoder}".encode()))
    right = {seed: rng.random(IMAGES) < accuracy for seed in seeds}
    return Entry(
        model,
        decoder,
        {
            seed: {
                "test": {"accuracy": float(verdict.mean()), "accuracy_flip": 0.5, "votes": {"accuracy": 0.5}},
                "test_clean": {"accuracy": 0.5},
            }
            for seed, verdict in right.items()
        },
        np.arange(start, start + IMAGES),
        dict.fromkeys(PAIRED, right),
        {"loss": {**SETTINGS["loss"], "targets": targets}},
        decoder == "argmax",
    )


def test_each_metric_has_mean_and_deviation_over_the_entrys_own_seeds() -> None:
    baseline, other = entry("baseline", [0, 1, 2], 0.7), entry("other", [0, 1], 0.7)
    rows = compare([baseline, other], 200)
    assert [(row.model, row.decoder, row.seeds) for row in rows] == [
        ("baseline", "argmax", [0, 1, 2]),
        ("other", "argmax", [0, 1]),
    ]
    values = [baseline.metrics[seed]["test"]["accuracy"] for seed in (0, 1, 2)]
    assert rows[0]["test.accuracy"].mean == pytest.approx(statistics.mean(values))
    assert rows[0]["test.accuracy"].std == pytest.approx(statistics.stdev(values))
    assert rows[0]["test.accuracy"].test is None


def test_differences_are_over_the_seeds_that_both_have() -> None:
    baseline, other = entry("baseline", [0, 1, 2, 3], 0.7), entry("other", [5, 3, 1], 0.6)
    row = compare([baseline, other], 200)[1]
    assert row.paired_seeds == [1, 3]
    wanted = statistics.mean(
        other.metrics[seed]["test"]["accuracy"] - baseline.metrics[seed]["test"]["accuracy"] for seed in (1, 3)
    )
    found = row.test("test.accuracy")
    assert found.difference == pytest.approx(wanted)
    assert found.low < found.difference < found.high
    assert len(found.mcnemar or ()) == 2
    right, theirs = other.values["test.accuracy"], baseline.values["test.accuracy"]
    disagree = statistics.mean(float((right[seed] != theirs[seed]).mean()) for seed in (1, 3))
    assert found.disagreement == pytest.approx(disagree)
    plain = crossed_t(*(np.stack([side[seed] for seed in (1, 3)]) for side in (right, theirs)))
    assert (found.difference, found.low, found.high, found.p, found.error, found.dof) == plain
    assert found.detectable == pytest.approx(minimum_detectable_difference(plain))


def test_every_decoder_is_a_row_even_another_one_of_the_baseline() -> None:
    baseline, costs = entry("baseline", [0, 1], 0.7), entry("baseline", [0, 1], 0.65, "crm.word2vec")
    rows = compare([baseline, costs, entry("other", [0, 1], 0.7)], 200)
    assert [(row.model, row.decoder) for row in rows] == [
        ("baseline", "argmax"), ("baseline", "crm.word2vec"), ("other", "argmax"),
    ]  # fmt: skip
    found = rows[1].test("test.accuracy")
    right, theirs = (one.values["test.accuracy"] for one in (costs, baseline))
    assert found.mcnemar == [mcnemar(right[seed].astype(bool), theirs[seed].astype(bool)) for seed in (0, 1)]
    assert found.difference == pytest.approx(
        statistics.mean(float(right[seed].mean() - theirs[seed].mean()) for seed in (0, 1))
    )


def test_a_metric_of_fewer_images_is_compared_on_those() -> None:
    first, second = entry("baseline", [0], 0.7), entry("other", [0], 0.7)
    halved = [
        replace(e, values={**e.values, "test_clean.accuracy": {0: e.values["test.accuracy"][0][: IMAGES // 2]}})
        for e in (first, second)
    ]
    row = compare(halved, 200)[1]
    ours, theirs = (e.values["test_clean.accuracy"][0] for e in (halved[1], halved[0]))
    assert row.test("test_clean.accuracy").difference == pytest.approx(ours.mean() - theirs.mean())
    assert row.test("test_clean.accuracy").dof == IMAGES // 2 - 1


def test_the_rows_of_a_family_are_corrected_together_and_apart_from_others() -> None:
    controls = [entry(f"other{n}", [0, 1, 2], 0.7) for n in range(3)]
    words = [entry(f"w2v{n}", [0, 1, 2], 0.7, targets="word2vec") for n in range(2)]
    costs = entry("baseline", [0, 1, 2], 0.7, "crm.word2vec")
    rows = compare([entry("baseline", [0, 1, 2], 0.7), *controls, costs, *words])
    families = ["controls"] * 3 + ["decoders"] + ["words"] * 2
    assert [row.family for row in rows] == [None, *families]
    for family in set(families):
        tests = [row.test() for row in rows[1:] if row.family == family]
        assert [test.p_holm for test in tests] == pytest.approx(holm([test.p for test in tests]))
        assert {test.tests for test in tests} == {families.count(family)}


def test_what_a_family_of_tests_adds_up_to() -> None:
    plain = [
        crossed_t(*(entry(name, [0, 1, 2], 0.7).values["test.accuracy"][0][None] for name in pair))
        for pair in ("ab", "cd")
    ]
    tests = corrected([PairedTest(*one) for one in plain], has_margin=True)
    assert [one.upper for one in tests] == [upper_bound(one, 2) for one in plain]
    assert [one.detectable for one in tests] == [minimum_detectable_difference(one, 2) for one in plain]
    assert [one.p_equivalent for one in tests] == pytest.approx(holm([tost(one, MARGIN) for one in plain]))
    assert corrected([PairedTest(*plain[0])], has_margin=False)[0].p_equivalent is None


def test_all_recalls_of_a_family_are_one_correction() -> None:
    def with_recalls(made: Entry) -> Entry:
        right = made.values["test.accuracy"]
        names = ("test.per_class.calm.recall", "test.per_class.cross.recall")
        metrics = {
            seed: {
                **measured,
                "test": {**measured["test"], "per_class": {"calm": {"recall": 0.5}, "cross": {"recall": 0.5}}},
            }
            for seed, measured in made.metrics.items()
        }
        halves = (slice(0, IMAGES // 2), slice(IMAGES // 2, None))
        values = {name: {seed: right[seed][half] for seed in right} for name, half in zip(names, halves, strict=True)}
        return replace(made, metrics=metrics, values={**made.values, **values})

    rows = compare([with_recalls(entry(name, [0, 1, 2], 0.7)) for name in ("baseline", "a", "b")])
    tests = [rows[k].test(f"test.per_class.{label}.recall") for k in (1, 2) for label in ("calm", "cross")]
    assert [test.p_holm for test in tests] == pytest.approx(holm([test.p for test in tests]))


def test_the_bootstrap_stands_beside_accuracy_alone() -> None:
    made = [entry("baseline", [0, 1], 0.7), entry("other", [0, 1], 0.5)]
    row = compare(made, 500)[1]
    low, high, p = row.test().bootstrap or ()
    assert low < row.test().difference < high < 0
    assert p == pytest.approx(2 / 501)
    assert row.test("test.accuracy_flip").bootstrap is None
    assert compare(made)[1].test().bootstrap is None


def test_entries_about_other_images_are_refused() -> None:
    with pytest.raises(UserError, match="other and baseline were measured on different images"):
        compare([entry("baseline", [0], 0.7), entry("other", [0], 0.7, start=1)], 200)


def test_entries_without_a_common_seed_are_refused() -> None:
    with pytest.raises(UserError, match="other shares no seed with baseline"):
        compare([entry("baseline", [0], 0.7), entry("other", [1], 0.7)], 200)


def test_severity_is_compared_image_by_image() -> None:
    def severe(model: str, mean: float, seeds: list[int]) -> Entry:
        made = entry(model, seeds, 0.7)
        rng = np.random.default_rng(len(model))
        costs = {seed: rng.random(IMAGES) * 2 * mean for seed in seeds}
        metrics = {
            seed: {
                **made.metrics[seed],
                "test": {**made.metrics[seed]["test"], "severity": {"human": {"all": float(cost.mean())}}},
            }
            for seed, cost in costs.items()
        }
        return replace(made, metrics=metrics, values={**made.values, "test.severity.human.all": costs})

    made = [severe("baseline", 0.2, [0, 1, 2]), severe("a", 0.26, [0, 1, 5]), entry("c", [0], 0.7)]
    rows = compare(made)
    name = "test.severity.human.all"
    mine, theirs = (np.stack([one.values[name][seed] for seed in (0, 1)]) for one in (made[1], made[0]))
    plain = crossed_t(mine, theirs)
    found = rows[1].test(name)
    assert (found.difference, found.p, found.p_holm) == (plain.mean, plain.p, plain.p)
    assert (found.mcnemar, found.disagreement, found.p_equivalent) == (None, None, None)
    assert name not in rows[2]


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = compare([entry("baseline", [0, 1], 0.7), entry("other", [1, 0], 0.6)], 200)
    write_rows(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == [replace(row, paired_seeds=row.paired_seeds) for row in rows]
