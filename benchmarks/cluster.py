"""What a Ray cluster costs and gives: simulated nodes of one core each, all on this machine's loopback.

    python -m benchmarks.cluster {overhead,scaling,kills,queue} [--help]

overhead compares `fer sweep` on a cluster of one node with one process without Ray, run by run; scaling makes one grid
on several numbers of nodes; kills ends a node every so often and counts what is lost and trained again; queue gives a
cluster many jobs of no work. The trainings are real, of a small network on drawn faces, in a temporary clone of the
last commit. More nodes than cores share cores, so that their efficiency says nothing.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import click
import psutil
import yaml

from benchmarks.machine import header
from benchmarks.overhead import ROOT, SMALL, command, merged
from benchmarks.timing import table
from pipeline import cli
from pipeline.cli import Number
from pipeline.errors import UserError
from pipeline.files import set_environment
from pipeline.study import cluster as driver
from pipeline.study.jobs import LOGS, MeasureJob
from pipeline.training.autotune import MachineParams

NAME = "python -m benchmarks.cluster"
LOOPBACK = "127.0.0.1"
DONE = re.compile(r"; (\d+) of \d+,")
EPOCH = re.compile(r"^ *(\d+) +\d+ +\d", re.MULTILINE)
RUNS = click.option("--runs", type=Number(), default=12, help="Trainings of the grid.")
EPOCHS = click.option("--epochs", type=Number(), default=20, help="Epochs of each: about a second for 20.")

cluster = click.Group(NAME, no_args_is_help=False, help=__doc__, epilog=f"Example: {NAME} overhead --runs 12")


@cluster.command(epilog=f"Example: {NAME} overhead --runs 12")
@RUNS
@EPOCHS
def overhead(runs: int, epochs: int) -> None:
    """Compare a run through Ray with one without."""
    with nodes(1), workspace(runs, epochs) as folder:
        ways = {"one process": ("--workers", "1"), "Ray, one node": ("--cluster", "auto")}
        times = {name: finished(folder, *options) for name, options in ways.items()}
    heading(f"{runs} trainings of {epochs} epochs, one after the other")
    rows = [
        [name, f"{found[0]:.2f}", f"{(found[-1] - found[0]) / max(1, len(found) - 1):.2f}"]
        for name, found in times.items()
    ]
    print(table(["executor", "until the first, s", "each further one, s"], rows))


@cluster.command(epilog=f"Example: {NAME} scaling --nodes 1 --nodes 2")
@RUNS
@EPOCHS
@click.option("--nodes", "counts", type=Number(), multiple=True, default=(1, 2, 4), help="Nodes; repeatable.")
def scaling(runs: int, epochs: int, counts: Sequence[int]) -> None:
    """Make one grid on several numbers of nodes, and by as many processes without Ray, up to the cores that there are.

    Counted from the first finished run to the last, so that the start of Ray's processes is left out.
    """
    if runs <= max(counts):
        raise UserError(f"--runs {runs} are too few for {max(counts)} nodes: the first run of each is not timed.")
    rates = dict[str, dict[int, float]](processes={}, nodes={})
    for count in counts:
        with nodes(count), workspace(runs, epochs) as folder:
            ways = {"nodes": ("--cluster", "auto")}
            if count <= (os.cpu_count() or 1):
                ways["processes"] = ("--workers", str(count))
            for name, options in ways.items():
                found = finished(folder, *options)
                rates[name][count] = (len(found) - count) / (found[-1] - found[count - 1])
    heading(f"{runs} trainings of {epochs} epochs")
    rows = [
        [str(count), name, f"{rate:.2f}", f"{100 * rate / count / by_count[counts[0]] * counts[0]:.0f} %"]
        for name, by_count in rates.items()
        for count, rate in by_count.items()
    ]
    print(table(["so many", "of", "runs/s", "efficiency"], rows))


@cluster.command(epilog=f"Example: {NAME} kills --minutes 1 --every 15")
@click.option("--runs", type=Number(), default=24, help="Trainings of the grid.")
@click.option("--epochs", type=Number(), default=600, help="Epochs of each.")
@click.option("--minutes", type=Number(), default=10, help="How long nodes are killed.")
@click.option("--every", type=Number(), default=30, help="Seconds between two kills.")
@click.option(
    "--images", type=Number(), default=140, help="Training images: an epoch of 140 is a twentieth of a second."
)
def kills(runs: int, epochs: int, minutes: int, every: int, images: int) -> None:
    """Kill a node every so often and start another; count runs that are lost and epochs that are trained again."""
    with nodes(2) as simulated, workspace(runs, epochs, images) as folder, tempfile.TemporaryFile("w+") as output:
        process = sweep(folder, "--cluster", "auto", output=output)  # a pipe that nobody reads would fill up
        lost: dict[str, int] = {}
        repeated: list[int] = []
        count, start = 0, time.monotonic()
        while process.poll() is None:
            if time.monotonic() - start > every * (count + 1) and every * (count + 1) <= 60 * minutes:
                victim = next(iter(simulated.worker_nodes))
                killed = processes_of(victim)
                before = logged(killed)
                simulated.remove_node(victim, allow_graceful=False)
                # What it wrote last, unless the other node has cleaned up already.
                lost |= {run: seen[-1] for run, seen in (before | logged(killed)).items()}
                simulated.add_node(num_cpus=1, node_ip_address=LOOPBACK)
                count += 1
            alive = [pid for node in simulated.worker_nodes for pid in processes_of(node)]
            for run, found in logged(alive).items():
                if run in lost:
                    # Its last checkpoint may have been sent before the line of that epoch was written.
                    repeated.append(max(0, lost.pop(run) + 1 - found[0]))
            time.sleep(0.1)
        output.seek(0)
        said = output.read().splitlines()
        kept = len(list(folder.glob("results/synthetic/runs/*.json")))
    heading(f"{runs} trainings of {epochs} epochs of {images} images on two nodes, one killed every {every} s")
    most = max(repeated, default=0)
    row = [str(count), str(runs - kept), str(len(repeated)), str(sum(repeated)), str(most)]
    print(table(["kills", "runs lost", "runs resumed", "epochs repeated", "at most, a kill"], [row]))
    if process.returncode:
        raise UserError(f"The sweep failed: {said[-1] if said else 'it said nothing'}")


@cluster.command(epilog=f"Example: {NAME} queue --jobs 1000")
@click.option("--jobs", "count", type=Number(), default=10_000, help="Jobs of no work.")
def queue(count: int) -> None:
    """Give the cluster many jobs of no work at once."""
    with nodes(2) as simulated, tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        LOGS.mkdir()
        machine, folder = MachineParams("fp32", "channels_last", 1, False), str(Path(name).resolve() / "results")
        jobs = [MeasureJob(f"job-{n}", folder, machine) for n in range(count)]

        def used() -> list[float]:
            return [memory([os.getpid()]), memory(processes_of(simulated.head_node))]

        before = most = used()
        start = time.monotonic()
        with driver.connected("auto", 1, 0) as executor, contextlib.closing(executor.outcomes(jobs, {})) as outcomes:
            for number, _ in enumerate(outcomes):
                if number % 100 == 0:
                    most = [max(pair) for pair in zip(most, used(), strict=True)]
        seconds = time.monotonic() - start
    heading(f"{count} jobs of no work on two nodes")
    rows = [
        ["seconds", f"{seconds:.1f}"],
        ["milliseconds a job", f"{1000 * seconds / count:.2f}"],
        ["driver, MB before and at most", f"{before[0]:.0f}, {most[0]:.0f}"],
        ["head, MB before and at most", f"{before[1]:.0f}, {most[1]:.0f}"],
    ]
    print(table(["what", "value"], rows))


@contextlib.contextmanager
def nodes(count: int) -> Iterator[Any]:
    """A cluster with a head, on which nothing is computed, and so many nodes of one core."""
    driver.require_installed()
    folder = tempfile.mkdtemp(prefix="r")  # short, as the paths of Ray's sockets have to be
    changed = {"RAY_TMPDIR": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    with set_environment(changed):
        driver.imported(on_loopback=True)
        from ray.cluster_utils import Cluster

        simulated = Cluster()
        try:
            simulated.add_node(num_cpus=0, node_ip_address=LOOPBACK)
            for _ in range(count):
                simulated.add_node(num_cpus=1, node_ip_address=LOOPBACK)
            yield simulated
        finally:
            simulated.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def workspace(runs: int, epochs: int, images: int = 140) -> Iterator[Path]:
    """A clone of the last commit with a grid of so many small trainings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command(folder, "git", "clone", "--quiet", str(ROOT), ".")
        params = folder / "params.yaml"
        changes = {
            "data": {"synthetic": {"train": images}},
            "grid": {"seeds": list(range(runs))},
            "recipes": {"fast": {"epochs": epochs}},
        }
        small = merged(merged(yaml.safe_load(params.read_text()), SMALL), changes)
        params.write_text(yaml.safe_dump(small, sort_keys=False))
        command(folder, sys.executable, "-m", "pipeline", "sweep", "--workers", "1", "--seed", "0")
        yield folder


