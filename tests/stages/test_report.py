"""The study's pages: what is written follows from the runs, and what is committed is what would be written."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from stages import report
from stages.report import answer, contrast_table, fill, require_one_study
from tests.stages.test_findings import study

ROOT = Path(__file__).parents[2]


def row(model: str, difference: float | None, p: float = 0.5) -> dict[str, Any]:
    against = {} if difference is None else {
        "difference": difference, "low": difference - 0.01, "high": difference + 0.01, "p_holm": p, "detectable": 0.014,
    }  # fmt: skip
    return {
        "model": model, "decoder": "argmax", "seeds": [0], "paired_seeds": [1, 2],
        "val.accuracy": {"mean": 0.7}, "test.accuracy": {"mean": 0.7, **against},
    }  # fmt: skip


def told(difference: float, p: float) -> str:
    rows = [row("cross_entropy", None), row("cosine_one_hot", 0.05, 0.001), row("w2v_cosine", difference, p)]
    return answer(rows, study())


def test_a_loss_that_the_test_does_not_confirm_is_not_called_better() -> None:
    text = told(0.012, 0.06)
    assert "None of 1 losses on label words beat `cross_entropy`" in text
    assert "The best on PublicTest, `w2v_cosine`, differs by +1.20 points on PrivateTest" in text
    assert "(95 % interval +0.20 to +2.20, Holm-corrected p 0.060, 2 seeds)" in text
    assert "None is significantly worse" in text


def test_a_loss_that_the_test_confirms_is_called_better_or_worse() -> None:
    assert "1 of 1 losses on label words beat `cross_entropy`" in told(0.012, 0.04)
    assert "1 of 1 are significantly worse" in told(-0.012, 0.0004)
    assert "p < 0.001" in told(-0.012, 0.0004)


def test_controls_are_no_losses_on_label_words() -> None:
    rows = [row("cross_entropy", None), row("cosine_one_hot", 0.05, 0.001), row("w2v_permuted", 0.05, 0.001)]
    assert "No loss on label words has been run yet" in answer(rows, study())


def test_the_contrasts_have_a_test_of_their_own() -> None:
    models = study()
    table = contrast_table(models, 300).splitlines()
    assert [line.split("|")[1:4] for line in table[2:]] == [
        [" w2v_cosine ", " cosine_one_hot ", " 1 "], [" w2v_cosine ", " w2v_permuted ", " 1 "],
    ]  # fmt: skip
    mine, theirs = (models[name][1].right["argmax"].mean() for name in ("w2v_cosine", "cosine_one_hot"))
    assert f"| {100 * (mine - theirs):+.2f} [" in table[2]


def test_runs_of_another_recipe_or_rate_are_refused() -> None:
    models = study()
    require_one_study(models)
    odd = models["w2v_cosine"][5]
    models["w2v_cosine"][5] = replace(
        odd, metrics={**odd.metrics, "settings": {"recipe": "fast", "loss": "other"}}
    )
    with pytest.raises(UserError, match=r"w2v_cosine-5.json was trained with other settings"):
        require_one_study(models)
    models["w2v_cosine"] = {0: replace(odd, metrics={**odd.metrics, "training": {"precision": "fp32"}})}
    with pytest.raises(UserError, match=r"w2v_cosine-0.json was trained with other settings"):
        require_one_study(models)


def test_blocks_are_filled_and_everything_else_stays() -> None:
    page = "# A page\n<!-- begin a -->\nold\n<!-- end a -->\ntext\n<!-- begin b -->\n<!-- end b -->\n"
    filled = fill(page, {"a": "1\n2", "b": "3"}, Path("page.md"))
    assert filled == (
        "# A page\n<!-- begin a -->\n1\n2\n<!-- end a -->\ntext\n<!-- begin b -->\n3\n<!-- end b -->\n"
    )
    assert fill(filled, {"a": "1\n2", "b": "3"}, Path("page.md")) == filled


def test_a_block_that_nothing_fills_is_an_error() -> None:
    with pytest.raises(UserError, match=r"page.md: there is no block 'c'; there are a, b"):
        fill("<!-- begin c --><!-- end c -->", {"a": "", "b": ""}, Path("page.md"))


def test_the_committed_pages_are_what_the_committed_runs_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    shutil.copytree(ROOT / report.STUDY / "runs", tmp_path / report.STUDY / "runs")
    if (rates := ROOT / report.STUDY / "learning_rates.json").exists():
        shutil.copyfile(rates, tmp_path / report.STUDY / "learning_rates.json")
    monkeypatch.chdir(tmp_path)
    report.main()
    for file in written:
        assert (tmp_path / file).read_text() == (ROOT / file).read_text(), f"{file}: run `make report`"


def test_without_the_baseline_there_is_nothing_to_compare_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="has no run of baseline"):
        report.main()
