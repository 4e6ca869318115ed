"""A tracking server that is killed and restarted under load: `python -m tests.soak.server --cases 8 --kills 10`.

Trainings and evaluations of several seeds log side by side into a real MLflow server, which gets `kill -9` again and
again. No stage may fail and no output may differ; afterwards backfill must bring every run back, and none twice.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import mlflow
import yaml

from tests.clone import Clone
from tests.soak.clones import differences, make, outputs, wait, workplace


class Server:
    """`mlflow server` on loopback, with its store in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
             "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}", "--workers", "1",
             "--artifacts-destination", str(self.folder / "artifacts")],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@click.command(context_settings={"show_default": True})
@click.option("--cases", default=8, help="How many cells log at once.")
@click.option("--kills", default=10)
@click.option("--seed", default=0)
@click.option("--folder", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir(), "fer-soak-server"))
def main(cases: int, kills: int, seed: int, folder: Path) -> None:
    workplace(folder)
    rng = random.Random(f"server {seed}")
    clone = make(folder / "fer", {"grid.seeds": list(range(cases))})
    subprocess.run(["rm", "-rf", str(folder / "server")], check=True)
    clone.dvc("repro", FER_TRACKING="off")
    right = outputs(clone)

    server = Server(folder / "server")
    try:
        wrong = under_load(clone, server, cases, kills, rng)
        wrong += [f"other bytes: {name}" for name in differences(right, outputs(clone))]
        restored = clone.fer("backfill", MLFLOW_TRACKING_URI=server.uri, expect=None)
        wrong += [] if restored.returncode == 0 else [f"backfill: {restored.stderr[-600:]}"]
        wrong += wrong_with(clone, server, cases)
        again = clone.fer("backfill", MLFLOW_TRACKING_URI=server.uri, expect=None)
        wrong += [] if again.stdout.startswith("0 runs restored") else [f"a second backfill: {again.stdout}"]
    finally:
        server.kill()
    brought = restored.stdout.splitlines()[-1] if restored.stdout else "backfill failed"
    print(
        f"server: {cases} cells logged side by side, the server killed and restarted {kills} times;"
        f" {brought}; {len(wrong)} things wrong"
    )
    for line in wrong:
        print(f"  {line}")
    sys.exit(1 if wrong else 0)


def under_load(clone: Clone, server: Server, trainings: int, kills: int, rng: random.Random) -> list[str]:
    """Train and evaluate every seed at once, and evaluate again until the kills are over. What stages did wrong."""
    assert wait(server.answers, 120), "the server does not start"
    wrong: list[str] = []
    warned = 0

    def run_key(seed: int, stages: tuple[str, ...]) -> None:
        nonlocal warned
        for stage in stages:
            result = clone.stage(stage, "baseline", str(seed), expect=None, MLFLOW_TRACKING_URI=server.uri)
            if result.returncode or "Traceback" in result.stderr:
                wrong.append(f"{stage} {seed}: {result.stderr[-800:]}")
            warned += "warning: MLflow" in result.stderr

    with ThreadPoolExecutor(trainings) as pool:
        working = [pool.submit(run_key, seed, ("train", "evaluate")) for seed in range(trainings)]
        for _ in range(kills):
            time.sleep(rng.uniform(2, 8))
            server.kill()
            time.sleep(rng.uniform(0, 3))
            server.start()
            wait(server.answers, 120)
            if all(work.done() for work in working):
                working = [pool.submit(run_key, seed, ("evaluate",)) for seed in range(trainings)]
        for work in working:
            work.result()
    print(f"  {warned} stages warned that MLflow did not log them", flush=True)
    return wrong


def wrong_with(clone: Clone, server: Server, trainings: int) -> list[str]:
    """What the server lacks or has twice of the runs that belong to the outputs."""
    client = mlflow.MlflowClient(server.uri)
    found = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id], max_results=1000)
    ]
    complete = Counter(run.info.run_name for run in found if "fer.complete" in run.data.tags)
    names = ["fetch", "prepare", "embed", "comparison", *(f"baseline-{seed}" for seed in range(trainings))]
    wrong = [f"{complete[name]} complete runs of {name}" for name in names if complete[name] != 1]
    for run in found:
        if run.info.status == "RUNNING" and run.data.tags.get("kind") != "model":
            wrong.append(f"{run.info.run_name} is still RUNNING")
    for seed in range(trainings):
        keys = Counter(run.data.tags.get("fer.key") for run in found if run.info.run_name == f"baseline-{seed}")
        wrong += [f"{count} runs of {key}" for key, count in keys.items() if count != 1]
        metrics = yaml.safe_load((clone.path / f"outputs/metrics/baseline-{seed}.json").read_text())
        logged = {
            run.data.metrics.get("test.accuracy")
            for run in found
            if run.info.run_name == f"baseline-{seed}" and "fer.complete" in run.data.tags
        }
        if logged != {metrics["test"]["accuracy"]}:
            wrong.append(f"the accuracy of baseline-{seed} in MLflow is {logged}")
    return wrong


if __name__ == "__main__":
    main()