def sweep(folder: Path, *options: str, output: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start to make all runs of the grid, none of which is kept."""
    for made in ("results/synthetic", ".study/grid/outputs/models", ".study/grid/outputs/metrics"):
        shutil.rmtree(folder / made, ignore_errors=True)
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "sweep", *options],
        cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=output, text=True,
    )  # fmt: skip


def finished(folder: Path, *options: str) -> list[float]:
    """Make all runs; return the seconds from the start until each was there."""
    start, times = time.monotonic(), []
    process = sweep(folder, *options)
    assert process.stdout
    for line in process.stdout:
        if DONE.search(line):
            times.append(time.monotonic() - start)
    if process.wait():
        raise UserError("The sweep failed, as it said above.")
    return times


def logged(processes: Sequence[int]) -> dict[str, list[int]]:
    """The epochs in the logs of the runs that these processes of nodes train now, by run."""
    work = Path(os.environ["TMPDIR"]) / f"fer-{getpass.getuser()}" / "work"
    found = {}
    for pid in processes:
        for log in work.glob(f"{pid}-*/.study/*/logs/*.log"):
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                epochs = [int(epoch) for epoch in EPOCH.findall(log.read_text(encoding="utf-8"))]
                if epochs:
                    found[log.stem] = epochs
    return found


def services_of(node: Any) -> list[int]:
    """The processes that Ray has started for a node."""
    return [info.process.pid for kind in node.all_processes.values() for info in kind]


def processes_of(node: Any) -> list[int]:
    """Those and the ones that do its jobs."""
    found = []
    for pid in services_of(node):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return found


def memory(processes: Sequence[int]) -> float:
    """Their resident memory in MB."""
    total = 0
    for pid in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            total += psutil.Process(pid).memory_info().rss
    return total / 1e6


def heading(what: str) -> None:
    """Print machine, versions and what was measured."""
    print(header("ray"))
    print(f"{what}\n")


if __name__ == "__main__":
    cli.run(cluster)
