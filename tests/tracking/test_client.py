"""MLflow for real: a server on this machine, two finished runs, and the page a person would open."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest
from sqlalchemy.engine import make_url

from benchmarks.mlflow_server import serving
from pipeline.comparison.records import RunRecord
from pipeline.comparison.rows import read_rows
from pipeline.files import flatten, read_json
from pipeline.tracking import client, store
from pipeline.tracking.comparison_runs import log_study
from tests.browser import CHROMIUM, Browser
from tests.clone import ROOT, Clone
from tests.mlflow_store import enter, forget, log, make_repository

STUDY = ROOT / "results/fer2013"


def test_flatten_joins_names_with_dots() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": "x"}) == {"a.b": 1, "a.c.d": None, "e": "x"}


def test_switched_off_run_swallows_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FER_TRACKING", "off")
    with client.run("x", "name", "key", {}) as run:
        run.params({"a": 1})
        run.metrics({"a": 1.0})
        run.artifacts(Path("no such file"))
    assert run.run_id is None
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with its own database, as a team has one; its address."""
    folder = tmp_path_factory.mktemp("server")
    places = ("--backend-store-uri", f"sqlite:///{folder}/server.db")
    artifacts = ("--artifacts-destination", str(folder / "artifacts"))
    with serving("server", *places, *artifacts, cwd=folder, log=folder / "log") as address:
        yield address


@pytest.fixture(scope="module")
def logged(server: str, finished: Clone) -> tuple[str, dict[str, mlflow.entities.Run]]:
    """The runs that `backfill` writes to the server, by name, as a user with a team server would."""
    finished.fer("backfill", MLFLOW_TRACKING_URI=server)
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("synthetic")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'model'")
    assert len({run.data.metrics["test.accuracy"] for run in runs}) == 2, "equal numbers would prove nothing"
    return experiment.experiment_id, {run.info.run_name: run for run in runs}


@pytest.mark.slow
@pytest.mark.xdist_group("server")
def test_server_holds_metrics_curves_and_artifacts(
    server: str, logged: tuple[str, dict[str, mlflow.entities.Run]], finished: Clone
) -> None:
    _, runs = logged
    client = mlflow.MlflowClient(server)
    assert set(runs) == {"baseline-0", "w2v_cosine-0"}
    for name, run in runs.items():
        metrics = json.loads((finished.path / f"outputs/metrics/{name}.json").read_text())
        assert run.data.metrics["test.accuracy"] == pytest.approx(metrics["test"]["accuracy"])
        curve = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert sorted(point.step for point in curve) == [0, 1, 2]
        artifacts = {item.path for item in client.list_artifacts(run.info.run_id, "figures")}
        assert "figures/confusion.png" in artifacts
    finished.fer("backfill", MLFLOW_TRACKING_URI=server)
    assert len(client.search_runs([logged[0]], "tags.kind = 'model'")) == 2


