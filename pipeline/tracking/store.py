"""Locate the MLflow store, its client and its experiments, and explain its failures.

A relative path in `MLFLOW_TRACKING_URI` starts at the repository, whatever folder a stage runs in; otherwise the runs
of a queued experiment would vanish with its temporary folder. A database in a file keeps its artifacts next to it,
wherever it is moved or mounted.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from pipeline.errors import UserError
from pipeline.files import repository
from pipeline.tracking.secrets import Redacting, redact

if TYPE_CHECKING:  # MLflow takes seconds to import
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"

DATA_EXPERIMENT = "data"
"""The experiment of fetch, prepare and embed; models are in one named after their data set."""

KIND = ("mlflow.experimentKind", "custom_model_development")
"""The tag of an experiment of trained models. MLflow up to 3.18 stores it and shows it nowhere; the note below is
what leads a reader from the page that opens first to the runs."""

VIEW, MEANS_VIEW = "fer", "fer-means"
"""The shared views of an experiment, runs and means over seeds; `viewStateShareKey` names one in an address."""

COLUMNS = [
    *(f"metrics.`{name}`" for name in ("test.accuracy", "test_clean.accuracy", "test.macro_f1")),
    *(f"params.`{name}`" for name in ("model.loss", "model.targets")),
]
"""The columns of the view: accuracies, and what the model was trained with."""

LOCATIONS = {
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}
"""Tables of MLflow's database, and their columns that hold absolute artifact paths."""


class StoreError(UserError):
    """MLflow cannot be used as it is set up: the message ends with what to do."""


class Store(NamedTuple):
    """uri: MLflow's address. artifacts: where new experiments keep theirs (None: the server decides).
    database: the file with everything, where it is one that we can open."""

    uri: str
    artifacts: str | None
    database: Path | None


@functools.cache
def store() -> Store:
    """Return the store. Cached, because MLflow later sets MLFLOW_TRACKING_URI itself. Raises StoreError."""
    uri = (os.environ.get("MLFLOW_TRACKING_URI") or "").strip()
    if not uri:
        return _in_file(repository() / DATABASE)
    if uri in ("databricks", "databricks-uc", "uc"):
        return Store(uri, None, None)
    scheme = uri.partition(":")[0].lower() if ":" in uri else ""
    if scheme in ("", "file"):
        return Store(_from_repository(_folder(uri)).as_uri(), None, None)
    if scheme.split("+")[0] == "sqlite":
        return _sqlite(uri)
    if scheme.split("+")[0] in ("postgresql", "mysql", "mssql"):
        # No server decides here; MLflow's own choice would be the folder in which the stage runs.
        return Store(uri, (repository() / ARTIFACTS).as_uri(), None)
    return Store(uri, None, None)


@functools.cache
def client() -> MlflowClient:
    """Return the one client of this process.

    Imported here because MLflow takes seconds to import and `FER_TRACKING=off` needs none.
    """
    # Without these, a server that is down would delay a stage by many minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_DISABLE_AUTH_WARNING", "true")
    uri = store().uri
    if redact(uri) != uri:  # MLflow prints the address of a run whole
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    # It logs the traceback of every error that it also raises, which then becomes one sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    for handler in (*logging.getLogger("mlflow").handlers, logging.lastResort):
        if handler is not None:
            handler.addFilter(Redacting())
    mlflow.set_tracking_uri(uri)
    with _first_use():
        _make_whole(mlflow.MlflowClient)
        made = mlflow.MlflowClient()
        made.search_experiments(max_results=1)  # creates the tables of a fresh database of another kind
    _remove_stray_folder()
    return made


@functools.cache
def experiment_id(name: str) -> str:
    """Return the experiment of this name, created if missing and restored if deleted."""
    mlflow_client = client()  # before the lock, which it takes too
    with _first_use():
        experiment = mlflow_client.get_experiment_by_name(name) or _create(name)
        if experiment.lifecycle_stage == "deleted":
            _restore(experiment)
        _follow(experiment)
        _present(experiment)
        return str(experiment.experiment_id)


