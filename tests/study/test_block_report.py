"""The tables of a block: each family of planned contrasts has a test of its own."""

from __future__ import annotations

import pytest

from pipeline.comparison import findings
from pipeline.comparison.findings import RowId
from pipeline.study.block_report import planned
from pipeline.study.plan import Block, Contrasts
from tests.factories import study

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


@pytest.mark.parametrize(
    ("family", "metric"), [("T1", "test.accuracy"), ("T2", "test.per_class.disgust.recall")]
)
def test_a_family_of_contrasts_is_corrected_for_itself_as_far_as_it_has_been_run(
    family: str, metric: str
) -> None:
    models = study()
    text = planned(family, BLOCK, models)
    heading, *_, last = text.splitlines()
    done = [pair for pair in BLOCK.pairs(family) if "mixup" not in pair]
    assert f"{len(done)} of {len(BLOCK.pairs(family))}" in heading
    tested = findings.contrasts(models, [(RowId(one), RowId(other)) for one, other in done], [metric])
    assert len(tested) == len(done)
    assert f"{100 * tested[-1].row.test(metric).difference:+.2f}" in last
    assert f"{tested[-1].row.test(metric).p_holm:.3f}" in last
    assert "mixup" not in text
