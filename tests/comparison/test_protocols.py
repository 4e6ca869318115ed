"""The usual protocol: the same runs, read with freedoms that the plan does not take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.comparison.protocols import Readings, epochs, readings
from pipeline.comparison.records import RunRecord
from pipeline.comparison.tables import epoch_table, protocol_table
from tests.factories import row, study


def with_curve(run: RunRecord, *accuracies: float) -> RunRecord:
    history = [{"epoch": float(n), "val_accuracy": value} for n, value in enumerate(accuracies)]
    return replace(run, metrics={**run.metrics, "history": history, "settings": {"recipe": {}}})


def test_each_reading_takes_one_more_freedom() -> None:
    some = study()["cross_entropy"]
    models = {
        "cross_entropy": {0: with_curve(some[0], 0.40, 0.60, 0.58), 1: with_curve(some[1], 0.50, 0.70, 0.70)},
        # Seed 2 has no baseline, so that it counts for nothing, however good it is.
        "w2v_cosine": {
            0: with_curve(some[0], 0.50, 0.61, 0.57),
            1: with_curve(some[1], 0.66, 0.64, 0.63),
            2: with_curve(some[2], 0.90, 0.90, 0.90),
        },
    }
    found = readings(models, "cross_entropy")
    assert [*found] == ["w2v_cosine"]
    assert found["w2v_cosine"] == pytest.approx((0.60 - 0.64, 0.57 - 0.58, 0.61 - 0.60, 0.66 - 0.60))


@pytest.mark.parametrize(("history", "network"), [([], True), ([{"epoch": 0.0, "val_accuracy": 0.4}], False)])
def test_a_row_without_epochs_has_no_readings(history: list[dict[str, float]], network: bool) -> None:
    """An old run without a history, and a classifier that is no network, whose training has one line."""
    models = study()
    settings = {"recipe": {}} if network else {"loss": {"classifier": "hog"}}
    without = {
        seed: replace(run, metrics={**run.metrics, "history": history, "settings": settings})
        for seed, run in models["w2v_cosine"].items()
    }
    assert "w2v_cosine" not in readings(models | {"w2v_cosine": without}, "cross_entropy")


def test_the_table_has_the_planned_test_beside_the_readings_and_leaves_decoders_out() -> None:
    rows = [row("baseline", None), row("words", -0.01), row("words", -0.03, decoder="crm")]
    rows[2] = replace(rows[2], family="decoders")
    line = protocol_table({"words": Readings(-0.012, 0.003, 0.004, 0.005)}, rows).splitlines()[2:]
    assert len(line) == 1
    assert "-1.00 [-2.00, +0.00] | -1.20 | +0.30 | +0.40 | +0.50" in line[0]


def test_the_last_epoch_stands_beside_the_chosen_one() -> None:
    some = study()["cross_entropy"]
    models = {"cross_entropy": {0: with_curve(some[0], 0.40, 0.60, 0.58), 1: with_curve(some[1], 0.50, 0.70, 0.61)}}
    (found,) = epochs(models).values()
    assert (found.chosen.mean, found.last.mean) == pytest.approx((0.65, 0.595))
    assert "| cross_entropy | 65.00 ± 7.07 | 59.50 ± 2.12 | 5.50 |" in epoch_table(epochs(models))
