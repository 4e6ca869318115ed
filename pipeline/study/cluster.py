"""Do the jobs of a sweep or a search on a Ray cluster, one task each; Ray decides where and when.

Code and data are sent once per node (`ray_task`), jobs run there as in a worker process here (`node`), and what they
make is written here as each ends. Checkpoints come back while they run. A job whose node died is given to Ray again,
with the last one; a job that fails is tried `ATTEMPTS` times.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from pipeline import config
from pipeline.errors import UserError, first_line
from pipeline.files import JsonDict, replacing, repository
from pipeline.fingerprint import SOURCES, mlflow_key
from pipeline.study import node, publish, ray_task, trial
from pipeline.study.jobs import Job, MeasureJob, RunJob, SearchJob
from pipeline.study.pool import Outcome
from pipeline.study.ray_task import Files, Keeper
from pipeline.training.autotune import MachineParams
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.teachers import teacher_digests
from pipeline.workspace import RunKey, resolve

ATTEMPTS = 3
"""How often a job may fail; a node that dies does not count."""
TICK = 0.3
"""Seconds between two looks at what has come."""
STOP_TIMEOUT = 20
"""Seconds that jobs have to stop: to end a batch and to send the last checkpoint."""
LOOPBACK_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""What makes Ray stay on the loopback where the address of a node is 127.0.0.1, whatever the system."""
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""What a client sends first by RFC 9113: a preface and an empty frame of settings."""
HTTP2_SETTINGS = b"\4"
"""The kind of the frame that a server, as Ray's head is one, sends first."""
SHIPPED = ("pipeline", "stages")
PROJECT = "fer-word-loss"


@contextlib.contextmanager
def connected(address: str, cpus: int, gpus: float) -> Iterator[Cluster]:
    """Yield the cluster at this address: "auto" for the one of this machine, or HOST:PORT.

    Raises UserError if Ray is not installed or no node can run a job, and when the cluster cannot be reached.
    """
    require_installed()
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    if address == "auto":
        address = current()
    host = require_listener(address)
    ray = imported(on_loopback=host == "localhost" or host.startswith("127.") or host == "::1")
    before = signal.getsignal(signal.SIGTERM)
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level="error")
    except ray.exceptions.AuthenticationError as error:
        raise UserError(
            f"The Ray cluster at '{address}' asks for a token, and this command has none or another one: set "
            "RAY_AUTH_MODE=token and the token, as docs/cluster.md shows."
        ) from error
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(
            f"There is no Ray cluster at '{address}' that this machine belongs to ({first_line(error)}): start one "
            "with `ray start --head` as docs/cluster.md shows."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray's own would end this process without a clean-up
    try:
        # Or Ray prints the log of every node that dies, pages of it. It has no public option for that.
        ray._private.worker._worker_logs_enabled = False
        require_room(ray.nodes(), cpus, gpus)
        yield Cluster(ray, cpus, gpus, context.dashboard_url or "")
    finally:
        ray.shutdown()


def require_installed() -> None:
    """Raise UserError without Ray."""
    if find_spec("ray") is None:
        raise UserError("A cluster needs Ray, which is not installed: run `python -m pip install -e '.[cluster]'`.")


def imported(on_loopback: bool = False) -> Any:
    """Return Ray.

    on_loopback: whether the cluster is on the loopback, an address that Ray otherwise replaces by the machine's own.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if on_loopback:
        os.environ |= LOOPBACK_ALONE
    import ray

    return ray


def current() -> str:
    """Return the address of the cluster of this machine, as `ray start` has left it. Raises UserError without one."""
    temporary = tempfile.gettempdir() if sys.platform == "linux" else "/tmp"  # as Ray has it
    file = Path(os.environ.get("RAY_TMPDIR") or temporary, "ray", "ray_current_cluster")
    if not file.exists():
        raise UserError(
            "This machine belongs to no Ray cluster: start one with `ray start` as docs/cluster.md shows, or name the "
            "address of another in `--cluster`."
        )
    return file.read_text(encoding="utf-8", errors="replace").strip()


def require_listener(address: str) -> str:
    """Return the host of HOST:PORT. Raises UserError if nothing like Ray listens there: it would try for minutes."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), 5) as connection:
            if "RAY_USE_TLS" not in os.environ:
                connection.sendall(HTTP2_GREETING)
                if connection.recv(4)[3:] != HTTP2_SETTINGS:
                    raise ConnectionError("what listens there is not Ray")
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"No Ray cluster answers at '{address}' ({error}): name the address that `ray start --head` printed, or "
            "`auto` on a machine of the cluster without RAY_ADDRESS in the environment."
        ) from error
    return host


