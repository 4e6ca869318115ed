"""What a model costs beyond the baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.comparison.costs import Cost, costs
from pipeline.comparison.records import RunRecord
from pipeline.comparison.tables import cost_table
from tests.factories import study

RECIPE = {"epochs": 6, "self_distillation": 0.0, "sizes": [48], "augment": {"cutout": 0.0}}


def trained(settings: dict[str, Any], flop: int) -> dict[int, RunRecord]:
    return {
        seed: replace(run, metrics={**run.metrics, "settings": settings, "training": {"flop": flop + seed}})
        for seed, run in study()["cross_entropy"].items()
    }


def test_a_setting_is_a_number_that_the_baseline_has_not_or_has_at_zero() -> None:
    smoothed = {"options": {"label_smoothing": 0.1}}
    found = costs(
        {
            "baseline": trained({"loss": smoothed, "learning_rate": 0.1, "recipe": RECIPE}, 99),
            # Without smoothing, at another rate: nothing was added.
            "plain": trained(
                {"loss": {"options": {"label_smoothing": 0.0}}, "learning_rate": 0.3, "recipe": RECIPE}, 99
            ),
            # The recipe's own number is switched on; a name, a switch and a zero are no numbers to choose.
            "student": trained(
                {
                    "loss": {**smoothed, "memory": {"kind": "mean", "weight": 0.3, "permuted": True, "margin": 0.0}},
                    "learning_rate": 0.1,
                    "recipe": RECIPE | {"self_distillation": 0.8, "epochs": 12},
                },
                199,
            ),
            "hog": trained({"loss": {"options": {"C": 0.1, "stumps": 600}}}, 7),
        },
        "baseline",
    )
    assert found == {"baseline": Cost(1, 0), "plain": Cost(1, 0), "student": Cost(2, 2), "hog": Cost(None, 2)}
    assert cost_table(found).splitlines()[-2:] == ["| student | 2.00 | 2 |", "| hog |  | 2 |"]