def page(name: str) -> str:
    """Return the address of an experiment's models by accuracy: that of `make ui`, or on the user's server."""
    uri = store().uri
    server = redact(uri).rstrip("/") if uri.startswith(("http://", "https://")) else "http://127.0.0.1:5000"
    return f"{server}/{_address(experiment_id(name))}&viewStateShareKey={VIEW}"


def takes(artifact_uri: str) -> bool:
    """Return whether artifacts can be added to the location.

    A database without its server cannot reach the server's artifacts.
    """
    return store().database is None or urlsplit(artifact_uri).scheme != "mlflow-artifacts"


def prepare_artifacts(run_id: str) -> None:
    """Move the run's artifact location to where the database is now, and make existing artifacts writable.

    Where a folder is mounted under two paths, the other side may have logged meanwhile. Files that came as links into a
    read-only cache are read-only copies here.
    """
    if store().database is None:
        return
    info = client().get_run(run_id).info
    if not _is_usable(info.artifact_uri):
        with _first_use():
            _follow(client().get_experiment(info.experiment_id))
        info = client().get_run(run_id).info
    folder = _local(info.artifact_uri)
    for path in folder.rglob("*") if folder is not None else ():
        if path.is_file() and not path.is_symlink() and not path.stat().st_mode & 0o200:
            path.chmod(path.stat().st_mode | 0o200)


def explain(error: Exception) -> str:
    """Return what went wrong, in at most 300 characters and without secrets, and what to do about it."""
    if isinstance(error, StoreError):
        return redact(str(error))
    message = str(error)
    if version := re.search(r"found version (\w+), but expected|locate revision identified by '(\w+)'", message):
        return _of_another_version(version[1] or version[2])
    reason = " ".join(redact(message).split())[:300].rstrip(" .") or type(error).__name__
    if "MLFLOW_ALLOW_FILE_STORE" in message:
        return f"{reason}. Name a database instead, such as MLFLOW_TRACKING_URI=sqlite:///mlflow.db."
    where = store()
    if advice := _on_access(error):
        return f"{reason}. {advice}"
    if where.database is not None:
        return f"{reason}. Check that {where.database} and {ARTIFACTS} next to it can be written."
    return f"{reason}. Check that MLflow runs at {redact(where.uri)}, and MLFLOW_TRACKING_URI."


def _on_access(error: Exception) -> str:
    """Return what to do where a server has refused who asks, otherwise nothing."""
    from mlflow.exceptions import MlflowException

    status = error.get_http_status_code() if isinstance(error, MlflowException) else None
    if status == 401:
        return "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
    if status == 403:
        return "This user may not do that: ask whoever runs the server for the permission EDIT on the experiment."
    return ""


def _of_another_version(revision: str) -> str:
    """Return what to do about a database of another version.

    MLflow calls such a database out of date whether it is older or newer.
    """
    from mlflow.version import VERSION

    if _is_known(revision):
        return (
            f"this database was made by an older MLflow than the installed {VERSION}: keep a copy of it and run "
            f"`mlflow db upgrade {_argument()}` in the repository."
        )
    return (
        f"this database was made by a newer MLflow than the installed {VERSION}: use that version, or name another "
        "database in MLFLOW_TRACKING_URI."
    )


def _is_known(revision: str) -> bool:
    """Return whether the installed MLflow knows this state of a database and so can upgrade it."""
    import mlflow.store.db_migrations as migrations

    pattern = re.compile(rf"""^revision = ["']{revision}["']""", re.MULTILINE)
    files = (Path(migrations.__path__[0]) / "versions").glob("*.py")
    return any(pattern.search(file.read_text(encoding="utf-8")) for file in files)


def _make_whole(connect: Callable[[str], Any]) -> None:
    """Create a database under a temporary name and rename it when its tables are complete.

    MLflow takes seconds and many steps to create them, and cannot recover from a kill or a full disk in between.
    """
    database = store().database
    if database is None or (database.exists() and database.stat().st_size):
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    unfinished = database.with_name(f"{database.name}.unfinished")
    for left in (unfinished, unfinished.with_name(f"{unfinished.name}-journal")):
        left.unlink(missing_ok=True)
    connect(_in_file(unfinished).uri).search_experiments(max_results=1)
    unfinished.replace(database)


