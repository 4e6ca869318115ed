"""Train, evaluate and keep the runs of the grid, several at a time: `fer sweep`.

For a study that takes hours. Runs are ordered by seed, so that there is soon a table of all models. Each run has its
share of the threads, because two small networks on one core each finish sooner than one after the other on both. An
interrupted study may be continued on another machine of the same kind with as many threads per worker: `fer report`
rejects a mixture.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import torch

from pipeline import cli, config
from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.study import publish
from pipeline.workspace import RunKey, dataset_name

LOGS = Path(".study")


def sweep(workers: int, models: Sequence[str] = (), seeds: Sequence[int] = ()) -> None:
    """Train and keep the missing runs of these models and seeds, or by default of the whole grid."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # waiting here for running trainings could take hours
    params = config.load()
    cli.known(models, params.grid.models, "entry of grid.models")
    cli.known([*map(str, seeds)], [*map(str, params.grid.seeds)], "entry of grid.seeds")

    folder = Path("results") / dataset_name()
    wanted = [
        RunKey(model, seed) for seed in seeds or params.grid.seeds for model in models or params.grid.models
    ]
    missing = [run_key for run_key in wanted if not is_kept(folder, run_key, params)]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are kept in {folder}; {workers} at a time")
    threads = max(1, torch.get_num_threads() // workers)
    keeping = Lock()

    def finish(run_key: RunKey) -> str | None:
        start = time.monotonic()
        error = reproduce(run_key, threads)
        if error is None:
            with keeping:
                publish.keep(folder, [run_key])
        print(
            f"{run_key.name}: {error or 'kept'} after {(time.monotonic() - start) / 60:.1f} minutes",
            flush=True,
        )
        return error

    with ThreadPoolExecutor(workers) as pool:
        failed = [
            run_key.name for run_key, error in zip(missing, pool.map(finish, missing), strict=True) if error
        ]
    if failed:
        cells_failed = "1 run" if len(failed) == 1 else f"{len(failed)} runs"
        raise UserError(f"{cells_failed} failed ({', '.join(failed)}): see {LOGS}/<run>.log.")


def is_kept(folder: Path, run_key: RunKey, params: config.Params) -> bool:
    """Return whether the folder has this run with the requested settings."""
    file = folder / "runs" / f"{run_key.name}.json"
    return file.exists() and publish.as_configured(read_json(file), run_key, params)


def reproduce(run_key: RunKey, threads: int) -> str | None:
    """Let DVC train and evaluate one run; return the last line of its log if that failed."""
    LOGS.mkdir(exist_ok=True)
    log = LOGS / f"{run_key.name}.log"
    dvc = [sys.executable, "-m", "dvc", "--wait-for-lock"]  # the other workers have it for moments
    command = [*dvc, "repro", "--single-item", f"train@{run_key.name}", f"evaluate@{run_key.name}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode == 0:
        return None
    return (log.read_text(encoding="utf-8").strip() or "no output").splitlines()[-1]
