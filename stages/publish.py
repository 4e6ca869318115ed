"""Keep a finished study in git: `python -m stages.publish [NAME]` (not a DVC stage) fills results/<data set>/[NAME/].

Copied are the table, every metrics file, and the figures that show no single person; with them params.yaml
and dvc.lock, which made them. The pictures of single faces stay in figures/ and in MLflow.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pipeline import config
from pipeline.errors import UserError
from stages import run_stage
from stages.cell import Cell, dataset_name
from stages.compare import REPORTS, TABLE

SHOWABLE = (
    "confusion.png",
    "confusion_normalised.png",
    "class_heat_maps.png",
    "per_class.png",
    "reliability.png",
)
"""Figures of one model made of numbers or of the mean of many faces."""


def main(name: str = "") -> None:
    if not TABLE.exists():
        raise UserError(f"{TABLE} is missing: run `dvc repro` first.")
    folder = Path("results") / dataset_name() / name
    copies = {path: folder / path.name for path in (TABLE, TABLE.with_suffix(".md"), *REPORTS.glob("*.png"))}
    copies |= {Path(file): folder / file for file in ("params.yaml", "dvc.lock")}
    for cell in (Cell(model, seed) for model, seed in config.load().grid.cells()):
        copies[cell.metrics] = folder / "runs" / cell.metrics.name
        copies |= {cell.figures / file: folder / "figures" / cell.key / file for file in SHOWABLE}
    missing = [str(source) for source in copies if not source.exists()]
    if missing:
        raise UserError(f"{missing[0]} is missing: run `dvc repro` first.")
    for source, target in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    print(f"{len(copies)} files in {folder}")


if __name__ == "__main__":
    run_stage(main, *sys.argv[1:])
