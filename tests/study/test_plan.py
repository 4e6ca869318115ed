"""study.yaml: what a block stands for, and what is wrong with one, in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import config
from pipeline.errors import UserError
from pipeline.study import plan
from pipeline.study.lr_search import sources

ROOT = Path(__file__).parents[2]
BLOCK: dict[str, Any] = {
    "question": "Why?",
    "recipe": "short",
    "seeds": [0, 1],
    "baseline": "baseline",
    "models": ["baseline", "w2v_cosine", "w2v_permuted"],
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())


def written(**changes: Any) -> None:
    Path("study.yaml").write_text(yaml.safe_dump({"blocks": {"T": BLOCK | changes}}))


def test_a_block_has_the_settings_of_params_yaml_but_for_what_it_names() -> None:
    written(labels=["given.few10", "votes.drawn"], models=["baseline", "cross_entropy"], search={"trials": 2})
    found, params = plan.parse(plan.settings("T"), "T"), config.load()
    assert found.grid.models == (
        "baseline_few10", "cross_entropy_few10", "baseline_votes_drawn", "cross_entropy_votes_drawn",
    )  # fmt: skip
    assert found.grid.seeds == (0, 1)
    assert (found.chosen_recipe, found.compare.baseline) == (params.recipes["short"], "baseline_few10")
    assert (found.data, found.labels, found.evaluate) == (params.data, params.labels, params.evaluate)
    assert (found.search.trials, found.search.epochs) == (2, params.search.epochs)
    row, model = found.models["cross_entropy_few10"], params.models["cross_entropy"]
    assert row.of_training == model.of_training | {"labels": "given.few10"}
    assert list(plan.load().block("T").groups()) == ["baseline_few10", "baseline_votes_drawn"]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"recipe": "slow"}, "'blocks.T.recipe' is 'slow'"),
        ({"models": ["baseline", "w2v"]}, "'blocks.T.models[1]' is 'w2v'"),
        ({"models": ["baseline", "noisy20"], "labels": ["given.few10"]}, "'blocks.T.models[1]' is noisy20"),
        ({"models": ["baseline", "hog"], "labels": ["given.few10"]}, "'models.hog_few10.labels'"),
        ({"models": ["baseline", "original_first"], "labels": ["votes"]}, "'models.original_first_votes.labels'"),
        ({"baseline": "w2v_abs"}, "'blocks.T.baseline' is 'w2v_abs'"),
        ({"labels": ["given.fewer"]}, "'blocks.T.labels[0]' is 'given.fewer'"),
        ({"seeds": []}, "'blocks.T.seeds'"),
        ({"seed": [0]}, "'blocks.T.seed'"),
        ({"question": ""}, "'blocks.T.question'"),
        ({"search": {"at": {"given.few10": []}}}, "'blocks.T.search.at'"),
        ({"search": {"at": {"given.few10": []}}, "labels": ["given.few10", "given.few20"]}, "'blocks.T.search.at'"),
        ({"search": {"models": ["w2v_abs"]}}, "'blocks.T.search.models[0]'"),
        ({"search": {"trials": 1}}, "'search.finalists'"),
        ({"contrasts": {"T1": {"pairs": {"w2v_abs": ["baseline"]}}}}, "'blocks.T.contrasts.T1.pairs'"),
        ({"contrasts": {"T1": {"pairs": {"w2v_cosine": ["w2v_abs"]}}}}, "pairs.w2v_cosine[0]'"),
        ({"contrasts": {"T1": {"pairs": {"w2v_cosine": []}}}}, "pairs.w2v_cosine'"),
        ({"contrasts": {"T1": {"pairs": {"w2v_cosine": ["baseline"]}, "metric": "test.recall.disgust"}}}, "T1.metric'"),
        ({"contrasts": {"T1": {"pairs": {"w2v_cosine": ["baseline"]}, "metric": "test.ece_calibrated"}}}, "T1.metric'"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], where: str) -> None:
    written(**changes)
    with pytest.raises(UserError) as error:
        plan.settings("T")
    assert "study.yaml" in str(error.value)
    assert where in str(error.value)


@pytest.mark.parametrize("name", ["runs", "figures", "t", "TT", "1", "grid"])
def test_the_name_of_a_block_is_no_other_folder_of_results(name: str) -> None:
    Path("study.yaml").write_text(yaml.safe_dump({"blocks": {name: BLOCK}}))
    with pytest.raises(UserError, match=f"blocks.{name}"):
        plan.load()


def test_rows_of_one_kind_share_a_search() -> None:
    at = {"given.few20": ["given.few10"], "given.few30": []}
    written(labels=["given.few10", "given.few20", "given.few30"], search={"at": at})
    found = sources(plan.load().block("T"), plan.parse(plan.settings("T"), "T"))
    assert found["w2v_permuted_few10"] == found["w2v_cosine_few10"] == found["w2v_cosine_few20"] == "w2v_cosine_few20"
    assert found["w2v_permuted_few30"] == "w2v_cosine_few30"
    assert set(found.values()) == {f"{model}_few{n}" for model in ("baseline", "w2v_cosine") for n in (20, 30)}


def test_only_the_named_models_are_searched() -> None:
    written(search={"models": ["w2v_permuted"]})
    assert sources(plan.load().block("T"), plan.parse(plan.settings("T"), "T")) == {"w2v_permuted": "w2v_permuted"}


def test_landmarks_are_looked_for_where_a_row_needs_them() -> None:
    written()
    assert plan.settings("T")["landmarks"]["source"] == "none"
    written(models=["baseline", "ldl_alsg"])
    assert plan.settings("T")["landmarks"]["source"] == "auto"


def on_fer2013(name: str) -> config.Params:
    """The settings of a committed block where FER-2013 and dlib are at hand."""
    text = Path("params.yaml").read_text().replace("source: synthetic", "source: archive", 1)
    text = text.replace('path: ""', "path: a.csv", 1).replace('votes: ""', "votes: b.csv", 1)
    Path("params.yaml").write_text(text.replace("source: auto", "source: dlib", 1))
    return plan.parse(plan.settings(name), name)


@pytest.mark.parametrize("name", plan.load(ROOT / "study.yaml").blocks)
def test_the_committed_blocks_fit_params_yaml(name: str) -> None:
    Path("study.yaml").write_bytes((ROOT / "study.yaml").read_bytes())
    params, block = on_fer2013(name), plan.load().block(name)
    assert set(sources(block, params)) <= set(params.models)
    assert len(params.models) == len(block.rows)


TWINS = {
    "w2v_softmax": "softmax",
    "w2v_cosine_ce": "cosine_ce",
    "w2v_soft_labels": "soft_labels",
    "w2v_hinge": "hinge",
    "w2v_abs": "abs",
}


@pytest.mark.parametrize(("words", "twin"), TWINS.items())
def test_twins_differ_in_their_targets_alone(words: str, twin: str) -> None:
    models = config.load().models
    for kind, targets in (("one_hot", "one_hot"), ("permuted", "word2vec.permuted")):
        other = models[f"{twin}_{kind}"]
        assert other.targets == targets
        assert (other.loss, other.options, other.choices) == (
            models[words].loss, models[words].options, models[words].choices,
        )  # fmt: skip


def test_contrasts_compare_rows_of_the_same_labels() -> None:
    pairs = {"w2v_cosine": ["baseline", "w2v_permuted"]}
    written(labels=["given.few10", "given.few25"], contrasts={"T1": {"pairs": pairs}})
    assert plan.load().block("T").pairs("T1") == [
        ("w2v_cosine_few10", "baseline_few10"),
        ("w2v_cosine_few10", "w2v_permuted_few10"),
        ("w2v_cosine_few25", "baseline_few25"),
        ("w2v_cosine_few25", "w2v_permuted_few25"),
    ]


def test_the_families_are_as_large_as_the_plan_says() -> None:
    blocks = plan.load(ROOT / "study.yaml").blocks
    page = (ROOT / "docs/plan.md").read_text()
    for block in blocks.values():
        for family in block.contrasts:
            said = re.search(rf"[Ff]amily {family}\b[^.]*?, (\d+) contrasts", page)
            assert said, family
            assert len(block.pairs(family)) == int(said[1]), family