def _remove_stray_folder() -> None:
    """Remove the folder that MLflow creates from the database's address, in which a % of the path is %25."""
    database, folder = store().database, Path(store().uri.removeprefix("sqlite:///")).parent
    if database is not None and folder != database.parent and folder.is_absolute():
        with suppress(OSError):  # not there, or someone's
            folder.rmdir()


def _argument() -> str:
    """Return the store as a shell argument: a password stays in its variable."""
    uri = store().uri
    return '"$MLFLOW_TRACKING_URI"' if redact(uri) != uri else shlex.quote(uri)


def _in_file(database: Path) -> Store:
    from sqlalchemy.engine import URL, make_url

    uri = f"sqlite:///{database}"
    if make_url(uri).database != str(database):  # a % or ? in the path means something else in an address
        # From this folder, as MLflow and SQLAlchemy read what is quoted in different ways; quoted if there is no other.
        near = os.path.relpath(database)
        uri = f"sqlite:///{near}"
        if make_url(uri).database != near:
            uri = URL.create("sqlite", database=str(database)).render_as_string(hide_password=False)
    return Store(uri, (database.parent / ARTIFACTS).as_uri(), database)


def _sqlite(uri: str) -> Store:
    """Return the same database by its absolute path. Raises StoreError if it is not in a file."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise StoreError(
            f"MLFLOW_TRACKING_URI={redact(uri)} is not the address of a database: write sqlite:/// and the "
            "file's path, "
            "such as sqlite:///mlflow.db."
        ) from None
    name = url.database or ""
    prefix = "file:" if name.startswith("file:") else ""
    path = name.removeprefix("file:")
    if path in ("", ":memory:") or url.query.get("mode") == "memory":
        raise StoreError(
            f"MLFLOW_TRACKING_URI={redact(uri)} is a database in memory, which ends with each stage: name a file, such "
            "as sqlite:///mlflow.db."
        )
    database = _from_repository(Path(path))
    if not url.query and not prefix and url.drivername == "sqlite":
        return _in_file(database)
    absolute = url.set(database=f"{prefix}{database}").render_as_string(hide_password=False)
    return Store(absolute, (database.parent / ARTIFACTS).as_uri(), database)


def _folder(uri: str) -> Path:
    """Return the folder that a file store's address names; MLflow itself reads file://./mlruns as /mlruns."""
    if not uri.lower().startswith("file:"):
        return Path(uri)
    path = unquote(uri[len("file:") :])
    return Path(path.removeprefix("//") if path.startswith(("//./", "///")) else path)


def _from_repository(path: Path) -> Path:
    """Return an absolute path without `..`, with links unresolved."""
    return Path(os.path.abspath(repository() / path))


def _create(name: str) -> Experiment:
    from mlflow.exceptions import MlflowException

    try:
        client().create_experiment(name, artifact_location=store().artifacts)
    except MlflowException as error:
        # Another machine's first run on the same server was faster.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if (found := client().get_experiment_by_name(name)) is None:
        raise LookupError(f"the experiment {name} was removed as soon as it was made")
    return found


def _restore(experiment: Experiment) -> None:
    """Restore an experiment, with its runs, from MLflow's trash; nothing can be logged under its name before that."""
    try:
        client().restore_experiment(experiment.experiment_id)
    except Exception as error:  # whatever a server answers who may not do this
        reason = " ".join(redact(str(error)).split())[:200]
        raise StoreError(
            f"the experiment {experiment.name} was deleted in MLflow and could not be restored from here ({reason}): "
            f"run `mlflow experiments restore --experiment-id {experiment.experiment_id}` as someone who may."
        ) from error
    print(f"MLflow: the experiment {experiment.name} had been deleted; it is restored, with its runs.")


