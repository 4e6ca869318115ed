"""A real Ray cluster of two nodes: what it makes is what processes here make, whatever dies or is stopped meanwhile."""

from __future__ import annotations

import getpass
import inspect
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml

from pipeline import config
from pipeline.errors import UserError
from pipeline.study import cluster as driver
from pipeline.study import node, numerics, ray_task
from pipeline.study.jobs import LOGS, MeasureJob, RunJob, SearchJob
from pipeline.study.provenance import Origin
from pipeline.training.autotune import MachineParams
from pipeline.training.teachers import teacher_digests
from pipeline.workspace import resolve
from tests.clone import ROOT, Clone, clone_of_working_tree, started, wait

LOOPBACK = "127.0.0.1"
EPOCHS = 60
SETTINGS: dict[str, Any] = {
    "data.synthetic.train": 140,
    "data.synthetic.val": 35,
    "data.synthetic.test": 42,
    "grid.models": ["baseline", "w2v_cosine", "w2v_abs"],
    "grid.seeds": [0, 1],
    "models.w2v_abs.learning_rate": 1.0e30,
    "recipes.fast.widths": [8, 16],
    "recipes.fast.epochs": EPOCHS,
    "recipes.fast.batch_size": 20,
    "recipes.fast.sizes": [16, 24],
    "machine.precision": "fp32",
    "machine.memory_format": "channels_last",
    "machine.threads": 1,
}
RUNS = ("baseline-0", "w2v_cosine-0")

pytestmark = [pytest.mark.xdist_group("cluster")]
NO_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `cluster` is not installed")
slow = pytest.mark.slow


def test_without_ray_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install .*\[cluster\]"), driver.connected("auto", 1, 0):
        pass


@NO_RAY
def test_an_address_where_nothing_listens_is_named() -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9"), driver.connected("127.0.0.1:9", 1, 0):
        pass


def test_what_is_not_ray_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would try for minutes."""
    for answer in (b"HTTP/1.0 400 Bad Request", b""):

        def give(listener: socket.socket, answer: bytes = answer) -> None:
            with listener.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(answer)

        with socket.create_server((LOOPBACK, 0)) as listener, ThreadPoolExecutor() as other:
            other.submit(give, listener)
            with pytest.raises(UserError, match="not Ray"):
                driver.require_listener(f"{LOOPBACK}:{listener.getsockname()[1]}")
    with pytest.raises(UserError, match="99999999999999999999"):
        driver.require_listener(f"{LOOPBACK}:99999999999999999999")


@NO_RAY
def test_auto_in_the_variable_is_the_cluster_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    for value in ("auto", ""):
        monkeypatch.setenv("RAY_ADDRESS", value)
        with pytest.raises(UserError, match="belongs to no Ray cluster"), driver.connected("auto", 1, 0):
            pass


def test_a_node_that_computes_otherwise_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    measured = {"environment": {"processor": "this", "torch": "2"}, "instructions": "1a2b"}
    monkeypatch.setattr(numerics, "measured", lambda machine, threads: measured)
    assert node.differing({"processor": "this", "torch": "2", "instructions": "1a2b"}) == ""
    assert node.differing({"processor": "this", "torch": "2"}) == "", "as a kept run says it"
    assert node.differing({"processor": "that", "torch": "2"}) == "processor this"
    assert node.differing({"processor": "this", "torch": "2", "instructions": "3c4d"}) == "instructions 1a2b"


def test_a_node_removes_what_dead_processes_of_its_own_have_left(tmp_path: Path) -> None:
    """Nodes may share their folder for temporary files, and a process is known on its own machine alone."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = socket.gethostname()
    own, others = tmp_path / f"{dead.pid}-1-{here}", tmp_path / f"{dead.pid}-1-other-{here}x"
    own.mkdir()
    others.mkdir()
    with node.folder_of(tmp_path) as root:
        assert sorted(tmp_path.iterdir()) == sorted([others, root])
    assert [*tmp_path.iterdir()] == [others]


