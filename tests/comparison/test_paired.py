"""Rows of the table against plain arithmetic on a small made-up study."""

from __future__ import annotations

import statistics
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.comparison.paired import Entry, compare
from pipeline.comparison.registry import METRICS
from pipeline.comparison.rows import read_rows, write_rows
from pipeline.comparison.statistics import Difference, mcnemar, minimum_detectable_difference, paired_t
from pipeline.errors import UserError

IMAGES = 400
PAIRED = [metric.name for metric in METRICS if metric.paired == "images"]


def entry(model: str, seeds: list[int], accuracy: float, decoder: str = "argmax", start: int = 0) -> Entry:
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
    )  # fmt: skip


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
        other.metrics[seed]["test"]["accuracy"] - baseline.metrics[seed]["test"]["accuracy"]
        for seed in (1, 3)
    )
    found = row.test("test.accuracy")
    assert found.difference == pytest.approx(wanted)
    assert found.low < found.difference < found.high
    assert len(found.mcnemar or ()) == 2
    right, theirs = other.right["test.accuracy"], baseline.right["test.accuracy"]
    disagree = statistics.mean(float((right[seed] != theirs[seed]).mean()) for seed in (1, 3))
    assert found.disagreement == pytest.approx(disagree)
    assert 0 < (found.detectable or 0) < 0.2


def test_every_decoder_is_a_row_even_another_one_of_the_baseline() -> None:
    baseline, costs = entry("baseline", [0, 1], 0.7), entry("baseline", [0, 1], 0.65, "crm.word2vec")
    rows = compare([baseline, costs, entry("other", [0, 1], 0.7)], 200)
    assert [(row.model, row.decoder) for row in rows] == [
        ("baseline", "argmax"), ("baseline", "crm.word2vec"), ("other", "argmax"),
    ]  # fmt: skip
    found = rows[1].test("test.accuracy")
    right, theirs = costs.right["test.accuracy"], baseline.right["test.accuracy"]
    assert found.mcnemar == [mcnemar(right[seed], theirs[seed]) for seed in (0, 1)]
    assert found.difference == pytest.approx(
        statistics.mean(float(right[seed].mean() - theirs[seed].mean()) for seed in (0, 1))
    )


def test_a_metric_of_fewer_images_is_compared_on_those() -> None:
    first, second = entry("baseline", [0], 0.7), entry("other", [0], 0.7)
    halved = [
        replace(e, right={**e.right, "test_clean.accuracy": {0: e.right["test.accuracy"][0][: IMAGES // 2]}})
        for e in (first, second)
    ]
    row = compare(halved, 200)[1]
    found = row.test("test_clean.accuracy")
    ours, theirs = (e.right["test_clean.accuracy"][0] for e in (halved[1], halved[0]))
    assert row.test("test_clean.accuracy").difference == pytest.approx(ours.mean() - theirs.mean())
    assert row.test("test_clean.accuracy").detectable == pytest.approx(
        minimum_detectable_difference(Difference(found.difference, found.low, found.high, found.p))
    )


def test_every_row_counts_in_holms_correction() -> None:
    others = [entry(f"other{n}", [0, 1], 0.7) for n in range(4)]
    rows = compare([entry("baseline", [0, 1], 0.7), *others], 200)
    raw = [row.test().p for row in rows[1:]]
    corrected = [row.test().p_holm for row in rows[1:]]
    assert min(corrected) == pytest.approx(min(1, 4 * min(raw)))
    assert all(c >= p for c, p in zip(corrected, raw, strict=True))


def test_entries_about_other_images_are_refused() -> None:
    with pytest.raises(UserError, match="other and baseline were measured on different images"):
        compare([entry("baseline", [0], 0.7), entry("other", [0], 0.7, start=1)], 200)


def test_entries_without_a_common_seed_are_refused() -> None:
    with pytest.raises(UserError, match="other shares no seed with baseline"):
        compare([entry("baseline", [0], 0.7), entry("other", [1], 0.7)], 200)


def test_severity_is_compared_seed_by_seed() -> None:
    def severe(model: str, values: dict[int, float]) -> Entry:
        made = entry(model, list(values), 0.7)
        metrics = {
            seed: {
                **made.metrics[seed],
                "test": {**made.metrics[seed]["test"], "severity": {"human": {"all": value}}},
            }
            for seed, value in values.items()
        }
        return replace(made, metrics=metrics)

    baseline = severe("baseline", {0: 0.20, 1: 0.21, 2: 0.22})
    rows = compare(
        [
            baseline,
            severe("a", {0: 0.25, 1: 0.27, 5: 0.9}),
            severe("b", {0: 0.3}),
            severe("c", {0: 0.2, 1: 0.21, 2: 0.22}),
        ],
        200,
    )
    found = [row["test.severity.human.all"].test for row in rows]
    assert found[0] is None
    assert found[2] is None
    assert found[1] is not None
    assert found[1].difference == pytest.approx(0.055)
    assert found[1].p == pytest.approx(paired_t([0.25, 0.27], [0.20, 0.21]).p)
    assert found[1].p_holm == pytest.approx(2 * found[1].p)  # of two: one seed has no test
    assert rows[3].test("test.severity.human.all").p == 1


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = compare([entry("baseline", [0, 1], 0.7), entry("other", [1, 0], 0.6)], 200)
    write_rows(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == [replace(row, paired_seeds=row.paired_seeds) for row in rows]
