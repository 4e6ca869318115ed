"""The table that readers see, from rows that are easy to check by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.fer import LABELS
from pipeline.errors import UserError
from pipeline.files import write_csv
from stages.cell import Cell
from stages.compare import _decisions, markdown


def predictions(cell: Cell, indices: list[int], right: list[bool], right_flip: list[bool]) -> None:
    """A prediction file with one validation row and the given test rows, all labelled angry."""
    header = ["index", "split", "actual", "predicted", "predicted_flip", *LABELS]
    rows = [[0, "val", "angry", "sad", "sad", *[0.0] * 7]]
    for index, plain, flip in zip(indices, right, right_flip, strict=True):
        decision, flipped = ("angry" if ok else "sad" for ok in (plain, flip))
        rows.append([index, "test", "angry", decision, flipped, *[0.0] * 7])
    write_csv(cell.predictions, header, rows)


def test_decisions_take_test_rows_and_leave_twins_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [Cell("a", 0), Cell("a", 1)]
    predictions(cells[0], [3, 5, 8], [True, False, True], [True, True, True])
    predictions(cells[1], [3, 5, 8], [False, False, True], [False, False, True])
    twins = np.zeros(10, dtype=bool)
    twins[[0, 8]] = True
    found = _decisions(cells, twins)
    assert found.index.tolist() == [3, 5, 8]
    assert found.right["test.accuracy"].tolist() == [[True, False, True], [False, False, True]]
    assert found.right["test.accuracy_flip"].tolist() == [[True, True, True], [False, False, True]]
    assert found.right["test_clean.accuracy"].tolist() == [[True, False], [False, False]]


def test_seeds_measured_on_different_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [Cell("a", 0), Cell("a", 1)]
    predictions(cells[0], [3, 5], [True, True], [True, True])
    predictions(cells[1], [3, 6], [True, True], [True, True])
    with pytest.raises(UserError, match="different images"):
        _decisions(cells, np.zeros(10, dtype=bool))


def row(model: str, accuracy: float, std: float | None, **against: float) -> dict[str, Any]:
    return {
        "model": model,
        "seeds": [0],
        "test.accuracy": {"mean": accuracy, "std": std, "ci95": None, **against},
        "test.severity.human.all": {"mean": 0.25, "std": None, "ci95": None},
    }


def test_table_gives_per_cent_points_and_the_verdict() -> None:
    variant = row("w2v", 0.64, None, difference=-0.02, low=-0.03, high=-0.01, p=0.0002, p_holm=0.0004)
    text = markdown([row("baseline", 0.66, None), variant], "fer2013", 3589, [0], "baseline")
    assert "| baseline | 66.00 | 0.250 |  |  |" in text
    assert "| w2v | 64.00 | 0.250 | -2.00 [-3.00, -1.00] | < 0.001 |" in text
    assert "standard error of 0.8 points" in text
    assert "drawn faces" not in text


def test_table_of_drawn_faces_says_so_and_seeds_have_deviations() -> None:
    text = markdown([row("baseline", 0.66, 0.005)], "synthetic", 210, [0, 1], "baseline")
    assert "drawn faces" in text
    assert "66.00 ± 0.50" in text
    assert "One seed" not in text