def test_a_run_that_fits_no_node_is_refused() -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": False, "Resources": {"CPU": 8, "GPU": 1}}]
    driver.require_room(nodes, 8, 0)
    for cpus, gpus in ((9, 0.0), (1, 0.1)):
        with pytest.raises(UserError, match="8 cores"):
            driver.require_room(nodes, cpus, gpus)


def test_another_thread_waits_for_what_a_job_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives the cores of a task away while its own thread waits, and two jobs would train on one core."""
    waited = SimpleNamespace(get=lambda reference: (reference, threading.current_thread() is threading.main_thread()))
    monkeypatch.setitem(sys.modules, "ray", waited)
    assert ray_task.fetched("what") == ("what", False)
    (call,) = [line for line in inspect.getsource(ray_task).splitlines() if "ray.get" in line]
    assert "submit" in call


def test_what_is_trained_is_sent_and_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    own = tmp_path / ".study/B/outputs/models/a-1/model.safetensors"
    for file in (own, own.with_name("model.json"), own.parents[1] / "a-10/model.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    (tmp_path / ".checkpoints").mkdir()
    (tmp_path / ".checkpoints/a-1-0123.safetensors").write_text("a checkpoint")
    monkeypatch.chdir(tmp_path / ".study/B")
    found = driver.brought(RunJob("a-1", str(tmp_path / "results"), "a", 1, True, Origin("fer sweep", None, None)))
    models = {f".study/B/outputs/models/a-1/{name}" for name in ("model.json", "model.safetensors")}
    assert found.keys() == {".checkpoints/a-1-0123.safetensors", *models}


def test_what_a_killed_job_has_unpacked_is_no_code_and_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".1a2b").mkdir()
    (tmp_path / ".1a2b/half.py").write_text("of a job that was killed")
    monkeypatch.setattr(ray_task, "fetched", lambda content: content)
    folder = ray_task.unpacked(tmp_path, "1a2b", [{"a/b.py": b"whole"}])
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py")] == ["1a2b/a/b.py"]
    assert (folder / "a/b.py").read_bytes() == b"whole"


def test_a_student_finds_its_teachers_on_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, sent, there = tmp_path / "here", tmp_path / "sent", tmp_path / "there"
    for name in ("model.json", "model.safetensors"):
        file = tmp_path / "my teachers/first" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["teachers"] = str(tmp_path / "my teachers")
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("DVC_ROOT", str(here))  # which `inside` sets, as the next
    monkeypatch.setenv("FER_TRACKING", "off")
    for models, teachers in (["baseline"], False), (["baseline", "student"], True):
        settings["grid"]["models"] = models
        Path("params.yaml").write_text(yaml.safe_dump(settings))
        found = driver.block_data()
        assert any(name.startswith(node.TEACHERS) for name in found) == teachers
    ray_task.write(sent, found)
    folder = there / "block"
    with node.inside(there, folder, sent, {"block/params.yaml": driver.block_settings()}):
        place = resolve(config.load().teachers)
        assert place.is_relative_to(there)
        assert sorted(teacher_digests(place)) == ["first/model.json", "first/model.safetensors"]


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A head, where nothing is computed, and two nodes of one core each; all on this machine's loopback.

    Each has a folder for temporary files of its own, as on another machine, and one says that it has a GPU.
    """
    if find_spec("ray") is None:
        pytest.skip("the extra `cluster` is not installed")
    short = tempfile.mkdtemp(prefix="r")  # Ray's sockets are in it, whose paths may not be long
    with pytest.MonkeyPatch.context() as here:
        here.setenv("RAY_USAGE_STATS_ENABLED", "0")
        here.setenv("RAY_TMPDIR", short)
        own_folders = [tmp_path_factory.mktemp("node") for _ in range(3)]
        here.setenv("RAY_worker_niceness", "0")  # by default its processes give way to all others: slow, beside tests
        for name, value in driver.LOOPBACK_ALONE.items():
            here.setenv(name, value)
        from ray.cluster_utils import Cluster  # now, as Ray reads some of these when it is imported

        found = Cluster()
        try:
            for folder, cores, gpus in zip(own_folders, (0, 1, 1), (0, 0, 1), strict=True):
                here.setenv("TMPDIR", str(folder))
                here.setenv("CUDA_VISIBLE_DEVICES", "0" if gpus else "")  # Ray refuses to be told of more
                found.add_node(num_cpus=cores, num_gpus=gpus, node_ip_address=LOOPBACK)
            yield SimpleNamespace(nodes=found, folders=own_folders[1:])
        finally:
            found.shutdown()
            shutil.rmtree(short, ignore_errors=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which processes on this machine have made the runs."""
    clone = clone_of_working_tree(tmp_path_factory.mktemp("plain") / "fer", SETTINGS)
    clone.fer("sweep", "--workers", "2", "--seed", "0", "--model", "baseline", "--model", "w2v_cosine")
    return clone


@pytest.fixture(scope="module")
def swept(ray_cluster: SimpleNamespace, plain: Clone, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Another, in which the cluster has made them, and has failed at one."""
    clone = fresh(plain, tmp_path_factory.mktemp("swept") / "fer")
    done = clone.fer("sweep", "--cluster", "auto", "--seed", "0", expect=1)
    return SimpleNamespace(clone=clone, out=done.stdout, err=done.stderr)


def fresh(clone: Clone, path: Path) -> Clone:
    """A copy with the data and without runs."""
    copy = clone.copy(path)
    for made in (
        "results/synthetic",
        *(f".study/grid/outputs/{name}" for name in ("models", "metrics", "predictions")),
    ):
        shutil.rmtree(copy.path / made, ignore_errors=True)
    return copy


def history(clone: Clone, run: str) -> bytes:
    return (clone.path / f".study/grid/outputs/models/{run}/history.csv").read_bytes()


@slow
def test_a_cluster_makes_what_processes_here_make(plain: Clone, swept: SimpleNamespace) -> None:
    for run in RUNS:
        assert history(swept.clone, run) == history(plain, run)
        for file in (f".study/grid/outputs/models/{run}/model.safetensors", f"results/synthetic/runs/{run}.npz"):
            assert (swept.clone.path / file).read_bytes() == (plain.path / file).read_bytes(), file
        kept, same = (kept_run(clone, run) for clone in (swept.clone, plain))
        assert kept == same
        assert "epoch" in (swept.clone.path / f".study/grid/logs/{run}.log").read_text()
    assert not list(swept.clone.path.glob(".checkpoints/baseline*.safetensors"))


def kept_run(clone: Clone, run: str) -> dict[str, Any]:
    """A published run without what it cost and what it was typed as."""
    found = dict(json.loads((clone.path / f"results/synthetic/runs/{run}.json").read_text()))
    for name in ("seconds", "images_per_second"):
        del found["training"][name]
    del found["provenance"]["command"]
    del found["provenance"]["commit"]
    return found


@slow
def test_a_job_that_fails_three_times_is_reported_and_the_others_go_on(swept: SimpleNamespace) -> None:
    said = [line for line in swept.out.splitlines() if line.startswith("w2v_abs-0:")]
    assert len(said) == driver.ATTEMPTS
    assert "w2v_abs-0" in swept.err.splitlines()[-1]
    assert ".study/grid/logs/w2v_abs-0.log" in said[-1]
    assert "no longer a number" in (swept.clone.path / ".study/grid/logs/w2v_abs-0.log").read_text()
    kept = swept.clone.path / "results/synthetic/runs"
    assert {path.stem for path in kept.glob("*.json")} == {*RUNS}


@slow
def test_code_and_data_are_unpacked_once_and_nothing_else_is_left_on_a_node(
    ray_cluster: SimpleNamespace, swept: SimpleNamespace
) -> None:
    for folder in ray_cluster.folders:
        own = folder / f"fer-{getpass.getuser()}"
        assert len([path for path in (own / "inputs").iterdir() if path.is_dir()]) == 2
        assert list((own / "work").iterdir()) == []


@slow
def test_nothing_listens_beyond_this_machine(ray_cluster: SimpleNamespace) -> None:
    processes = [process for node in ray_cluster.nodes.list_all_nodes() for process in processes_of(node)]
    assert beyond_this_machine(processes) == set()


def beyond_this_machine(processes: list[psutil.Process]) -> set[str]:
    """The addresses other than loopback at which these listen, with their children."""
    family = {process for parent in processes for process in (parent, *parent.children(recursive=True))}
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert LOOPBACK in addresses
    return {address for address in addresses if not address.startswith("127.") and address != "::1"}


@slow
def test_a_search_brings_its_trials_back(ray_cluster: SimpleNamespace, swept: SimpleNamespace) -> None:
    """With a part of a GPU, as far as Ray knows: it counts them, and PyTorch finds none here."""
    assert ray_cluster
    search = {"trials": 2, "epochs": 1, "finalists": 1}
    block = {"question": "Q", "recipe": "fast", "seeds": [0], "baseline": "baseline", "models": ["baseline"]}
    file = swept.clone.path / "study.yaml"
    file.write_text(yaml.safe_dump({"blocks": {"T": block | {"search": search}}}))
    swept.clone.fer("search", "--block", "T", "--cluster", "auto", "--gpus-per-run", "0.4")
    trials = json.loads((swept.clone.path / "results/synthetic/T/learning_rates.json").read_text())
    assert len({trial["learning_rate"] for trial in trials if trial["val_accuracy"] > 0}) == len(trials) == 2


@slow
@pytest.mark.servers
def test_a_node_of_another_kind_is_left_out(
    ray_cluster: SimpleNamespace,
    swept: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Asked first, it says how it differs, and another node does the job. It is this machine: it only says so."""
    import ray

    code = driver.code_files()
    code["pipeline/study/numerics.py"] += b"\nimport os\ninstructions = lambda: os.environ.get('FER_KIND', 'ours')\n"
    monkeypatch.setattr(driver, "code_files", lambda: code)
    monkeypatch.setenv("FER_KIND", "theirs")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    theirs = ray_cluster.nodes.add_node(num_cpus=1, node_ip_address=LOOPBACK)
    monkeypatch.setenv("DVC_ROOT", str(swept.clone.path))
    monkeypatch.chdir(swept.clone.path / ".study/grid")
    machine = MachineParams("fp32", "channels_last", 1, False)
    job = MeasureJob("machine", str(swept.clone.path / "results"), machine, environment={"instructions": "ours"})
    try:
        with driver.connected("auto", 1, 0) as one:
            alike = [described["NodeID"] for described in ray.nodes() if described["NodeID"] != theirs.node_id]
            selector = one.selector
            first = iter([{"label_selector": {"ray.io/node-id": f"!in({', '.join(alike)})"}}])
            monkeypatch.setattr(one, "selector", lambda job: next(first, None) or selector(job))
            (outcome,) = one.outcomes([job])
            assert one.excluded == {driver.asked(job): {theirs.node_id}}
    finally:
        ray_cluster.nodes.remove_node(theirs)
    assert outcome.found
    assert outcome.found["instructions"] == "ours"
    assert "left out" in capsys.readouterr().out


@slow
@pytest.mark.servers
def test_a_run_goes_on_after_its_node_or_its_command_has_died(
    ray_cluster: SimpleNamespace, plain: Clone, tmp_path: Path
) -> None:
    clone, run = fresh(plain, tmp_path / "fer"), RUNS[0]
    command = ("sweep", "--cluster", "auto", "--seed", "0", "--model", "baseline")
    with started(clone, *command) as process:
        wait(lambda: bool(list(clone.path.glob(f".checkpoints/{run}-*.safetensors"))))
        assert beyond_this_machine([psutil.Process(process.pid)]) == set()
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 128 + signal.SIGINT
    assert not list(clone.path.glob("results/synthetic/runs/*"))
    log = clone.path / f".study/grid/logs/{run}.log"
    log.unlink()
    with started(clone, *command) as process:
        wait(lambda: log.exists() and "resumes from" in log.read_text())
        (its_node,) = [node for node in ray_cluster.nodes.worker_nodes if f"ray::{run}" in titles(node)]
        ray_cluster.nodes.remove_node(its_node, allow_graceful=False)
        assert process.wait(600) == 0
        assert process.stdout
        said = process.stdout.read().decode()
        assert "node died" in said
        assert "raylet" not in said  # Ray would print its log, page after page
    assert history(clone, run) == history(plain, run)
    assert (clone.path / f"results/synthetic/runs/{run}.json").exists()
    assert not list(clone.path.glob(".checkpoints/*.safetensors"))


def titles(node: Any) -> set[str]:
    """What the processes of a node call themselves: a task by its name."""
    return {
        word
        for process in processes_of(node)
        for child in process.children(recursive=True)
        for word in child.cmdline()[:1]
    }


def processes_of(node: Any) -> list[psutil.Process]:
    """The services of a node."""
    return [psutil.Process(info.process.pid) for kind in node.all_processes.values() for info in kind]


# The rest imports Ray without the settings of the cluster above, and so comes after it.


@dataclass
class Ended:
    """A cluster whose tasks have ended as they say."""

    exceptions: Any

    def get(self, task: Any) -> Any:
        if isinstance(task, Exception):
            raise task
        return task


@NO_RAY
def test_a_cluster_that_asks_for_a_token_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**_: object) -> None:
        raise ray.exceptions.AuthenticationError("Authentication failed")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(driver, "require_listener", lambda address: "192.0.2.1")
    with (
        pytest.raises(UserError, match=r"192\.0\.2\.1:6379' asks for a token"),
        driver.connected("192.0.2.1:6379", 1, 0),
    ):
        pass


@NO_RAY
def test_only_a_node_that_dies_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import exceptions

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(driver.Cluster, "__post_init__", lambda cluster: None)
    LOGS.mkdir()
    one = driver.Cluster(Ended(exceptions), 1, 0)
    attempt = driver.Attempt(SearchJob("search-a", "results", "a", 0))
    assert one.settled(exceptions.NodeDiedError("gone"), attempt) is None
    assert attempt.failures == 0
    cause = exceptions.ObjectFetchTimedOutError("1" * 56, "", "")
    raised = exceptions.RayTaskError("perform", "trace", cause).as_instanceof_cause()
    assert isinstance(raised, exceptions.ObjectLostError)
    for failures in range(1, driver.ATTEMPTS):
        assert one.settled(raised, attempt) is None
        assert attempt.failures == failures
    outcome = one.settled(raised, attempt)
    assert outcome is not None
    assert outcome.error


@NO_RAY
def test_what_says_that_it_computes_otherwise_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ray import exceptions

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(driver.Cluster, "__post_init__", lambda cluster: None)
    one = driver.Cluster(Ended(exceptions), 1, 0)
    job, other = (SearchJob("search-a", "results", "a", 0, environment={"torch": version}) for version in ("2", "3"))
    assert one.selector(job) == {}
    for node_id in ("b1", "a1", "b1"):
        answer: dict[str, Any] = {"unlike": "torch 3", "node": node_id, "files": {}, "seconds": 0.0}
        assert one.settled(answer, driver.Attempt(job)) is None
    assert one.selector(job) == {"label_selector": {"ray.io/node-id": "!in(a1, b1)"}}
    assert one.selector(other) == {}
    assert capsys.readouterr().out.count("torch 3") == 2


@NO_RAY
def test_a_cluster_that_has_gone_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import exceptions

    def gone(*_: object, **__: object) -> None:
        raise exceptions.RaySystemError("the raylet is dead")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(driver.Cluster, "__post_init__", lambda cluster: None)
    task = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: "a task"))
    one = driver.Cluster(SimpleNamespace(exceptions=exceptions, wait=gone, cancel=gone), 1, 0)
    one.code, one.perform, one.keeper = ("", []), task, None
    jobs = [SearchJob("search-a", str(tmp_path / "results"), "a", 0)]
    with pytest.raises(UserError, match=r"no longer answers.*resumes"):
        next(one.outcomes(jobs, {}))
