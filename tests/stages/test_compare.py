"""The comparison's table as CSV, and its run in MLflow."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.comparison import tables
from pipeline.comparison.rows import ComparisonRow, MetricSummary, PairedTest
from pipeline.tracking import client, comparison_runs

ROWS = [
    ComparisonRow("baseline", "argmax", [0, 1], {"test.accuracy": MetricSummary(0.6, 0.01, 0.02)}),
    ComparisonRow(
        "baseline",
        "crm.word2vec",
        [0, 1],
        {"test.accuracy": MetricSummary(0.7, 0.01, 0.02, PairedTest(0.1, 0.05, 0.15, 0.01, p_holm=0.02))},
        [0, 1],
    ),
]


def test_the_csv_has_a_line_for_every_row_and_metric(tmp_path: Path) -> None:
    tables.write_csv_table(tmp_path / "ablation.csv", ROWS)
    with (tmp_path / "ablation.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["decoder"], first["seeds"], first["metric"], first["mean"]) == ("argmax", "2", "test.accuracy", "0.6")
    assert first["difference"] == first["p_holm"] == ""
    assert (second["decoder"], second["difference"], second["p_holm"]) == ("crm.word2vec", "0.1", "0.02")


class Noted:
    """Takes the place of a run in MLflow."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.files: list[Path] = []
        self.working = True

    def params(self, params: Mapping[str, Any]) -> None:
        self.given |= params

    def metrics(self, metrics: Mapping[str, Any]) -> None:
        self.given |= metrics

    def artifacts(self, path: Path, folder: str) -> None:
        assert folder == "reports"
        self.files.append(path)


def test_the_run_of_a_comparison_has_every_row_under_a_name_that_mlflow_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Noted()

    @contextmanager
    def run_of(where: object, tags: Mapping[str, str]) -> Any:
        assert tags["kind"] == "comparison"
        yield noted

    monkeypatch.setattr(client, "run_of", run_of)
    comparison_runs.log_rows(None, ROWS, "compare", [Path("a"), Path("b")])
    assert noted.given == {
        "models": "baseline",
        "seeds": [0, 1],
        "baseline": {"accuracy": 0.6},
        "baseline.crm.word2vec": {"accuracy": 0.7},
    }
    assert noted.files == [Path("a"), Path("b")]