@pytest.mark.slow
@pytest.mark.xdist_group("server")
def test_a_password_in_the_address_of_a_server_is_not_printed(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """MLflow prints the address of each run that ends."""
    enter(tmp_path, monkeypatch, server.replace("http://", "http://me:hunter2%40home@"))
    try:
        assert log(experiment="with a password") is not None
        page = client.page("with a password")
    finally:
        forget()
    shown = capfd.readouterr()
    assert "hunter2" not in shown.out + shown.err + page
    logged = mlflow.MlflowClient(server).search_runs(["0", page.split("/")[-2]])
    assert len(logged) == 1
    assert "hunter2" not in str(logged[0].to_dictionary())


NO_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `mlflow ui` on what `make report` logs, of two models."""
    folder = make_repository(tmp_path_factory.mktemp("study") / "fer")
    runs = {seed: RunRecord.kept(STUDY / "runs", f"w2v_cosine-{seed}") for seed in (0, 1)}
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(folder, monkeypatch)
        log_study(STUDY, {"w2v_cosine": runs}, read_rows(STUDY / "ablation.json"), "fer2013-study")
    forget()
    database = ("--backend-store-uri", "sqlite:///mlflow.db")
    with serving("ui", *database, cwd=folder, log=folder / "log") as address:
        yield address


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.xdist_group("dashboard")
@NO_BROWSER
def test_the_way_through_the_dashboard_ends_at_the_runs(study: str, tmp_path: Path) -> None:
    """Click by click as docs/dashboard.md says, from the page that opens first in a new browser."""
    page = (ROOT / "docs/dashboard.md").read_text()
    (way,) = re.findall(r"open <http://127\.0\.0\.1:5000> and click (.*?)\.\n", page, flags=re.DOTALL)
    *clicks, last = re.findall(r"\*(.+?)\*", way)
    assert "fer2013-study" in clicks
    with Browser(tmp_path / "profile") as browser:
        browser.open(study)
        for text in clicks:
            browser.click(text)
        browser.wait("Run Name", "study", "w2v_cosine-0", "w2v_cosine-1")
        browser.click(last)
        browser.attach("viewStateShareKey")
        shown = browser.wait("test.accuracy", "model.loss", "w2v_cosine-0", "w2v_cosine-1")
        accuracy = {seed: read_json(STUDY / f"runs/w2v_cosine-{seed}.json")["test"]["accuracy"] for seed in (0, 1)}
        browser.wait(*(f"{value:.6f}"[:6] for value in accuracy.values()))
    best, other = sorted(accuracy, key=lambda seed: -accuracy[seed])
    assert shown.index(f"w2v_cosine-{best}") < shown.index(f"w2v_cosine-{other}"), "sorted by accuracy"
    assert "Traces\n0" not in shown


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.xdist_group("dashboard")
@NO_BROWSER
def test_the_page_that_opens_without_it_links_to_the_runs(study: str, tmp_path: Path) -> None:
    """Who forgets *Model training* sees no runs, but where they are."""
    with Browser(tmp_path / "profile") as browser:
        browser.open(study)
        for text in ("Experiments", "fer2013-study", "Got it", "Models by accuracy"):
            browser.click(text)
        browser.attach("viewStateShareKey")
        browser.wait("w2v_cosine-0", "test.accuracy")
        browser.click("means over seeds")
        accuracies = [read_json(STUDY / f"runs/w2v_cosine-{seed}.json")["test"]["accuracy"] for seed in (0, 1)]
        browser.attach("fer-means")
        browser.wait("Group: w2v_cosine", f"{sum(accuracies) / 2:.6f}"[:6])


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.xdist_group("server")
@NO_BROWSER
def test_compare_page_shows_both_accuracies(
    server: str, logged: tuple[str, dict[str, mlflow.entities.Run]], tmp_path: Path
) -> None:
    """The page that the dashboard opens for "Compare", drawn by a real browser, holds both numbers."""
    experiment, runs = logged
    ids = quote(json.dumps([run.info.run_id for run in runs.values()]))
    page = f"{server}/#/compare-runs?runs={ids}&experiments={quote(json.dumps([experiment]))}"
    options = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--window-size=1600,4000", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000"),
    )
    shown = subprocess.run(
        [str(CHROMIUM), *options, "--dump-dom", page], capture_output=True, text=True, timeout=180, check=True
    ).stdout
    for name, run in runs.items():
        accuracy = run.data.metrics["test.accuracy"]
        assert name in shown
        assert f">{accuracy:.3f}".rstrip("0") in shown, f"{name}: {accuracy}"
    assert "test.accuracy" in shown


@pytest.mark.parametrize("name", ["plain", "é张 b", "h#1", "50%20", "what?a=b", "l'q"])
def test_the_database_is_in_the_repository_whatever_its_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / name
    temporary = root / ".dvc" / "tmp" / "exps" / "tmpx"  # where a queued experiment runs
    temporary.mkdir(parents=True)
    for folder in (root, temporary):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DVC_ROOT", str(root))
        store.store.cache_clear()
        read = make_url(store.store().uri).database
        assert read is not None
        assert Path(read).absolute().resolve() == root / "mlflow.db"
    store.store.cache_clear()
