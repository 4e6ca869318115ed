"""Real servers on loopback: each a process group of its own on a free port, stopped at the end or killed in between."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

START = 180
"""Seconds for a server to start: many times what it takes, so that only a hang fails."""


def has(*modules: str) -> bool:
    """Whether these packages are installed."""
    return all(find_spec(module) is not None for module in modules)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plain_environment() -> dict[str, str]:
    """What these tests run in, without the settings of whoever starts them."""
    settings = ("MLFLOW_", "PG", "AWS_", "FER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(settings)}


@dataclass
class Server:
    """command: what to run. is_ready: asks it, and raises OSError or returns False until it answers.

    log: what it says, in the folder in which it runs.
    """

    command: Sequence[str]
    port: int
    is_ready: Callable[[], bool]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.log.parent, env={**plain_environment(), **self.environment},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text(errors="replace")
            assert time.monotonic() < deadline, f"did not start: {self.log.read_text(errors='replace')}"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return self.is_ready()
        except OSError:
            return False

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started, and wait for its end."""
        assert self.process is not None
        os.killpg(self.process.pid, number)
        try:
            self.process.wait(timeout=30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill(self) -> None:
        """End it as a crash of the machine would."""
        self.end(signal.SIGKILL)


@contextmanager
def running(server: Server, stop: signal.Signals = signal.SIGTERM) -> Iterator[Server]:
    """The server while the block lasts. stop: the signal that ends it in order."""
    try:
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.end(stop)


def accepts(port: int) -> bool:
    """Whether something listens there. Raises OSError if not."""
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        return True


# --- MLflow --------------------------------------------------------------------------------------------------


def mlflow_server(command: Sequence[str], port: int, folder: Path, **environment: str) -> Server:
    """An MLflow server that this command, which names the port, starts; ready when it says that it is well."""

    def is_well() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)

    # What MLflow's server does for language models, in processes of its own.
    quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return Server(command, port, is_well, folder / "log", quick | environment)


# --- PostgreSQL ----------------------------------------------------------------------------------------------


def _postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs: on PATH, or Debian's, which is not."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


PROGRAMS = _postgres_programs()
NO_POSTGRESQL = pytest.mark.skipif(
    PROGRAMS is None or not has("psycopg", "flask_wtf"),
    reason="needs PostgreSQL and the extra team: apt-get install postgresql and make install EXTRAS=dev,team",
)


@contextmanager
def postgresql(*databases: str) -> Iterator[dict[str, str]]:
    """A fresh PostgreSQL with these databases while the block lasts; the variables of its clients."""
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import make_conninfo

    assert PROGRAMS is not None
    as_user, user = _ordinary_user()
    port, password = free_port(), "a password, 100% & more"
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # pytest's own folders are closed to other users
    secret, data = folder / "password", folder / "data"
    secret.write_text(password)
    if user is not None:
        for path in (folder, secret):
            os.chown(path, user.pw_uid, user.pw_gid)
    init = [str(PROGRAMS / "initdb"), "--pgdata", str(data), "--username=fer", "--auth=scram-sha-256", "--no-sync"]
    subprocess.run([*as_user, *init, "--pwfile", str(secret)], cwd=folder, check=True, capture_output=True)
    settings = ("-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
    command = [*as_user, str(PROGRAMS / "postgres"), "-D", str(data), *settings]
    login = {"host": "127.0.0.1", "port": str(port), "user": "fer", "password": password}
    where = make_conninfo(dbname="postgres", **login)

    def is_ready() -> bool:
        try:
            psycopg.connect(where).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        with running(Server(command, port, is_ready, folder / "log"), signal.SIGINT):
            with psycopg.connect(where, autocommit=True) as connection:
                for name in databases:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            yield {f"PG{name.upper()}": value for name, value in login.items()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ordinary_user() -> tuple[list[str], pwd.struct_passwd | None]:
    """What starts a command as someone who is not root, which PostgreSQL refuses, and who that is."""
    if os.geteuid():
        return [], None
    user = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"], user


# --- S3 ------------------------------------------------------------------------------------------------------

JUICEFS = shutil.which("juicefs", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
NO_S3 = pytest.mark.skipif(
    JUICEFS is None or not has("dvc_s3"), reason="needs the extras team and store: make install EXTRAS=dev,team,store"
)


def with_programs(**environment: str) -> dict[str, str]:
    """An environment in which the programs of these tests' Python come first."""
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    return {"PATH": os.pathsep.join(paths), **environment}


@contextmanager
def s3_store(folder: Path) -> Iterator[dict[str, str]]:
    """The store of examples/team with its bucket `fer` while the block lasts; the variables of its clients."""
    port, password = free_port(), "an S3 secret key"
    settings = {"DATA": str(folder / "s3"), "S3_ADDRESS": f"127.0.0.1:{port}"}
    settings |= {"MINIO_ROOT_USER": "fer", "MINIO_ROOT_PASSWORD": password, "HOME": str(folder)}
    command = [str(EXAMPLES / "team/store.sh")]
    with running(Server(command, port, partial(accepts, port), folder / "s3.log", with_programs(**settings))):
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "fer",
            "AWS_SECRET_ACCESS_KEY": password,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


# --- SSH -----------------------------------------------------------------------------------------------------

SSHD = shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
NO_SSH = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh-keygen") is None or not has("dvc_ssh"),
    reason="needs OpenSSH's server and the extra team: apt-get install openssh-server and make install EXTRAS=dev,team",
)


@dataclass(frozen=True)
class Login:
    """How to reach an SSH server: by key alone."""

    user: str
    port: int
    key: Path


@contextmanager
def ssh_server(folder: Path) -> Iterator[Login]:
    """An OpenSSH server with a host key of its own while the block lasts, for whoever runs these tests."""
    for name in ("host", "key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    port, user = free_port(), pwd.getpwuid(os.geteuid()).pw_name
    settings = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": folder / "host", "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": folder / "key.pub", "PasswordAuthentication": "no", "PermitRootLogin": "yes",
        "StrictModes": "no", "Subsystem": "sftp internal-sftp",
    }  # fmt: skip
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if not os.geteuid():
        Path("/run/sshd").mkdir(exist_ok=True)
    command = [str(SSHD), "-D", "-e", "-f", str(folder / "config")]
    with running(Server(command, port, partial(accepts, port), folder / "sshd.log")):
        yield Login(user, port, folder / "key")
