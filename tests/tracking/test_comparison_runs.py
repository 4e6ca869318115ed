"""The kept runs of the study in a real MLflow store, as someone sees them who has trained nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from pipeline.comparison.records import RunRecord
from pipeline.comparison.rows import read_rows
from pipeline.files import read_json
from pipeline.tracking.comparison_runs import log_study
from tests.mlflow_store import enter, forget

ROOT = Path(__file__).parents[2]
STUDY, DASHBOARD = ROOT / "results/fer2013", ROOT / "docs/dashboard.md"
MODELS = {"w2v_cosine": {seed: RunRecord.kept(STUDY / "runs", f"w2v_cosine-{seed}") for seed in (0, 1)}}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty store that this process logs to, and forgets afterwards."""
    address = f"sqlite:///{tmp_path}/mlflow.db"
    enter(tmp_path, monkeypatch, address)
    yield address
    forget()


def log() -> None:
    log_study(STUDY, MODELS, read_rows(STUDY / "ablation.json"), "fer2013-study")


@pytest.mark.medium
def test_every_kept_run_is_in_mlflow_once_with_all_that_a_training_would_log(store: str) -> None:
    log()
    log()  # changes nothing
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("fer2013-study")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["study", "w2v_cosine-0", "w2v_cosine-1"]
    assert len(client.search_runs([experiment.experiment_id])) == 3

    run, facts = runs["w2v_cosine-1"], read_json(STUDY / "runs/w2v_cosine-1.json")
    assert run.data.metrics["test.accuracy"] == facts["test"]["accuracy"]
    assert run.data.metrics["training.seconds"] == facts["training"]["seconds"]
    assert run.data.params["model.loss"] == "cosine"
    assert run.data.params["model.learning_rate"] == str(facts["settings"]["learning_rate"])
    assert run.data.params["recipe.epochs"] == "10"
    assert (run.data.tags["kind"], run.data.tags["seed"]) == ("model", "1")
    curve = client.get_metric_history(run.info.run_id, "val_accuracy")
    assert [point.value for point in curve] == [epoch["val_accuracy"] for epoch in facts["history"]]
    first = {item.path for item in client.list_artifacts(runs["w2v_cosine-0"].info.run_id, "figures")}
    assert "figures/confusion.png" in first
    reports = {item.path for item in client.list_artifacts(runs["study"].info.run_id, "reports")}
    assert {"reports/ablation.md", "reports/accuracy.png"} <= reports

    filters = re.findall(r"``(.+?)``|`(tags\..+?)`", DASHBOARD.read_text(encoding="utf-8"))
    assert len(filters) >= 9
    for either in filters:
        client.search_runs([experiment.experiment_id], "".join(either))  # MLflow understands it


@pytest.mark.medium
def test_a_store_that_cannot_be_read_costs_a_warning_only(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(tmp_path, monkeypatch, f"sqlite:///{tmp_path}/no/such/folder/mlflow.db")
    (tmp_path / "no").write_text("a file where the folder should be")
    log()
    shown = capsys.readouterr().err
    assert shown.startswith("warning: the study is not in MLflow.")
    assert f"{tmp_path}/no/such/folder/mlflow.db" in shown


def test_switched_off_nothing_is_logged(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_TRACKING", "off")
    log()
    assert not (tmp_path / "mlflow.db").exists()
