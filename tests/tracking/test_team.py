"""A group's MLflow server, as docs/team.md sets it up: on PostgreSQL and S3, with accounts, killed while many write."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from pipeline.files import flatten
from pipeline.tracking import client
from tests.clone import ROOT, Clone
from tests.mlflow_store import enter, forget, log
from tests.servers import (
    EXAMPLES,
    NO_POSTGRESQL,
    NO_S3,
    Server,
    free_port,
    mlflow_server,
    postgresql,
    running,
    s3_store,
    with_programs,
)
from tests.tracking import writers

pytestmark = [pytest.mark.medium, pytest.mark.servers, NO_POSTGRESQL, NO_S3, pytest.mark.xdist_group("team")]

ADMIN, ANA, BEN = (
    {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": f"secret of {name}, at least 12"}
    for name in ("admin", "ana", "ben")
)


@dataclass
class Team:
    server: Server
    address: str

    def worker(self, person: dict[str, str] = ANA) -> dict[str, str]:
        """All that a worker needs."""
        return {"MLFLOW_TRACKING_URI": self.address, **person}

    def runs(self, experiment: str = writers.EXPERIMENT) -> list[Run]:
        """The runs of an experiment, as the first user sees them."""
        with pytest.MonkeyPatch.context() as here:
            for name, value in self.worker().items():
                here.setenv(name, value)
            api = mlflow.MlflowClient(self.address)
            found = api.get_experiment_by_name(experiment)
            return list(api.search_runs([found.experiment_id], max_results=1000)) if found else []


@contextmanager
def team_on_postgresql(folder: Path) -> Iterator[Team]:
    from mlflow.server.auth.client import AuthServiceClient  # needs the extra team

    port = free_port()
    with postgresql("mlflow") as database, s3_store(folder) as s3:
        settings = database | s3 | with_programs(PORT=str(port), WORKERS="2", ARTIFACTS="s3://fer/mlflow")
        settings |= {
            "MLFLOW_S3_ENDPOINT_URL": s3["AWS_ENDPOINT_URL"],
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN["MLFLOW_TRACKING_PASSWORD"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "a long random text",
        }
        server = mlflow_server([str(EXAMPLES / "team/server.sh")], port, folder, **settings)
        with running(server), pytest.MonkeyPatch.context() as here:
            address = f"http://127.0.0.1:{port}"
            for name, value in ADMIN.items():
                here.setenv(name, value)
            for person in (ANA, BEN):
                AuthServiceClient(address).create_user(*person.values())
            here.undo()
            yield Team(server, address)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The server of docs/team.md with two users."""
    with team_on_postgresql(tmp_path_factory.mktemp("team")) as made:
        yield made