def require_room(nodes: Sequence[JsonDict], cpus: int, gpus: float) -> None:
    """Raise UserError if no node has these resources: Ray would wait for one."""
    rooms = [described["Resources"] for described in nodes if described["Alive"]]
    if not any(room.get("CPU", 0) >= cpus and room.get("GPU", 0) >= gpus for room in rooms):
        listed = "; ".join(f"{room.get('CPU', 0):g} cores, {room.get('GPU', 0):g} GPUs" for room in rooms)
        raise UserError(
            f"A run takes {cpus} cores and {gpus:g} GPUs, and no node of the cluster has both ({listed}): lower "
            "`--cpus-per-run` or `--gpus-per-run`."
        )


@dataclass
class Attempt:
    """A job that Ray has, and how often it has failed."""

    job: Job
    failures: int = 0


@dataclass
class Cluster:
    """A Ray cluster that this process is connected to.

    threads: of one training, with a core for each; gpus: that one job takes. dashboard: its address, empty without one;
    excluded: nodes that compute otherwise than jobs ask for, by what these ask for.
    """

    chooses_machines: ClassVar[bool] = True  # nodes that compute otherwise than a job asks for are left out
    ray: Any
    threads: int
    gpus: float
    dashboard: str = ""
    excluded: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ray.cloudpickle.register_pickle_by_value(ray_task)
        self.code = self.sent(code_files())
        # Without retries by Ray, which would not count as we do. A process that had a GPU ends after its job, so that
        # nothing stays in the memory that others share.
        self.perform = self.ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=0)(ray_task.perform)
        self.keeper = self.on_this_node(Keeper)
        self.arrivals = 0

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a job needs before PyTorch is imported."""
        return {"OMP_NUM_THREADS": str(self.threads)} | ({} if self.gpus else {"CUDA_VISIBLE_DEVICES": ""})

    @property
    def place(self) -> str:
        """Where the jobs are done."""
        alive = sum(described["Alive"] for described in self.ray.nodes())
        return f"Ray, {alive} nodes now" + (f", http://{self.dashboard}" if self.dashboard else "")

    def measure(self, requested: MachineParams) -> JsonDict:
        """Measure on a node: this machine may be of another kind."""
        job = MeasureJob("machine", str(repository() / "results"), requested)
        with contextlib.closing(self.outcomes([job], {})) as outcomes:
            outcome = next(outcomes)
        if outcome.found is None:
            raise UserError(f"No node of the cluster can compute: {outcome.error}")
        return outcome.found

    def outcomes(self, jobs: Sequence[Job], data: Files | None = None) -> Generator[Outcome]:
        """Give all jobs to Ray and yield each as it ends for good; what it made is here by then.

        data: what the jobs read, by default the data and settings of the block in this folder. Jobs that are left when
        the generator is closed are cancelled, and their last checkpoints kept.
        """
        ray, block = self.ray, Path.cwd().relative_to(repository()).as_posix()
        settings: Files = {} if data is not None else {f"{block}/params.yaml": block_settings()}
        files = block_data() if data is None else data
        sent = {"code": self.code} | ({"data": self.sent(files)} if files else {})
        pending: dict[Any, Attempt] = {}

        def submit(attempt: Attempt) -> None:
            job = replace(relative(attempt.job), block_folder=block)
            task = self.perform.options(name=job.name, **self.selector(job))
            pending[task.remote(job.to_dict(), settings | brought(job), sent, self.keeper, self.environment)] = attempt

        try:
            for job in jobs:
                submit(Attempt(job))
            while pending:
                ready, _ = ray.wait([*pending], num_returns=len(pending), timeout=TICK)
                places = len(ready) + self.take([pending[task].job.name for task in ready])  # busy until now
                for task in ready:
                    outcome, attempt = self.settled(task, pending[task]), pending.pop(task)
                    if outcome is None:
                        submit(attempt)
                    else:
                        yield outcome._replace(running=min(places, len(pending)))
        except ray.exceptions.RayError as error:
            raise UserError(
                f"The Ray cluster no longer answers ({first_line(error)}): start it again, and the same command "
                "resumes from the last checkpoints."
            ) from error
        finally:
            self.stop(pending)

    def take(self, ended: Sequence[str] = ()) -> int:
        """Write what running jobs have sent and return how many they are; `ended`: jobs that run no longer."""
        count, arrived, running = self.ray.get(self.keeper.since.remote(self.arrivals, [*ended]))
        for name, content in arrived:
            received({name: content})
        self.arrivals = count
        return int(running)

    def stop(self, pending: Mapping[Any, Attempt]) -> None:
        """Cancel tasks, wait for them, and keep what they have sent or made until now."""
        gone = self.ray.exceptions.RayError
        ended: list[Any] = []
        with contextlib.suppress(gone):  # the cluster, which the user has been told
            for task in pending:
                self.ray.cancel(task)
            if pending:
                ended, _ = self.ray.wait([*pending], num_returns=len(pending), timeout=STOP_TIMEOUT)
            self.take()
        for task in ended:
            with contextlib.suppress(gone):  # it was cancelled, as most are
                keep(pending[task].job, self.ray.get(task))

    def settled(self, task: Any, attempt: Attempt) -> Outcome | None:
        """Return what came of a task that has ended, with its files written; None if the job is to be tried again."""
        job, exceptions = attempt.job, self.ray.exceptions
        try:
            answer = self.ray.get(task)
        except exceptions.RayError as error:
            # What a task has raised may be of the first two kinds too, but is a fault of its own.
            lost = isinstance(error, (exceptions.NodeDiedError, exceptions.ObjectLostError))
            if lost and not isinstance(error, exceptions.RayTaskError):
                last = "trial" if isinstance(job, SearchJob) else "epoch"
                print(f"{job.name}: its node died; it resumes after its last {last} on another", flush=True)
                return None
            with job.log.open("a", encoding="utf-8") as log:
                log.write(f"{error}\n")
            answer = {"error": f"{first_line(getattr(error, 'cause', None) or error)}.", "files": {}, "seconds": 0.0}
        keep(job, answer)
        if "unlike" in answer:
            left_out = self.excluded.setdefault(asked(job), set())
            if answer["node"] not in left_out:
                print(f"a node is left out because it computes differently ({answer['unlike']})", flush=True)
            left_out.add(answer["node"])
            return None
        if "error" in answer:
            attempt.failures += 1
            if attempt.failures < ATTEMPTS:
                print(f"{job.name}: failed; trying again: {answer['error']}", flush=True)
                return None
        return Outcome(job, answer.get("found"), answer["seconds"], answer.get("error"))

    def sent(self, files: Files) -> tuple[str, list[Any]]:
        """Put files into the object store; return their digest and, in a list, the reference."""
        digest = hashlib.sha256()
        for name, content in sorted(files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        arrays = {name: np.frombuffer(content, np.uint8) for name, content in files.items()}
        return digest.hexdigest()[:16], [self.ray.put(arrays)]

    def selector(self, job: Job) -> JsonDict:
        """Return the option that keeps a job off the nodes that compute otherwise."""
        left_out = ", ".join(sorted(self.excluded.get(asked(job), ())))
        return {"label_selector": {"ray.io/node-id": f"!in({left_out})"}} if left_out else {}

    def on_this_node(self, kind: Callable[[], Any]) -> Any:
        """Start an actor on this machine, which lives as long as the command."""
        own = self.ray.get_runtime_context().get_node_id()
        strategy = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(own, soft=False)
        return self.ray.remote(kind).options(num_cpus=0, scheduling_strategy=strategy).remote()


def asked(job: Job) -> str:
    """Return what a job asks of a machine as a key."""
    return json.dumps(job.environment, sort_keys=True)


def keep(job: Job, answer: JsonDict) -> None:
    """Write what a job has made; when it is finished, remove what that replaces."""
    received(answer["files"])
    if "found" in answer and isinstance(job, RunJob):
        remove_checkpoints(job.run_key)
        if not job.figures:  # as the node did, which has none of another training
            publish.remove_figures(Path(job.folder), job.run_key)


def code_files() -> Files:
    """Return the code of the project by its paths, with the version that its runs name."""
    modules = [path for folder in SHIPPED for path in (SOURCES / folder).rglob("*.py")]
    files = {path.relative_to(SOURCES).as_posix(): path.read_bytes() for path in modules}
    about = f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: {metadata.version(PROJECT)}\n"
    return files | {f"{PROJECT.replace('-', '_')}.dist-info/METADATA": about.encode()}


def block_settings() -> bytes:
    """Return params.yaml of the block in this folder, with the teachers where a node has them."""
    settings = yaml.safe_load(Path("params.yaml").read_bytes()) | {"teachers": node.TEACHERS}
    return yaml.safe_dump(settings, allow_unicode=True).encode()


def block_data() -> Files:
    """Return the data of the block in this folder, by their paths in it, and its teachers if it has students."""
    paths = [path for name in node.INPUTS for path in Path("outputs", name).rglob("*") if path.is_file()]
    files = {path.as_posix(): path.read_bytes() for path in paths}
    params = config.load()
    if not any(params.models[name].distillation for name in params.grid.models):
        return files
    folder = resolve(params.teachers)
    return files | {f"{node.TEACHERS}/{name}": (folder / name).read_bytes() for name in teacher_digests(folder)}


def relative(job: Job) -> Job:
    """Return the job with its folder as a path in the repository, which a node has elsewhere."""
    return replace(job, folder=Path(job.folder).relative_to(repository()).as_posix())


def brought(job: Job) -> Files:
    """Return what a job resumes from, by paths in the repository: checkpoints and trained network, or trials."""
    root = repository()
    if isinstance(job, RunJob):
        trained = Path.cwd() / job.run_key.models
        paths = [*(root / ".checkpoints").glob(f"{glob.escape(job.name)}-*.safetensors"), *trained.glob("*")]
    elif isinstance(job, SearchJob):
        paths = [root / job.folder / name for name in ("learning_rates.json", f"runs/{job.run_key.name}.json")]
    else:
        paths = []
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def received(files: Files) -> None:
    """Write what a job has made, the file that marks a run as complete last; new trials join those that are here."""
    root = repository()
    for name in sorted(files, key=lambda name: (name.startswith("results/"), name.endswith(".json"))):
        if Path(name).name == "learning_rates.json":
            merge(root / name, files[name])
        else:
            with replacing(root / name) as temporary:
                temporary.write_bytes(files[name])


def merge(file: Path, content: bytes) -> None:
    """Add the trials that are new to the file."""
    new = [one for one in json.loads(content) if one not in trial.kept(file)]
    for one in new:
        trial.keep(file, one)


def remove_checkpoints(run_key: RunKey) -> None:
    """Remove the checkpoints of a finished run."""
    key = mlflow_key(run_key, run_key.facts()["inputs_digest"])
    for path in (repository() / ".checkpoints").glob(f"{glob.escape(key)}-*.safetensors"):
        Checkpoint(path).remove()
