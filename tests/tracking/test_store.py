"""MLflow's store through what people do to it: deleted, moved, mounted twice, named by half a path, upgraded."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.errors import UserError
from pipeline.tracking import client, store
from tests.clone import ROOT
from tests.mlflow_store import enter, forget, log, make_repository

pytestmark = pytest.mark.medium


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_repository(tmp_path / "fer")
    enter(folder, monkeypatch)
    return folder


def stored(folder: Path, experiment: str = "synthetic") -> list[mlflow.entities.Run]:
    """The runs in a folder's database, as a program beside ours sees them."""
    api = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = api.get_experiment_by_name(experiment)
    assert found is not None
    return list(api.search_runs([found.experiment_id]))


def experiment(folder: Path, name: str = "synthetic") -> mlflow.entities.Experiment:
    found = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").get_experiment_by_name(name)
    assert found is not None
    return found


def content(folder: Path, run_id: str) -> str:
    """The logged file, read through MLflow."""
    api = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return Path(api.download_artifacts(run_id, "evaluation/metrics.txt")).read_text()


# --- deleted -------------------------------------------------------------------------------------------------


def test_an_experiment_deleted_in_the_ui_comes_back_with_its_runs(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = log()
    api = mlflow.MlflowClient(f"sqlite:///{repository}/mlflow.db")
    api.delete_experiment(experiment(repository).experiment_id)
    forget()
    assert log(key="another") is not None
    assert {run.info.run_id for run in stored(repository)} > {first}
    shown = capsys.readouterr()
    assert "synthetic had been deleted; it is restored" in shown.out
    assert "warning" not in shown.err


def test_after_mlflow_gc_the_same_can_be_logged_again(repository: Path) -> None:
    from mlflow.cli import gc  # takes seconds to import

    log()
    uri = f"sqlite:///{repository}/mlflow.db"
    api = mlflow.MlflowClient(uri)
    number = experiment(repository).experiment_id
    api.delete_experiment(number)
    result = CliRunner().invoke(gc, ["--backend-store-uri", uri, "--experiment-ids", number])
    assert result.exit_code == 0, result.output
    assert api.get_experiment_by_name("synthetic") is None
    forget()
    second = log()
    assert second is not None
    assert content(repository, second) == "a metric's file"


def test_a_deleted_run_is_logged_again(repository: Path) -> None:
    first = log()
    assert first is not None
    mlflow.MlflowClient(f"sqlite:///{repository}/mlflow.db").delete_run(first)
    where = client.Where("synthetic", "baseline-0", "key", "content")
    assert not client.is_complete(where)
    assert log() not in (None, first)


def test_where_an_experiment_may_not_be_restored_the_command_is_named(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log()
    api = mlflow.MlflowClient(f"sqlite:///{repository}/mlflow.db")
    number = experiment(repository).experiment_id
    api.delete_experiment(number)
    forget()

    def refuse(*arguments: Any) -> None:
        raise RuntimeError("permission denied")

    monkeypatch.setattr(mlflow.MlflowClient, "restore_experiment", refuse)
    assert log() is None
    assert f"`mlflow experiments restore --experiment-id {number}`" in capsys.readouterr().err
    with pytest.raises(UserError, match=f"mlflow experiments restore --experiment-id {number}"):
        client.is_complete(client.Where("synthetic", "baseline-0", "key", "content"))


# --- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "address", "artifacts"),
    [
        ("", "sqlite:///{root}/mlflow.db", "{root}/mlartifacts"),
        ("  ", "sqlite:///{root}/mlflow.db", "{root}/mlartifacts"),
        ("sqlite:///mlflow.db", "sqlite:///{root}/mlflow.db", "{root}/mlartifacts"),
        ("sqlite:///./mlflow.db", "sqlite:///{root}/mlflow.db", "{root}/mlartifacts"),
        ("sqlite:///runs/our.db", "sqlite:///{root}/runs/our.db", "{root}/runs/mlartifacts"),
        ("sqlite:///../shared.db", "sqlite:///{above}/shared.db", "{above}/mlartifacts"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db", "/srv/mlartifacts"),
        ("sqlite+pysqlite:///mlflow.db", "sqlite+pysqlite:///{root}/mlflow.db", "{root}/mlartifacts"),
        ("sqlite:///mlflow.db?timeout=30", "sqlite:///{root}/mlflow.db?timeout=30", "{root}/mlartifacts"),
        ("sqlite:///file:x.db?uri=true", "sqlite:///file:{root}/x.db?uri=true", "{root}/mlartifacts"),
        ("mlruns", "file://{root}/mlruns", None),
        ("./x/y", "file://{root}/x/y", None),
        ("/srv/mlruns", "file:///srv/mlruns", None),
        ("file:mlruns", "file://{root}/mlruns", None),
        ("file:./mlruns", "file://{root}/mlruns", None),
        ("file://./mlruns", "file://{root}/mlruns", None),
        ("file:///srv/mlruns", "file:///srv/mlruns", None),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000", None),
        ("databricks", "databricks", None),
        ("databricks://profile", "databricks://profile", None),
        ("postgresql://db/mlflow", "postgresql://db/mlflow", "{root}/mlartifacts"),
        ("mysql+pymysql://db/mlflow", "mysql+pymysql://db/mlflow", "{root}/mlartifacts"),
    ],
)
def test_relative_stores_start_at_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, address: str, artifacts: str | None
) -> None:
    root, elsewhere = tmp_path / "fer", tmp_path / "fer/.dvc/tmp/exps/tmp1"
    elsewhere.mkdir(parents=True)
    enter(elsewhere, monkeypatch, uri, root)
    found = store.store()
    from sqlalchemy.engine import make_url

    names = {"root": root, "above": tmp_path}
    if address.startswith("sqlite"):
        assert make_url(found.uri) == make_url(address.format(**names))
    else:
        assert found.uri == address.format(**names)
    assert found.artifacts == (artifacts and f"file://{artifacts.format(**names)}")


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_is_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    enter(repository, monkeypatch, uri)
    assert log() is None
    assert "MLFLOW_TRACKING_URI" in capsys.readouterr().err


def test_a_queued_run_of_a_relative_store_is_in_the_repository(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variable is README's; a day later it is not set."""
    temporary = repository / ".dvc/tmp/exps/tmp1"
    temporary.mkdir(parents=True)
    enter(temporary, monkeypatch, "sqlite:///mlflow.db", repository)
    run_id = log()
    assert run_id is not None
    assert sorted(path.name for path in temporary.iterdir()) == ["metrics.txt"]
    monkeypatch.chdir(repository)
    shutil.rmtree(temporary)

    enter(repository, monkeypatch)
    assert [run.info.run_id for run in stored(repository)] == [run_id]
    assert content(repository, run_id) == "a metric's file"
    assert log() == run_id
    assert "warning" not in capsys.readouterr().err


def test_other_variables_of_mlflow_lead_nowhere_else(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "someone else's")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:///registry.db")
    run_id = log()
    run = log_model()
    assert run_id is not None
    names = {e.name for e in mlflow.MlflowClient(f"sqlite:///{repository}/mlflow.db").search_experiments()}
    assert names == {"Default", "synthetic"}
    assert not (repository / "registry.db").exists()
    assert len(stored(repository)) == 1
    assert run.working


def test_a_path_with_signs_of_an_address_holds_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_repository(tmp_path / "my 100% #1 a%20b é")
    enter(folder, monkeypatch)
    run_id = log()
    assert run_id is not None
    assert os.listdir(tmp_path) == [folder.name]
    artifacts = list((folder / "mlartifacts" / run_id).rglob("metrics.txt"))
    assert len(artifacts) == 1


# --- the same folder under two paths -------------------------------------------------------------------------


def test_a_renamed_folder_keeps_every_run_and_logs_on(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = log()
    model = log_model()
    assert first == model.run_id
    renamed = repository.rename(repository.with_name("emotions"))
    enter(renamed, monkeypatch)
    second = log(key="another", text="of the new folder")
    assert second is not None
    assert content(renamed, str(first)) == "a metric's file"
    assert content(renamed, second) == "of the new folder"
    assert log(text="once more") == first
    assert content(renamed, str(first)) == "once more"
    api = mlflow.MlflowClient(f"sqlite:///{renamed}/mlflow.db")
    (logged,) = api.search_logged_models([stored(renamed)[0].info.experiment_id])
    assert Path(logged.artifact_location.removeprefix("file://"), "MLmodel").exists()
    assert not repository.exists()
    assert "warning" not in capsys.readouterr().err


def test_host_and_container_log_in_turn(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that is open on one side while the other logs ends on its own side."""
    host, container = repository, repository.with_name("work")
    file = repository.with_name("metrics.txt")
    file.write_text("of the host")
    with client.run("synthetic", "baseline-0", "host", {"kind": "model"}) as run:
        host.rename(container)
        enter(container, monkeypatch)
        inside = log(key="container", text="of the container")
        container.rename(host)
        enter(host, monkeypatch)
        run.artifacts(file, "evaluation")
    assert run.working
    assert content(host, str(run.run_id)) == "of the host"
    assert content(host, str(inside)) == "of the container"
    assert not container.exists()
    assert "warning" not in capsys.readouterr().err


def test_a_copied_folder_leaves_the_original_alone(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = log()
    copy = Path(shutil.copytree(repository, repository.with_name("copy")))
    enter(copy, monkeypatch)
    assert log(text="of the copy") == first
    assert content(copy, str(first)) == "of the copy"
    assert content(repository, str(first)) == "a metric's file"
    assert str(copy) not in dump(repository)


def test_a_copied_database_without_its_artifacts_still_shows_those_of_the_original(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = log()
    copy = repository.with_name("copy")
    copy.mkdir()
    shutil.copy(repository / "mlflow.db", copy / "mlflow.db")
    enter(copy, monkeypatch)
    second = log(key="another")
    assert content(copy, str(first)) == "a metric's file"
    assert (copy / "mlartifacts" / str(second)).exists()


@pytest.mark.parametrize("location", ["mlflow-artifacts:/7", "{gone}/mlruns/1", "file://{gone}/mlartifacts"])
def test_an_experiment_whose_artifacts_cannot_be_reached_is_logged_into(
    repository: Path, capsys: pytest.CaptureFixture[str], location: str
) -> None:
    """Made by a server on the same database, or in a folder that is gone."""
    api = mlflow.MlflowClient(f"sqlite:///{repository}/mlflow.db")
    gone = repository / ".dvc/tmp/exps/tmp1"
    number = api.create_experiment("synthetic", location.format(gone=gone))
    api.create_run(number, tags={client.KEY: "key"})
    run_id = log()
    assert run_id is not None
    assert content(repository, run_id) == "a metric's file"
    assert not gone.exists()
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["elsewhere", "fer/mlruns/1"])
def test_a_location_that_someone_chose_stays(repository: Path, name: str) -> None:
    chosen = repository.parent / name
    chosen.mkdir(parents=True)
    api = mlflow.MlflowClient(f"sqlite:///{repository}/mlflow.db")
    api.create_experiment("synthetic", chosen.as_uri())
    run_id = log()
    assert run_id is not None
    assert list(chosen.rglob("metrics.txt"))


def dump(folder: Path) -> str:
    connection = sqlite3.connect(folder / "mlflow.db")
    try:
        return "\n".join(connection.iterdump())
    finally:
        connection.close()


# --- broken off ----------------------------------------------------------------------------------------------


def test_a_curve_that_breaks_off_between_two_requests_is_completed(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is half in one request and half in the next would count as logged."""
    rows = [{"epoch": epoch, **{f"m{k}": epoch + k / 10 for k in range(7)}} for epoch in range(200)]
    api = store.client()
    send = api.log_batch
    sent: list[dict[str, Any]] = []

    def once(run_id: str, **batch: Any) -> None:
        if sent:
            raise ConnectionError("the server is gone")
        sent.append(batch)
        send(run_id, **batch)

    monkeypatch.setattr(api, "log_batch", once)
    with client.run("synthetic", "baseline-0", "key", {}) as run:
        run.curve(rows, "epoch")
    monkeypatch.undo()
    with client.run("synthetic", "baseline-0", "key", {}) as run:
        run.curve(rows, "epoch")
    for k in range(7):
        curve = api.get_metric_history(run.id, f"m{k}")
        assert sorted(point.step for point in curve) == list(range(200)), f"m{k}"


def test_a_model_is_logged_once_and_one_that_broke_off_again(repository: Path) -> None:
    def logged() -> list[str]:
        outputs = store.client().get_run(log_model().id).outputs
        assert outputs is not None
        return [output.model_id for output in outputs.model_outputs]

    (first,) = logged()
    assert logged() == [first]
    store.client().finalize_logged_model(first, "FAILED")
    (second,) = {*logged()} - {first}
    assert store.client().get_logged_model(second).status == "READY"
    store.client().set_logged_model_tags(second, {client.FORMAT: "that of an earlier version"})
    (third,) = {*logged()} - {first, second}
    assert {*logged()} == {first, second, third}


def test_a_run_needs_a_model_until_it_has_one_and_none_after_mlflow_failed(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with client.run("synthetic", "baseline-0", "key", {"kind": "model"}) as run:
        assert run.needs_model()
    log_model()
    with client.run("synthetic", "baseline-0", "key", {"kind": "model"}) as run:
        assert not run.needs_model()
        monkeypatch.setattr(client, "_has_model", lambda run_id: 1 / 0)
        assert not run.needs_model()
        assert not run.working
        assert not run.needs_model()
    assert capsys.readouterr().err.count("warning: MLflow") == 1
    assert not client.MlflowRun(None).needs_model()


# --- what is said --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    ["http://me:hunter2%40home@127.0.0.1:9", "http://127.0.0.1:9/?token=hunter2home", "http://hunter2home@127.0.0.1:9"],
)
def test_a_server_that_does_not_answer_is_named_without_its_password(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    enter(repository, monkeypatch, uri)
    assert log() is None
    with pytest.raises(UserError) as caught:
        client.is_complete(client.Where("synthetic", "baseline-0", "key", "content"))
    shown = capfd.readouterr()
    assert "127.0.0.1:9" in shown.err
    assert "hunter2" not in shown.err + shown.out + str(caught.value)


@pytest.mark.parametrize(
    ("revision", "advice"),
    [("0584bdc529eb", "mlflow db upgrade sqlite:///{root}/mlflow.db"), ("ffffffffffff", "newer MLflow")],
)
def test_a_database_of_another_version_is_called_that(
    repository: Path, capsys: pytest.CaptureFixture[str], revision: str, advice: str
) -> None:
    with sqlite3.connect(repository / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()
    before = (repository / "mlflow.db").read_bytes()
    assert log() is None
    shown = capsys.readouterr().err
    assert advice.format(root=repository) in shown
    assert ("upgrade" in shown) == ("upgrade" in advice)
    assert "path" not in shown
    assert (repository / "mlflow.db").read_bytes() == before


def test_the_address_of_an_old_database_with_a_password_stays_in_its_variable(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(repository, monkeypatch, "postgresql://me:hunter2home@db/mlflow")
    shown = store.explain(
        RuntimeError("Detected out-of-date database schema (found version 0584bdc529eb, but expected x)")
    )
    assert 'mlflow db upgrade "$MLFLOW_TRACKING_URI"' in shown
    assert "hunter2" not in shown


def test_a_folder_as_a_store_is_answered_with_a_database(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(repository, monkeypatch, "mlruns")
    assert log() is None
    assert "sqlite:///mlflow.db" in capsys.readouterr().err
    assert not (repository / "mlruns").exists()


def test_the_advice_is_a_command_that_can_follow_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Backfill reads the workspace: a queued experiment is applied first, kept runs have a command of their own."""
    client.warn(RuntimeError("no"))
    assert "`fer backfill`" in capsys.readouterr().err
    with client.run_of(client.Where("x", "study", "key", "content", "fer report"), {}) as run:
        run.artifacts(Path("no such file"))
    shown = capsys.readouterr().err
    assert "`fer report`" in shown
    assert "backfill" not in shown
    monkeypatch.setenv("DVC_EXP_NAME", "dusty-hare")
    enter(repository.parent, monkeypatch, root=repository)
    client.warn(RuntimeError("no"))
    assert "`dvc exp apply dusty-hare && fer backfill`" in capsys.readouterr().err


# --- artifacts -----------------------------------------------------------------------------------------------


def test_read_only_outputs_can_be_logged_twice(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """DVC's links into its cache are read-only, and MLflow copies that with the file."""
    figures = repository / "figures"
    figures.mkdir()
    for text in ("first", "second"):
        picture = figures / "confusion.png"
        picture.unlink(missing_ok=True)
        picture.write_text(text)
        picture.chmod(0o444)
        with client.run("synthetic", "baseline-0", "key", {}) as run:
            run.metrics({"a": 1.0})
            with unprivileged(repository):
                run.artifacts(figures, "figures")
    (kept,) = (repository / "mlartifacts").rglob("confusion.png")
    assert kept.read_text() == "second"
    assert run.working
    assert "warning" not in capsys.readouterr().err


class unprivileged:  # noqa: N801
    """Be nobody for a while, as root writes read-only files too."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, os.geteuid() == 0

    def __enter__(self) -> None:
        if self.root:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, 65534, 65534)
            for parent in self.folder.parents:  # pytest's own are private
                if not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o755)
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        if self.root:
            os.seteuid(0)


def log_model() -> client.MlflowRun:
    """A model in the run of `log`."""
    file = Path("model.onnx")
    file.write_bytes(b"MLflow keeps it and does not read it")
    with client.run("synthetic", "baseline-0", "key", {"kind": "model"}) as run:
        run.model(file, np.zeros((2, 48, 48), np.uint8), ["calm", "cross"])
    return run


def test_the_experiment_shows_its_runs(repository: Path) -> None:
    """Also one that an earlier version made; a description that someone wrote stays."""
    api = mlflow.MlflowClient(f"sqlite:///{repository}/mlflow.db")
    described = api.create_experiment("fer2013", (repository / "mlartifacts").as_uri())
    api.set_experiment_tag(described, "mlflow.note.content", "mine")
    for name in ("synthetic", "fer2013"):
        log(experiment=name)
        assert experiment(repository, name).tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment(repository, "fer2013").tags["mlflow.note.content"] == "mine"
    other = experiment(repository)
    assert (
        f"#/experiments/{other.experiment_id}/runs?workflowType=machine_learning" in other.tags["mlflow.note.content"]
    )
    assert "tags.kind" in other.tags[f"mlflow.sharedViewState.{store.VIEW}"]
    assert "groupByKeys" in other.tags[f"mlflow.sharedViewState.{store.MEANS_VIEW}"]
    log(experiment=store.DATA_EXPERIMENT)
    assert "Models" not in experiment(repository, store.DATA_EXPERIMENT).tags["mlflow.note.content"]


def test_a_race_for_a_new_experiment_is_won_by_one(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines, one server: the second asks before and creates after the first has."""
    api = store.client()
    ask, answers = api.get_experiment_by_name, [None]

    def late(name: str) -> Any:
        return answers.pop() if answers else ask(name)

    number = api.create_experiment("synthetic")
    monkeypatch.setattr(api, "get_experiment_by_name", late)
    assert store.experiment_id("synthetic") == number


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), OSError(28, "No space left on device"), RuntimeError("CUDA error")]
)
def test_a_training_that_broke_off_continues_its_run_and_a_finished_one_does_not(
    repository: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    enter(repository, monkeypatch)

    def train(error: BaseException | None) -> str | None:
        with client.run("synthetic", "baseline-0", "key", {}, only_unfinished=True) as run:
            if error is not None:
                raise error
        return run.run_id

    with pytest.raises(type(end)):
        train(end)
    first = train(None)
    assert train(None) == first, "of a stage that outlived its DVC"
    (only,) = client._search("synthetic", "key")
    assert (only.info.run_id, only.info.status) == (first, "FINISHED")
    with client.run_of(client.Where("synthetic", "baseline-0", "key", "all"), {}):
        pass
    assert train(None) != first


HALF_WAY = """
import os, resource, signal, sys
from pathlib import Path
import mlflow
from pipeline.tracking import client

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for folder, limit in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, folder
        continue
    os.chdir(folder)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{folder}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with client.run("synthetic", "baseline-0", "key", {"kind": "model"}) as run:
        run.metrics({"test": {"accuracy": 0.5}})
    print(run.run_id if run.working else None)
    break
"""
"""Log a run in each folder, where no file can grow beyond so many bytes (0: any), as on a disk that is full.

Each in a process of its own, which has imported MLflow already.
"""


def test_a_disk_that_is_full_while_the_database_is_made_leaves_none(tmp_path: Path) -> None:
    """MLflow cannot go on with half of its tables: the next stage makes the database anew, and logs."""
    whole = (make_repository(tmp_path / "whole") / "mlflow.db").stat().st_size
    limits = {tmp_path / str(share): int(whole * share) for share in (0.05, 0.9)}
    paths = {"PYTHONPATH": str(ROOT), "FER_TRACKING": "on", "MLFLOW_TRACKING_URI": "", "DVC_ROOT": ""}

    def stages(*arguments: str) -> None:
        subprocess.run([sys.executable, "-c", HALF_WAY, *arguments], env=os.environ | paths, check=True)

    for folder in limits:
        folder.mkdir()
    stages(*(str(word) for pair in limits.items() for word in pair))
    for folder in limits:
        said = Path(f"{folder}.stderr").read_text()
        assert Path(f"{folder}.stdout").read_text().split() == ["None"], said
        assert said.count("warning: MLflow") == 1
        assert "Traceback" not in said
        assert not (folder / "mlflow.db").exists()

    stages(str(folder), "0")
    assert Path(f"{folder}.stdout").read_text().split() != ["None"]
    (run,) = stored(folder)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"test.accuracy": 0.5})
    assert sorted(path.name for path in folder.glob("mlflow.db*")) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.parametrize("uri", ["sqlite:mlflow.db", "sqlite:/mlflow.db", "sqlite://host:s3cret/x"])
def test_an_address_that_is_none_is_one_warning(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    enter(repository, monkeypatch, uri)
    assert log() is None
    (warning,) = capsys.readouterr().err.splitlines()
    assert "MLFLOW_TRACKING_URI" in warning


def test_classes_of_any_name_are_logged(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MLflow refuses most signs in a key, and with it everything that is logged in the same request."""
    names = {"wide-eyed (é)": "wide-eyed _é_", "슬픔": "슬픔", "a+b, c": "a_b_ c", "Mr. X": "Mr. X"}
    with client.run("synthetic", "baseline-0", "key", {"kind": "model"}) as run:
        for _ in range(2):  # a second time nothing is new
            run.params({"words": {name: f"that is {name}" for name in names}})
        run.metrics({"test": {"per_class": {name: {"recall": k / 10} for k, name in enumerate(names)}}})
    assert run.working, capsys.readouterr().err
    data = store.client().get_run(run.id).data
    assert data.params == {f"words.{key}": f"that is {name}" for name, key in names.items()}
    assert data.metrics == {f"test.per_class.{key}.recall": k / 10 for k, key in enumerate(names.values())}