@pytest.fixture
def at_work(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """This process as a worker of the first user."""
    enter(tmp_path, monkeypatch, team.address)
    for name, value in ANA.items():
        monkeypatch.setenv(name, value)
    yield team
    forget()


def start_writers(team: Team, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "FER_"))}
    environment |= team.worker() | {"PYTHONPATH": str(ROOT), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    environment["DVC_ROOT"] = ""
    command = [sys.executable, "-m", "tests.tracking.writers", str(folder), *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, said = process.communicate(timeout=2 * writers.DEADLINE)
    assert process.returncode == 0, out + said
    return said


def test_eight_writers_lose_nothing_when_the_server_is_killed_and_restarted(at_work: Team, tmp_path: Path) -> None:
    count, each = 8, 3
    process = start_writers(at_work, tmp_path, str(count), str(each))
    while len(at_work.runs()) < count:  # every run after these is still to come
        assert process.poll() is None, finish(process)
        time.sleep(0.05)
    at_work.server.kill()
    time.sleep(2)
    at_work.server.start()
    said = finish(process)
    assert "MLflow" in said, "nobody noticed the kill"
    found = at_work.runs()
    runs = {run.data.tags[client.KEY]: run for run in found}
    assert len(found) == len(runs) == count * each, "a run is missing, or there twice"
    api = mlflow.MlflowClient(at_work.address)
    for writer in range(count):
        for number in range(each):
            run = runs[writers.key(writer, number)]
            assert run.info.status == "FINISHED"
            assert run.data.params == {
                name: str(value) for name, value in flatten(writers.params(writer, number)).items()
            }
            assert run.data.metrics["test.m49"] == pytest.approx(writer + number / 10 + 49)
            curve = api.get_metric_history(run.info.run_id, "size")
            expected = [row["size"] for row in writers.history(writer, number)]
            assert [point.value for point in sorted(curve, key=lambda point: point.step)] == expected
            file = api.download_artifacts(run.info.run_id, f"evaluation/{writer}-{number}.txt", str(tmp_path))
            assert Path(file).read_text() == run.data.tags[client.KEY]


def test_many_who_log_the_same_run_at_once_log_one(at_work: Team, tmp_path: Path) -> None:
    """As two who have pulled the same outputs and both run `fer backfill`."""
    finish(start_writers(at_work, tmp_path, "6", "3", "same"))
    keys = [run.data.tags.get(client.KEY) for run in at_work.runs()]
    assert [keys.count(writers.key(writers.SHARED, number)) for number in range(3)] == [1, 1, 1]


class CuttingProxy(ThreadingHTTPServer):
    """Pass every request on; the answer to the first that creates a run is lost, as with a server that is killed."""

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.upstream, self.is_cut = upstream, False


class Forward(BaseHTTPRequestHandler):
    server: CuttingProxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        if self.path.endswith("/runs/create") and not self.server.is_cut:
            self.server.is_cut = True
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_run_whose_creation_was_not_answered_is_not_made_again(
    at_work: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CuttingProxy(at_work.server.port) as between:
        threading.Thread(target=between.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{between.server_port}")
        forget()
        assert log(key="cut off", experiment="cut off") is not None
        between.shutdown()
    assert between.is_cut
    assert len(at_work.runs("cut off")) == 1


def test_a_second_user_logs_to_the_experiments_of_the_first(
    at_work: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert log(key="of ana", experiment="shared") is not None
    for name, value in BEN.items():
        monkeypatch.setenv(name, value)
    forget()
    assert log(key="of ben", experiment="shared") is not None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("password", [None, "not the right secret"])
def test_without_the_right_password_one_warning_says_what_to_set(
    at_work: Team, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], password: str | None
) -> None:
    if password is None:
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    assert log(key="of a stranger") is None
    shown = capfd.readouterr()
    (warning,) = shown.err.splitlines()
    assert "MLFLOW_TRACKING_USERNAME" in warning
    assert "not the right secret" not in shown.out + shown.err


@pytest.mark.slow
def test_backfill_completes_after_the_server_was_killed_under_two_of_them(
    at_work: Team, finished: Clone, tmp_path: Path
) -> None:
    """Two clones with the same outputs, as after `dvc pull`: the server dies under both, and each runs it again."""
    clones = [finished.copy(tmp_path / name, FER_TRACKING="on") for name in ("one", "two")]
    environment = at_work.worker()
    command = [sys.executable, "-m", "pipeline", "backfill"]

    def start(clone: Clone) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=clone.path, env=clone.env(**environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    both = [start(clone) for clone in clones]
    while not at_work.runs("synthetic"):
        assert any(process.poll() is None for process in both)
        time.sleep(0.05)
    at_work.server.kill()
    for process in both:
        process.communicate(timeout=600)
    assert any(process.returncode for process in both), "nobody noticed the kill"
    at_work.server.start()
    for clone in clones:
        process = start(clone)
        out, _ = process.communicate(timeout=600)
        assert process.returncode == 0, out
    assert re.search(r"^0 runs restored", out, flags=re.MULTILINE), "the second had nothing to do"
    made = at_work.runs("synthetic")
    assert sorted(run.info.run_name for run in made) == ["baseline-0", "comparison", "w2v_cosine-0"]
    assert all(run.info.status == "FINISHED" for run in made)
