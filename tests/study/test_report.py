"""The study's pages: what is written follows from the runs, and what is committed is what would be written."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from pipeline import config
from pipeline.comparison.records import RunRecord
from pipeline.comparison.rows import read_rows
from pipeline.errors import UserError
from pipeline.study import report
from pipeline.study.report import fill, kept_runs, require_one_machine, require_one_study
from tests.factories import study

ROOT = Path(__file__).parents[2]
STUDY = Path("results/fer2013")


def test_runs_of_another_recipe_or_rate_are_refused() -> None:
    params = config.load(ROOT / "params.yaml")
    model = params.model("w2v_cosine")
    settings = json.loads(json.dumps({
        "loss": {"name": model.loss, "options": model.options, "targets": model.targets},
        "learning_rate": model.learning_rate,
        "recipe": {"name": params.recipe, **asdict(params.chosen_recipe)},
    }))  # fmt: skip
    run = study()["w2v_cosine"][5]

    def trained(**changes: Any) -> RunRecord:
        return replace(run, metrics={**run.metrics, "settings": settings, **changes})

    require_one_study({"w2v_cosine": {0: trained(), 5: trained()}}, params, STUDY)
    odd = trained(settings=settings | {"learning_rate": 0.7})
    with pytest.raises(UserError, match=r"w2v_cosine-5.json was trained with other settings than"):
        require_one_study({"w2v_cosine": {0: trained(), 5: odd}}, params, STUDY)
    with pytest.raises(UserError, match=r"than results/B/params.yaml has: .*`fer sweep --block B`"):
        require_one_study({"w2v_cosine": {5: odd}}, params, STUDY, Path("results/B/params.yaml"), "fer sweep --block B")
    with pytest.raises(UserError, match=r"a_model-0.json was trained with other settings than"):
        require_one_study({"a_model": {0: trained()}}, params, STUDY)


def test_networks_that_are_compared_are_of_one_kind_of_machine() -> None:
    run = study()["w2v_cosine"][5]

    def trained(threads: int) -> RunRecord:
        return replace(run, metrics={**run.metrics, "settings": {"recipe": {}}, "machine": {"threads": threads}})

    mixed = {"baseline": {0: trained(1), 5: trained(2)}, "w2v_cosine": {0: trained(1), 5: trained(2)}}
    require_one_machine(mixed, STUDY, each_seed=True)
    with pytest.raises(UserError, match=r"baseline-0 and baseline-5 were trained with different numerics"):
        require_one_machine(mixed, STUDY)
    mixed["w2v_cosine"][5] = trained(1)
    with pytest.raises(UserError, match=r"baseline-5 and w2v_cosine-5 were trained with different numerics"):
        require_one_machine(mixed, STUDY, each_seed=True)


def test_a_row_without_a_network_may_be_of_another_machine_but_not_of_other_options() -> None:
    params = config.load(ROOT / "params.yaml")
    network, hog = params.model("w2v_cosine"), params.model("hog")
    settings = {
        "loss": {"name": network.loss, "options": network.options, "targets": network.targets},
        "learning_rate": network.learning_rate,
        "recipe": json.loads(json.dumps({"name": params.recipe, **asdict(params.chosen_recipe)})),
    }
    run = study()["w2v_cosine"][5]
    trained = replace(run, metrics={**run.metrics, "settings": settings})

    def fitted(cost: float) -> RunRecord:
        loss = {"name": "squared_hinge", "options": {"C": cost}, "targets": "one_hot", "classifier": "hog"}
        return replace(run, metrics={**run.metrics, "settings": {"loss": loss}, "machine": {"scikit-learn": "1"}})

    rows = {"w2v_cosine": {0: trained}, "hog": {0: fitted(hog.options["C"])}}
    require_one_study(rows, params, STUDY)
    require_one_machine(rows, STUDY)
    with pytest.raises(UserError, match=r"hog-0.json was trained with other settings than"):
        require_one_study({"w2v_cosine": {0: trained}, "hog": {0: fitted(77.0)}}, params, STUDY)


def test_a_model_without_a_seed_of_the_baselines_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    models = study() | {"w2v_cosine": {7: study()["w2v_cosine"][5]}}
    assert list(report.comparable(models, "cross_entropy", STUDY)) == [
        "cross_entropy",
        "cosine_one_hot",
        "w2v_permuted",
    ]
    assert "w2v_cosine is left out" in capsys.readouterr().out


def test_blocks_are_filled_and_everything_else_stays() -> None:
    page = "# A page\n<!-- begin a -->\nold\n<!-- end a -->\ntext\n<!-- begin b -->\n<!-- end b -->\n"
    filled = fill(page, {"a": "1\n2", "b": "3"}, Path("page.md"))
    assert filled == ("# A page\n<!-- begin a -->\n1\n2\n<!-- end a -->\ntext\n<!-- begin b -->\n3\n<!-- end b -->\n")
    assert fill(filled, {"a": "1\n2", "b": "3"}, Path("page.md")) == filled


def test_a_block_that_nothing_fills_is_an_error() -> None:
    with pytest.raises(UserError, match=r"page.md: unknown block 'c'. Valid: a, b"):
        fill("<!-- begin c --><!-- end c -->", {"a": "", "b": ""}, Path("page.md"))


@pytest.mark.parametrize("text", ["<!-- begin a -->", "<!-- begin a --><!-- end b -->", "<!-- end a -->"])
def test_a_block_without_end_or_beginning_is_an_error(text: str) -> None:
    with pytest.raises(UserError, match=r"page.md: a block has a beginning without its end"):
        fill(text, {"a": "", "b": ""}, Path("page.md"))


@pytest.mark.medium
def test_the_committed_pages_are_what_the_committed_runs_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make report` in a copy changes no text, so no number in the pages is out of date or made by hand."""
    written = [
        *report.PAGES,
        report.STUDY / "ablation.md",
        report.STUDY / "ablation.json",
        report.STUDY / "prediction.csv",
    ]
    for page in report.PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / page, tmp_path / page)
    for folder in (report.STUDY, report.AGAIN):
        shutil.copytree(ROOT / folder / "runs", tmp_path / folder / "runs")
    for name in ("params.yaml", "speedrun.json", "learning_rates.json"):
        shutil.copyfile(ROOT / report.STUDY / name, tmp_path / report.STUDY / name)
    monkeypatch.chdir(tmp_path)
    logged: list[tuple[Any, ...]] = []
    monkeypatch.setattr(report, "log_study", lambda *arguments: logged.append(arguments))
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    report.report()
    ((folder, models, rows, _),) = logged  # for MLflow
    assert folder == report.STUDY
    assert sum(len(runs) for runs in models.values()) == len(list((folder / "runs").glob("*.json")))
    assert rows == read_rows(report.STUDY / "ablation.json")
    for file in written:
        assert (tmp_path / file).read_text() == (ROOT / file).read_text(), f"{file}: run `make report`"


def test_without_the_baseline_there_is_nothing_to_compare_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / report.STUDY).mkdir(parents=True)
    shutil.copyfile(ROOT / "params.yaml", tmp_path / report.STUDY / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="has no run of baseline"):
        report.report()


def test_the_settings_of_the_committed_study_are_those_of_the_repository() -> None:
    """Whoever reproduces a row with the committed params.yaml trains what the row reports."""
    here, there = (config.load(folder / "params.yaml") for folder in (ROOT, ROOT / report.STUDY))
    assert there.models.items() <= here.models.items()
    assert (here.recipe, here.chosen_recipe) == (there.recipe, there.chosen_recipe)
    assert here.labels == there.labels


@pytest.mark.parametrize("name", ["baseline-0 (copy)", "baseline-", "-0", "notes", "baseline-0_old"])
def test_a_file_that_is_no_run_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.json").write_text("{}")
    with pytest.raises(UserError, match=r"move it elsewhere") as error:
        kept_runs(tmp_path, [])
    assert name in str(error.value)
