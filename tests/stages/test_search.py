"""The search for learning rates: which rate comes next, and how the trials are shown."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import config
from pipeline.config import SearchParams
from stages import search
from stages.search import best, following, rate_at, representatives, table

FIVE = SearchParams(start=0.15, factor=3.0, trials=5, epochs=3, seed=0)


def searched(accuracy: Callable[[float], float], settings: SearchParams) -> dict[float, float]:
    found: dict[float, float] = {}
    while (rate := following(found, settings)) is not None:
        assert rate not in found
        found[rate] = accuracy(rate)
    return found


@pytest.mark.parametrize("optimum", [0.006, 0.02, 0.05, 0.15, 0.4, 1.0])
def test_the_search_walks_to_the_best_rate_and_brackets_it(optimum: float) -> None:
    found = searched(lambda rate: -abs(math.log(rate / optimum)), FIVE)
    assert len(found) <= 5
    nearest = min(
        (rate_at(step, FIVE) for step in range(-3, 4)), key=lambda rate: abs(math.log(rate / optimum))
    )
    assert max(found, key=found.__getitem__) == pytest.approx(nearest)


def test_a_bracketed_rate_ends_the_search_before_the_budget_does() -> None:
    assert list(searched(lambda rate: -abs(math.log(rate / 0.15)), FIVE)) == [0.15, 0.05, 0.45]


def test_the_budget_ends_the_search() -> None:
    assert list(searched(lambda rate: rate, FIVE)) == [0.15, 0.05, 0.45, 1.3, 4.0]


def test_a_training_that_diverged_is_worse_than_any() -> None:
    found = searched(lambda rate: search.WORST if rate > 0.1 else 0.14, FIVE)
    assert max(found, key=lambda rate: found[rate]) <= 0.05


def run(loss: str, rate: float, accuracy: float | None) -> dict[str, Any]:
    return {"loss": loss, "model": f"{loss}_model", "learning_rate": rate, "val_accuracy": accuracy}


def test_the_table_marks_the_best_rate_of_each_loss_and_what_diverged() -> None:
    trials = [run("a", 0.05, 0.61), run("a", 0.15, 0.615), run("b", 0.15, 0.3), run("b", 0.45, None)]
    assert table(trials).splitlines() == [
        "| loss | model | 0.05 | 0.15 | 0.45 |",
        "|---|---|--:|--:|--:|",
        "| a | a_model | 61.00 | **61.50** |  |",
        "| b | b_model |  | **30.00** | diverged |",
    ]
    assert best(trials, "a") == 0.15


def test_the_lowest_of_equally_good_rates_is_best() -> None:
    assert best([run("a", 0.45, 0.6), run("a", 0.15, 0.6)], "a") == 0.15


def test_one_model_stands_for_each_loss() -> None:
    params = config.load(Path(__file__).parents[2] / "params.yaml")
    chosen = representatives(params)
    assert len(chosen) == len({params.models[name].loss for name in params.models})
    assert len({params.models[name].loss for name in chosen}) == len(chosen)


def test_a_search_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that are kept are not made again, in this search or in the next."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    made: list[float] = []

    def trial(model: config.ModelParams, recipe: object, seed: int, wishes: object) -> dict[str, Any]:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(model.learning_rate)
        return {"val_accuracy": 0.5 - abs(math.log(model.learning_rate / 0.1))}

    monkeypatch.setattr(search, "trial", trial)
    monkeypatch.setattr(search, "dataset_name", lambda: "drawn")
    with pytest.raises(KeyboardInterrupt):
        search.main("baseline")
    kept = json.loads(Path("results/drawn/learning_rates.json").read_text())
    assert [one["learning_rate"] for one in kept] == made
    first, made[:] = list(made), []
    search.main("baseline")
    assert not set(first) & set(made)
    assert best(search.kept(Path("results/drawn/learning_rates.json")), "cross_entropy") == 0.1
    assert "**50.00**" in Path("results/drawn/learning_rates.md").read_text()


def test_the_rates_in_params_are_the_winners_of_the_committed_search() -> None:
    root = Path(__file__).parents[2]
    params = config.load(root / "params.yaml")
    trials = search.comparable(search.kept(root / "results/fer2013/learning_rates.json"), params)
    if not trials:
        pytest.skip("no search is committed yet")
    searched = {run["loss"] for run in trials}
    for name, model in params.models.items():
        if model.loss in searched:
            assert model.learning_rate == best(trials, model.loss), name
