"""The forest plot of characters: each row at its place on one scale."""

from __future__ import annotations

from pipeline.study.text_forest import COLUMNS, forest
from tests.factories import row


def test_every_row_is_drawn_where_its_numbers_say() -> None:
    rows = [row("baseline", None), row("worse", -0.04, p=0.001), row("alike", 0.0), row("broken", -0.5, p=0.001)]
    _, *lines, _ = forest(rows).splitlines()
    plots = {line.split()[0]: line for line in lines}
    start = len("broken") + 2
    cells = {name: line[start : start + COLUMNS] for name, line in plots.items()}
    assert [*plots] == ["alike", "worse", "broken"], "best at the top"
    assert cells["alike"].index("○") == COLUMNS // 2
    scale = (COLUMNS - 1) / 2 / 0.15
    for symbol, value in (("├", -0.05), ("●", -0.04), ("┤", -0.03)):
        assert cells["worse"].index(symbol) == round(COLUMNS // 2 + scale * value)
    assert cells["broken"].startswith("◂")
    assert "●" not in cells["broken"]
    assert "-4.00 [-5.00, -3.00]" in plots["worse"]


def test_a_baseline_alone_is_said_to_be_alone() -> None:
    assert forest([row("baseline", None)]) == "Nothing has been compared with the baseline.\n"
