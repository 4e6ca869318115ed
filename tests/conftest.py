"""Pipelines as users run them: real `dvc` and `mlflow` in a git clone of this repository, made small."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from pipeline import cli
from pipeline.__main__ import fer
from tests import warm
from tests.clone import ROOT, SMALL, Clone, clone_of_working_tree

MEMORY = Path("/dev/shm")
OURS = pytest.StashKey[str]()
"""The folder that these tests have made there; other processes of theirs, and tests within tests, use it too."""
ROOM = 8 * 1024**3
"""Bytes that must be free there: some times what the tests write."""


def pytest_configure(config: pytest.Config) -> None:
    """Let each of several processes compute on one thread, as more would wait for each other, and keep our order.

    Write to memory where there is room, unless TMPDIR says otherwise: DVC, MLflow and the pipeline wait for the disk
    after each file, which takes a quarter of the time of their tests.
    """
    if "TMPDIR" not in os.environ and has_room(MEMORY):
        os.environ["TMPDIR"] = tempfile.tempdir = config.stash[OURS] = tempfile.mkdtemp(prefix="fer-tests-", dir=MEMORY)
        Path(tempfile.tempdir).chmod(0o711)  # PostgreSQL, which refuses to run as root, has its folder there too
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        config.option.loadscopereorder = False  # which would put the groups with the most tests first


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Free that memory, unless someone may want to see what a test that failed has written."""
    if exitstatus == 0 and OURS in session.config.stash:
        shutil.rmtree(session.config.stash[OURS], ignore_errors=True)


def has_room(folder: Path) -> bool:
    """Whether files may be written there, and run, and many of them fit."""
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return False
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize >= ROOM and not system.f_flag & os.ST_NOEXEC


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups after this
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that many short tests fill the end, when tests run in several processes.

    The first of all makes the clone that most slow tests share; meanwhile the others run those that do without. The
    short tests of a module stay together: handed out one by one, they would wait for that longer than they take.
    """
    if not hasattr(config, "workerinput"):
        return

    for item in items:
        if not any(item.get_closest_marker(name) for name in ("slow", "medium", "xdist_group")):
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(ROOT))))
    of_groups = {group_of(item) for item in items if shares(item)}  # a group is done where its first test is

    def place(item: pytest.Item) -> tuple[bool, bool, bool]:
        slow, medium = (item.get_closest_marker(name) is not None for name in ("slow", "medium"))
        return not slow, not medium, group_of(item) in of_groups

    items.sort(key=place)
    first = next((number for number, item in enumerate(items) if shares(item)), None)
    if first is not None:
        items.insert(0, items.pop(first))


def shares(item: pytest.Item) -> bool:
    """Whether a test needs the shared clone."""
    return bool({"original", "finished"} & {*getattr(item, "fixturenames", ())})


def group_of(item: pytest.Item) -> str:
    """The name of the tests that one process does with this one, or its own."""
    mark = item.get_closest_marker("xdist_group")
    return str(mark.args[0]) if mark else item.nodeid


@pytest.fixture(scope="session")
def warm_python() -> Iterator[dict[str, str]]:
    """What to set for commands whose imports may be made already."""
    with warm.started(Clone(ROOT).env()) as hooked:
        yield hooked


@pytest.fixture(scope="session")
def make_clone(tmp_path_factory: pytest.TempPathFactory, warm_python: dict[str, str]) -> Callable[..., Clone]:
    """Clone this repository as it is in the working tree, with the small configuration, committed."""

    def make(changes: dict[str, Any] | None = None) -> Clone:
        path = tmp_path_factory.mktemp("clone") / "fer"
        return clone_of_working_tree(path, SMALL | (changes or {}), warm_python)

    return make


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, warm_python: dict[str, str]) -> Clone:
    """A clone after its first `dvc repro`, with what that logged: made once for all processes of a test run.

    To be read alone, as all of them share it; what runs commands in it has `finished` or a copy.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path, complete = base / "original" / "fer", base / "original.complete"
    with FileLock(base / "original.lock"):
        if not complete.exists():
            clone = clone_of_working_tree(path, SMALL, warm_python)
            clone.dvc("repro", FER_TEST_PICTURES="drawn")
            clone.commit("The first run")
            complete.touch()
    return Clone(path, warm=warm_python)


@pytest.fixture(scope="session")
def finished(original: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The same with its outputs, but without MLflow's store. Shared: tests that change something work on a copy."""
    return original.copy(tmp_path_factory.mktemp("finished") / "fer")


@pytest.fixture
def fer_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a command around the stages in a clone, in this process: a new one takes longer than most commands."""

    def run(clone: Clone, *arguments: str) -> None:
        with monkeypatch.context() as here:
            here.chdir(clone.path)
            here.setenv("FER_TRACKING", "off")
            here.delenv("DVC_ROOT", raising=False)
            cli.run(fer, arguments)

    return run


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """A training makes its process flush denormal numbers to zero; the test after it must not."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch may use one thread: on tiny tensors more only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
