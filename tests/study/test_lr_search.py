"""The search for learning rates: which rate comes next, and how the trials are shown."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import config
from pipeline.config import SearchParams
from pipeline.data.fer import LABELS
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.labels.targets import RANDOM_DIMENSIONS, SOURCES, TargetSpec, Training
from pipeline.study import lr_search, publish
from pipeline.study.lr_search import best, finalists, following, kind, rate_at, representatives, table
from pipeline.study.trial import kept
from pipeline.training.recipe import Recipe
from pipeline.workspace import RunKey

FIVE = SearchParams(start=0.15, factor=3.0, trials=5, epochs=3, finalists=2, seed=0)


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
    nearest = min((rate_at(step, FIVE) for step in range(-3, 4)), key=lambda rate: abs(math.log(rate / optimum)))
    assert max(found, key=found.__getitem__) == pytest.approx(nearest)


def test_a_bracketed_rate_ends_the_search_before_the_budget_does() -> None:
    assert list(searched(lambda rate: -abs(math.log(rate / 0.15)), FIVE)) == [0.15, 0.05, 0.45]


def test_a_start_of_any_number_of_digits_is_a_rate_of_the_search() -> None:
    """Rates have two digits, the first as well: another one would never be found among them."""
    found = searched(lambda rate: -abs(math.log(rate / 0.1249)), replace(FIVE, start=0.1249))
    assert list(found) == [0.12, 0.042, 0.37]


def test_the_budget_ends_the_search() -> None:
    assert list(searched(lambda rate: rate, FIVE)) == [0.15, 0.05, 0.45, 1.3, 4.0]


def test_a_training_that_diverged_is_worse_than_any() -> None:
    found = searched(lambda rate: lr_search.WORST if rate > 0.1 else 0.14, FIVE)
    assert max(found, key=lambda rate: found[rate]) <= 0.05


def test_the_two_best_rates_are_finalists() -> None:
    assert finalists({0.1: 0.6, 0.033: 0.7, 0.3: 0.6, 0.9: lr_search.WORST}, FIVE) == [0.033, 0.1]


def test_whole_trainings_go_on_until_the_best_of_them_is_bracketed() -> None:
    """The budget is that of the short trainings."""
    assert following({0.15: 0.6, 0.05: 0.61}, FIVE) == 0.017
    assert following({0.15: 0.62, 0.05: 0.61}, FIVE) == 0.45
    assert following({0.15: 0.6, 0.05: 0.61, 0.017: 0.6}, FIVE) is None
    assert following({rate_at(n, FIVE): n for n in range(5)}, FIVE) is None


def test_with_one_finalist_the_short_trainings_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = config.load(Path(__file__).parents[2] / "params.yaml")
    params = replace(params, search=replace(params.search, finalists=1))
    monkeypatch.setattr(lr_search, "trial", lambda model, *_: {"val_accuracy": 0.5 - abs(model.learning_rate - 0.1)})
    file = tmp_path / "learning_rates.json"
    lr_search.search_one(file, "baseline", params)
    assert {one["recipe"]["epochs"] for one in kept(file)} == {params.search.epochs}
    assert best(kept(file), "baseline") == 0.1


def run(loss: str, rate: float, accuracy: float | None, epochs: int = 3) -> dict[str, Any]:
    return {
        "loss": loss, "model": f"{loss}_model", "learning_rate": rate, "val_accuracy": accuracy,
        "recipe": {"epochs": epochs},
    }  # fmt: skip


def test_the_table_marks_the_chosen_rate_of_each_model_and_what_diverged() -> None:
    trials = [
        run("a", 0.05, 0.61), run("a", 0.15, 0.615), run("a", 0.45, None),
        run("b", 0.15, 0.3), run("b", 0.05, 0.4), run("b", 0.15, 0.5, 10), run("b", 0.05, 0.45, 10),
    ]  # fmt: skip
    assert table(trials).splitlines() == [
        "| loss | model | epochs | 0.05 | 0.15 | 0.45 |",
        "|---|---|--:|--:|--:|--:|",
        "| a | a_model | 3 | 61.00 | **61.50** | diverged |",
        "| b | b_model | 3 | 40.00 | 30.00 |  |",
        "| b | b_model | 10 | 45.00 | **50.00** |  |",
    ]
    assert best(trials, "a_model") == best(trials, "b_model") == 0.15


def test_the_lowest_of_equally_good_rates_is_best() -> None:
    assert best([run("a", 0.45, 0.6), run("a", 0.15, 0.6)], "a_model") == 0.15


def test_models_that_train_alike_share_their_rate() -> None:
    every = config.load(Path(__file__).parents[2] / "params.yaml").models
    models = {name: model for name, model in every.items() if not model.classifier}
    assert kind(models["w2v_cosine"]) == kind(models["w2v_permuted"])
    assert kind(models["cosine_random"]) == kind(models["w2v_whitened"])
    sharing = [m for m in models.values() if m.targets.endswith((".permuted", ".whitened"))]
    assert len({kind(model) for model in models.values()}) == len(models) - len(sharing)


def test_targets_that_are_alike_have_the_same_length_and_cosines() -> None:
    words = np.random.default_rng(0).normal(size=(len(LABELS), RANDOM_DIMENSIONS)) + 1.0
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    found = {
        name: TargetSpec.parse(name).of(words, 0) for name in ("word2vec", "word2vec.permuted", "word2vec.whitened")
    }
    found["random"] = SOURCES["random"](Training(np.arange(len(LABELS), dtype=np.uint8), None, 0))
    for one, other in (*lr_search.ALIKE.items(), ("word2vec.permuted", "word2vec")):
        assert found[one].shape == found[other].shape
        ours, theirs = (np.sort((found[name] @ found[name].T).ravel()) for name in (one, other))
        np.testing.assert_allclose(ours, theirs, atol=0.2)  # of random directions .06 is usual


def test_the_first_model_of_each_kind_is_searched() -> None:
    params = config.load(Path(__file__).parents[2] / "params.yaml")
    chosen = representatives(params)
    assert [name for name in params.models if name in chosen] == chosen
    networks = [model for model in params.models.values() if not model.classifier]
    assert sorted(map(kind, (params.models[name] for name in chosen))) == sorted(set(map(kind, networks)))
    assert {"baseline", "cosine_one_hot", "w2v_cosine"} <= set(chosen)


def test_a_classifier_without_a_network_has_no_rate_to_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((Path(__file__).parents[2] / "params.yaml").read_bytes())
    with pytest.raises(UserError, match="hog is a classifier without a network"):
        lr_search.search(["baseline", "hog"])
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_search_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that are kept are not made again, in this search or in the next."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    made: list[tuple[float, int]] = []

    def trial(model: config.ModelParams, recipe: Recipe, *_: object) -> dict[str, Any]:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append((model.learning_rate, recipe.epochs))
        optimum = 0.1 if recipe.epochs == 3 else 0.3  # the full length would have another rate
        return {"val_accuracy": 0.5 - 0.1 * abs(math.log(model.learning_rate / optimum))}

    monkeypatch.setattr(lr_search, "trial", trial)
    monkeypatch.setattr(lr_search, "dataset_name", lambda: "drawn")
    done: list[tuple[float, int]] = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            lr_search.search(["baseline"])
        file = Path("results/drawn/learning_rates.json")
        done += made
        assert [(one["learning_rate"], one["recipe"]["epochs"]) for one in json.loads(file.read_text())] == done
        made.clear()
    lr_search.search(["baseline"])
    done += made
    full = config.load().chosen_recipe.epochs
    assert sorted(done) == [(0.033, 3), (0.1, 3), (0.1, full), (0.3, 3), (0.3, full), (0.9, full)]
    assert best(kept(file), "baseline") == 0.3
    assert "**50.00**" in file.with_suffix(".md").read_text()


def test_a_run_of_the_study_stands_for_a_trial_with_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    params = config.load(root / "params.yaml")
    training = {"seconds": 400.0, "flop": 10**14, "device": "cpu"}
    history = [{"val_accuracy": 0.66}, {"val_accuracy": 0.65}]
    write_json(Path("runs/baseline-0.json"), {"history": history, "training": training})

    def trial(*_: object) -> dict[str, Any]:
        return {"val_accuracy": 0.6}

    def is_kept(folder: Path, run_key: RunKey, params: config.Params) -> bool:
        return run_key == RunKey("baseline", 0) and params.models["baseline"].learning_rate == 0.3

    monkeypatch.setattr(lr_search, "trial", trial)
    monkeypatch.setattr(publish, "is_kept", is_kept)
    full = params.chosen_recipe.epochs
    for rate, epochs in ((0.1, full), (0.3, 3), (0.3, full)):
        lr_search.try_rate(Path("learning_rates.json"), "baseline", rate, epochs, params)
    assert [run["val_accuracy"] for run in kept(Path("learning_rates.json"))] == [0.6, 0.6, 0.66]


def test_the_rates_in_params_are_the_winners_of_the_committed_search() -> None:
    root = Path(__file__).parents[2]
    params = config.load(root / "params.yaml")
    trials = lr_search.comparable(kept(root / "results/fer2013/learning_rates.json"), params)
    if not trials:
        pytest.skip("no search is committed yet")
    searched = {kind(params.models[name]): name for name in reversed([run["model"] for run in trials])}
    for name, model in params.models.items():
        if kind(model) in searched:
            assert model.learning_rate == best(trials, searched[kind(model)]), name


def test_the_committed_search_has_whole_trainings_on_both_sides_of_every_winner() -> None:
    folder = Path(__file__).parents[2] / "results/fer2013"
    params = config.load(folder / "params.yaml")
    file, full = folder / "learning_rates.json", params.chosen_recipe.epochs
    for name in lr_search.representatives(params):
        whole = lr_search.accuracies(file, name, full, params)
        assert whole, name
        assert following(whole, params.search) is None, name
        winner = max(whole, key=lambda rate: (whole[rate], -rate))
        assert min(whole) < winner < max(whole), name


def test_the_committed_table_is_that_of_the_committed_trials() -> None:
    folder = Path(__file__).parents[2] / "results/fer2013"
    params = config.load(folder / "params.yaml")
    trials = lr_search.comparable(kept(folder / "learning_rates.json"), params)
    assert (folder / "learning_rates.md").read_text() == table(trials)


def test_a_row_with_a_recipe_of_its_own_is_searched_with_it() -> None:
    params = config.load(Path(__file__).parents[2] / "params.yaml")
    own = lr_search.settings_of("self_distillation", 3, params)["recipe"]
    usual = lr_search.settings_of("baseline", 3, params)["recipe"]
    assert own == usual | {"self_distillation": params.models["self_distillation"].self_distillation}
    assert own != usual


def test_a_trial_of_another_method_is_no_trial_of_this_one(tmp_path: Path) -> None:
    """Choices at their default are not among the settings, so that those of another row may contain all of these."""
    params, file = config.load(Path(__file__).parents[2] / "params.yaml"), tmp_path / "learning_rates.json"
    outcome = {"learning_rate": 0.1, "val_accuracy": 0.6, "seconds": 1.0, "flop": 1, "hardware": "cpu"}
    plain, epochs = lr_search.settings_of("baseline", params.search.epochs, params), params.search.epochs
    write_json(file, [plain | outcome | {"pool": "mean"}])
    assert lr_search.accuracies(file, "baseline", epochs, params) == {}
    assert lr_search.comparable(kept(file), params) == []
    write_json(file, [plain | outcome])
    assert lr_search.accuracies(file, "baseline", epochs, params) == {0.1: 0.6}
    assert lr_search.comparable(kept(file), params) == kept(file)
