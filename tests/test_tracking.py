"""MLflow for real: a server on this machine, two finished runs, and the page a person would open."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest

from pipeline import tracking
from tests.clone import Clone

CHROMIUM = shutil.which("chromium")


def test_flatten_joins_names_with_dots() -> None:
    assert tracking.flatten({"a": {"b": 1, "c": {"d": None}}, "e": "x"}) == {
        "a.b": 1,
        "a.c.d": None,
        "e": "x",
    }


def test_switched_off_run_swallows_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FER_TRACKING", "off")
    with tracking.run("x", "name", "key", {}) as run:
        run.params({"a": 1})
        run.metrics({"a": 1.0})
        run.artifacts(Path("no such file"))
    assert run.run_id is None
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `mlflow server` with its own database; its address."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder}/server.db", "--workers", "1"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                break
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.3)
    yield address
    process.terminate()
    process.wait(timeout=30)
    log.close()


@pytest.fixture(scope="module")
def logged(server: str, finished: Clone) -> tuple[str, dict[str, mlflow.entities.Run]]:
    """The runs that `backfill` writes to the server, by name, as a user with a team server would."""
    finished.stage("backfill", MLFLOW_TRACKING_URI=server)
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("synthetic")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'model'")
    assert len({run.data.metrics["test.accuracy"] for run in runs}) == 2, "equal numbers would prove nothing"
    return experiment.experiment_id, {run.info.run_name: run for run in runs}


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
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
    finished.stage("backfill", MLFLOW_TRACKING_URI=server)
    assert len(client.search_runs([logged[0]], "tags.kind = 'model'")) == 2


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.xdist_group("pipeline")
@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed: apt-get install chromium")
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
        *(
            "--window-size=1600,4000",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=60000",
        ),
    )
    shown = subprocess.run(
        [str(CHROMIUM), *options, "--dump-dom", page], capture_output=True, text=True, timeout=180, check=True
    ).stdout
    for name, run in runs.items():
        accuracy = run.data.metrics["test.accuracy"]
        assert name in shown
        assert f">{accuracy:.3f}".rstrip("0") in shown, f"{name}: {accuracy}"
    assert "test.accuracy" in shown
