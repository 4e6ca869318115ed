"""Train, evaluate and keep the cells of the grid, several at a time: `python -m stages.study` (not a DVC stage).

    python -m stages.study [--workers 2] [--models NAME ...] [--seeds N ...]

What `dvc repro` does one by one, for a study that takes hours: seed by seed, so that there soon is a table of all
models; each cell with its share of the threads, because two small networks on one core each are done sooner than
one after the other on both. A finished cell is kept in results/<data set>/runs/ at once; one that is there with the
same settings, data, words and decoders is not run again, so a study may be stopped at any time and continued, on
another machine of the same kind with as many threads for each worker: `make report` refuses a mixture. That the code
has changed since does not count: after a change of what a training computes, remove the runs. Run `dvc repro targets`
first, and `make report` afterwards. The log of each cell is in .study/.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import torch

from pipeline import config, workspace
from pipeline.errors import UserError
from pipeline.files import read_json
from stages import publish, run_stage
from stages.cell import Cell, dataset_name

LOGS = Path(".study")


def main(*arguments: str) -> None:
    params = config.load()
    parser = argparse.ArgumentParser(prog="python -m stages.study")
    parser.add_argument("--workers", type=int, default=2, choices=range(1, 1 + (os.cpu_count() or 1)))
    parser.add_argument("--models", nargs="+", default=params.grid.models, choices=params.grid.models)
    parser.add_argument("--seeds", nargs="+", type=int, default=params.grid.seeds, choices=params.grid.seeds)
    options = parser.parse_args(arguments)

    folder = Path("results") / dataset_name()
    wanted = [Cell(model, seed) for seed in options.seeds for model in options.models]
    missing = [cell for cell in wanted if not is_kept(folder, cell, params)]
    # `--single-item` leaves the stage check out.
    workspace.refuse_foreign_files(*workspace.output_folders(cell.key for cell in missing))
    print(
        f"{len(wanted) - len(missing)} of {len(wanted)} cells are kept in {folder}; {options.workers} at a time"
    )
    threads = max(1, torch.get_num_threads() // options.workers)
    keeping = Lock()

    def finish(cell: Cell) -> str | None:
        start = time.monotonic()
        error = reproduce(cell, threads)
        if error is None:
            with keeping:
                publish.keep(folder, [cell])
        print(
            f"{cell.key}: {error or 'kept'} after {(time.monotonic() - start) / 60:.1f} minutes", flush=True
        )
        return error

    with ThreadPoolExecutor(options.workers) as pool:
        failed = [cell.key for cell, error in zip(missing, pool.map(finish, missing), strict=True) if error]
    if failed:
        cells_failed = "1 cell" if len(failed) == 1 else f"{len(failed)} cells"
        raise UserError(f"{cells_failed} failed ({', '.join(failed)}): see {LOGS}/<cell>.log.")


def is_kept(folder: Path, cell: Cell, params: config.Params) -> bool:
    """Whether the folder has the run of this cell that is wanted."""
    file = folder / "runs" / f"{cell.key}.json"
    return file.exists() and publish.as_configured(read_json(file), cell, params)


def reproduce(cell: Cell, threads: int) -> str | None:
    """Let DVC train and evaluate one cell; the last line of its log if that failed."""
    LOGS.mkdir(exist_ok=True)
    log = LOGS / f"{cell.key}.log"
    dvc = [sys.executable, "-m", "dvc", "--wait-for-lock"]  # the other workers have it for moments
    command = [*dvc, "repro", "--single-item", f"train@{cell.key}", f"evaluate@{cell.key}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode == 0:
        return None
    return (log.read_text(encoding="utf-8").strip() or "no output").splitlines()[-1]


if __name__ == "__main__":
    run_stage(main, *sys.argv[1:])