def _present(experiment: Experiment) -> None:
    """Make MLflow show the experiment as a table of runs. A description that someone wrote stays."""
    view = {
        "searchFilter": 'tags.kind = "model"',
        "orderByKey": COLUMNS[0],
        "orderByAsc": False,
        "selectedColumns": COLUMNS,
    }
    by_model = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "model"}]}
    number, tags = experiment.experiment_id, experiment.tags
    link = _address(number)
    links = f"[all runs]({link})"
    if experiment.name != DATA_EXPERIMENT:
        of_models = f"[Models by accuracy]({link}&viewStateShareKey={VIEW})"
        links = f"{of_models}, [means over seeds]({link}&viewStateShareKey={MEANS_VIEW}), {links}"
    wanted = {
        KIND[0]: tags.get(*KIND),
        f"mlflow.sharedViewState.{VIEW}": json.dumps(view),
        f"mlflow.sharedViewState.{MEANS_VIEW}": json.dumps(view | {"groupBy": by_model}),
        "mlflow.note.content": tags.get("mlflow.note.content", f"{links}, under *Model training*"),
    }
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # a server that refuses tags of MLflow's own takes runs all the same
        for name, value in wanted.items():
            if tags.get(name) != value:
                client().set_experiment_tag(number, name, value)


def _address(number: str) -> str:
    """Return the address of an experiment's runs in MLflow's page, which opens on language models by default."""
    return f"#/experiments/{number}/runs?workflowType=machine_learning"


def _follow(experiment: Experiment) -> None:
    """Correct the artifact paths in the database after its folder was moved, copied or mounted elsewhere.

    MLflow writes absolute paths and has no call to change one. A path is changed only if the file is now at the new
    place, or if nothing is at the old one.
    """
    where = store()
    if where.database is None or _is_usable(experiment.artifact_location):
        return
    before, now = _root(experiment.artifact_location), where.database.parent
    with closing(sqlite3.connect(where.database, timeout=60)) as connection, connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
            (where.artifacts, int(experiment.experiment_id)),
        )
        if before is None:  # nothing tells which paths moved with it
            return
        for table, names in LOCATIONS.items():
            present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for name in present.intersection(names):
                rows = connection.execute(f"SELECT rowid, {name} FROM {table}").fetchall()
                moved = [(_moved(uri, before, now), row) for row, uri in rows]
                changed = [(uri, row) for uri, row in moved if uri is not None]
                connection.executemany(f"UPDATE {table} SET {name} = ? WHERE rowid = ?", changed)


def _moved(uri: str | None, before: Path, now: Path) -> str | None:
    """Return the new address of an artifact path whose folder has moved, or None if it has not."""
    old = _local(uri) if uri else None
    if old is None or not old.is_relative_to(before):
        return None
    new = now / old.relative_to(before)
    if not new.exists() and old.exists():
        return None
    return new.as_uri() if str(uri).startswith("file:") else str(new)


def _is_usable(location: str) -> bool:
    """Return whether artifacts belong there: in a bucket, or in a local folder of this clone."""
    path = _local(location)
    if path is None:
        return takes(location)
    database = store().database
    assert database is not None
    root = _root(location)
    if root is not None and _is_same(root, database.parent):
        return True
    if root is not None and (root / DATABASE).exists():
        return False
    return path.exists()


def _root(location: str) -> Path | None:
    """Return the folder of the store that made this artifact path, if the path shows it."""
    path = _local(location)
    for folder in (path, *path.parents) if path is not None else ():
        if folder.name in (ARTIFACTS, "mlruns"):
            return folder.parent
    return None


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _local(location: str) -> Path | None:
    """Return the path of a folder on this machine, or None for any other location."""
    path = unquote(location.removeprefix("file:").removeprefix("//")) if location.startswith("file:") else location
    return Path(path) if path.startswith("/") else None


def _first_use() -> FileLock:
    """Let only one process at a time create the database and its experiments: SQLite's set-up races."""
    return FileLock(repository() / f"{DATABASE}.lock", timeout=120)
