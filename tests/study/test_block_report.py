"""The tables of a block: each family of planned contrasts has a test of its own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import config
from pipeline.comparison import findings
from pipeline.comparison.findings import RowId
from pipeline.comparison.paired import compare
from pipeline.comparison.records import RunRecord, entries
from pipeline.comparison.rows import MetricSummary
from pipeline.study import block_report
from pipeline.study.block_report import contrasts, family_text, machines, missing, section
from pipeline.study.html_report import OF_ALL
from pipeline.study.plan import Block, Contrasts
from tests.factories import row, study

BLOCK = Block(
    question="Why?",
    recipe="short",
    seeds=(0, 1, 2),
    baseline="cross_entropy",
    models=("cross_entropy", "cosine_one_hot", "w2v_cosine", "mixup"),
    contrasts={
        "T1": Contrasts({"w2v_cosine": ("cross_entropy", "cosine_one_hot"), "mixup": ("cross_entropy",)}),
        "T2": Contrasts({"w2v_cosine": ("cross_entropy",)}, "test.per_class.disgust.recall"),
    },
)


@pytest.mark.parametrize(("family", "metric"), [("T1", "test.accuracy"), ("T2", "test.per_class.disgust.recall")])
def test_a_family_of_contrasts_is_corrected_for_itself_as_far_as_it_has_been_run(family: str, metric: str) -> None:
    models = study()
    text = family_text(family, BLOCK, contrasts(family, BLOCK, models))
    heading, *_, last = text.splitlines()
    done = [pair for pair in BLOCK.pairs(family) if "mixup" not in pair]
    assert f"{len(done)} of {len(BLOCK.pairs(family))}" in heading
    tested = findings.contrasts(models, [(RowId(one), RowId(other)) for one, other in done], [metric])
    assert len(tested) == len(done)
    assert f"{100 * tested[-1].row.test(metric).difference:+.2f}" in last
    assert f"{tested[-1].row.test(metric).p_holm:.3f}" in last
    assert "mixup" not in text


def test_the_rows_of_a_block_have_every_measure_that_the_plan_promises() -> None:
    models = study()
    rows = compare(entries(models, "cross_entropy"), 100)
    text = "\n\n".join(section(models, rows, "cross_entropy", "few10"))
    tables = {part.splitlines()[0]: part for part in re.split(r"^##+ ", text, flags=re.MULTILINE)[1:]}
    differences, recalls = (tables[name] for name in tables if name.endswith("`cross_entropy`"))
    words = next(row for row in rows if row.model == "w2v_cosine")
    for part, metric in ((differences, "test_clean.accuracy"), (recalls, "test.per_class.disgust.recall")):
        (line,) = (line for line in part.splitlines() if line.startswith("| w2v_cosine |"))
        assert f"{100 * words.test(metric).difference:+.2f} [" in line
    assert not any(name.startswith("Ambiguous") for name in tables), "these runs have no votes"
    voted = [replace(one, metrics={**one.metrics, "test.pairs.exact": MetricSummary(0.4)}) for one in rows]
    assert "40.00" in "\n".join(section(models, voted, "cross_entropy", ""))


def test_the_figure_has_a_line_for_each_model_over_the_labels_or_a_forest_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(block_report, "over_labels", lambda *given: drawn.update(lines=given))
    monkeypatch.setattr(block_report, "difference_forest", lambda *given: drawn.update(forest=given))
    first, second = "given.few10", "given.few100"
    labelled = replace(BLOCK, models=("cross_entropy", "mixup"), labels=(first, second), contrasts={})
    rows = [
        row("cross_entropy_few10", None), replace(row("mixup_few10", 0.02), family="controls"),
        replace(row("mixup_few10", 0.9, decoder="crm.human"), family="decoders"),
        row("cross_entropy_few100", None),
    ]  # fmt: skip
    block_report.draw(rows, labelled, tmp_path, {})
    lines, labels, baseline, path = drawn["lines"]
    assert labels == ["few10", "few100"]
    assert {model: [*found] for model, found in lines.items()} == {
        "cross_entropy": ["few10", "few100"], "mixup": ["few10"],
    }  # fmt: skip
    assert lines["mixup"]["few10"].test().difference == 0.02
    assert (baseline, path.parent) == ("cross_entropy", tmp_path)
    assert path.stem in OF_ALL, "the page must know the figure"

    plain = [row("cross_entropy", None), replace(row("mixup", -0.01), family="controls")]
    models = study()
    block_report.draw(plain, BLOCK, tmp_path, models)
    tested, baseline, path, prices = drawn["forest"]
    assert {name: test.difference for name, test in tested.items()} == {"mixup": -0.01}
    assert (baseline, path) == ("cross_entropy", tmp_path / "differences.png")
    assert prices.keys() == models.keys()


def test_the_page_says_which_seeds_had_another_machine() -> None:
    run = study()["w2v_cosine"][5]

    def trained(**machine: object) -> RunRecord:
        settings: dict[str, Any] = {"recipe": {}} if machine else {}
        return replace(run, metrics={**run.metrics, "settings": settings, "machine": {"cores": 2, **machine}})

    half, whole = trained(precision="bf16", threads=1), trained(precision="fp32")
    assert machines({"a": {0: half, 1: half}, "b": {0: half}, "hog": {0: trained()}}) == []
    (sentence,) = machines({"a": {0: half, 1: whole, 10: whole}, "b": {0: half, 2: half}})
    assert "seeds 0, 2: precision bf16, threads 1; seeds 1, 10: precision fp32, threads unknown" in sentence
    assert "cores" not in sentence


def test_the_page_names_the_planned_runs_that_are_missing() -> None:
    models = study()
    run = models["w2v_cosine"][5]
    complete = {name: dict.fromkeys(BLOCK.seeds, run) for name in BLOCK.models}
    assert missing(BLOCK, complete) == []
    lacking = complete | {"mixup": {1: run}}
    del lacking["w2v_cosine"]
    (sentence,) = missing(BLOCK, lacking)
    assert sentence.startswith("5 of 12 ")
    assert "`w2v_cosine` 0, 1, 2; `mixup` 0, 2." in sentence


def test_kinds_of_labels_without_a_baseline_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "load", lambda path: None)
    run = study()["w2v_cosine"][5]
    monkeypatch.setattr(block_report, "kept_runs", lambda *_: {"w2v_cosine": {0: run}})
    assert not block_report.report_in(tmp_path, "T", BLOCK)
    assert "cross_entropy has no runs yet" in capsys.readouterr().out
    assert not [*tmp_path.iterdir()]
