"""Keep finished runs in git: `python -m stages.publish [NAME]` (not a DVC stage) fills results/<data set>/[NAME/].

Every cell of the grid that is evaluated is kept as `stages.runs` describes, with the figures of seed 0
that show no single person, and with params.yaml and dvc.lock. A study that takes days can be kept run by run:
runs from an earlier grid stay, and `make report` makes one table of all that are there.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import config
from pipeline.errors import UserError
from stages import run_stage
from stages.cell import Cell, dataset_name
from stages.runs import Run

SHOWABLE = (
    "confusion.png",
    "confusion_normalised.png",
    "class_heat_maps.png",
    "per_class.png",
    "reliability.png",
)
"""Figures of one model made of numbers or of the mean of many faces."""


def main(name: str = "") -> None:
    grid = config.load().grid
    finished = [cell for cell in (Cell(*pair) for pair in grid.cells()) if cell.metrics.exists()]
    if not finished:
        raise UserError("No model of the grid is evaluated yet: run `dvc repro` first.")
    folder = Path("results") / dataset_name() / name
    keep(folder, finished)
    print(f"{len(finished)} of {len(grid.cells())} runs kept in {folder}")


def keep(folder: Path, finished: Sequence[Cell]) -> None:
    """Write the runs of these cells into the folder, and with what they were made."""
    for cell in finished:
        Run.of_workspace(cell).keep(folder / "runs", cell.key)
        if cell.seed == 0:  # one picture of each model is enough
            target = folder / "figures" / cell.key
            target.mkdir(parents=True, exist_ok=True)
            for figure in SHOWABLE:
                shutil.copyfile(cell.figures / figure, target / figure)
    for file in ("params.yaml", "dvc.lock"):
        shutil.copyfile(file, folder / file)


if __name__ == "__main__":
    run_stage(main, *sys.argv[1:])
