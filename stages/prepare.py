"""Stage prepare: parse the archive, check it, find duplicates, keep arrays."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline import cli, config, workspace
from pipeline.data import duplicates, sources
from pipeline.data.checks import check, dataset_name
from pipeline.data.fer import LABELS, SPLITS, FerData
from pipeline.data.votes import check_order, read_votes
from pipeline.errors import UserError, about
from pipeline.figures import data as figures
from pipeline.files import read_json, sha256, write_csv, write_json
from pipeline.tracking import client
from pipeline.workspace import DATA_EXPERIMENT, PREPARED, RAW, SOURCE

CHECKS = PREPARED / "checks.json"
KEYS = {"archive": "data.path", "kaggle": "data.source", "synthetic": "data.synthetic"}
"""The parameter that names the data, by their source."""


def main() -> None:
    params = config.load()
    if not SOURCE.exists():
        raise UserError(f"{SOURCE} is missing: run `dvc repro fetch` first.")
    source = read_json(SOURCE)
    workspace.clear(PREPARED)
    archive, votes_file = source["archive"], source["votes"]
    key = KEYS[archive["source"]]
    with about(key):
        data = sources.read_raw(RAW / archive["file"], archive["name"])
    if votes_file:
        with about("data.votes"):
            votes = read_votes(RAW / votes_file["file"], data.splits, votes_file["name"])
            check_order(votes, data.labels, data.splits, votes_file["name"])
        data = dataclasses.replace(data, votes=votes)
    twins = duplicates.find(data.images)
    checks = check(data, twins, params.data.expect)
    with about(key):
        refuse_unusable(data, duplicates.train_twins(twins.near, data.splits))

    name = "synthetic" if archive["source"] == "synthetic" else dataset_name(data)
    checks = {"dataset": name or f"custom-{archive['sha256'][:8]}", **checks}
    data.save(PREPARED)
    write_csv(PREPARED / "duplicates.csv", duplicates.COLUMNS, duplicates.table(twins, data))
    write_json(CHECKS, checks)  # last: it marks the folder as complete
    for warning in checks["warnings"]:
        print(f"warning: {warning}")
    print(f"{checks['dataset']}: {checks['rows']:,} images; duplicates: {checks['duplicates']}")
    log()


def refuse_unusable(data: FerData, twins: npt.NDArray[np.bool_]) -> None:
    """Raise UserError now, not after hours of training, if there is nothing to train, choose or measure on."""
    for split in SPLITS:
        if not len(data.rows(split)):
            raise UserError(
                f"The split '{split}' of the data set has no images: all of {', '.join(SPLITS)} are needed."
            )
    if twins[data.rows("test")].all():
        raise UserError("Every test image has a twin in Training: nothing is left to measure without leaks.")


def runs() -> client.Where | None:
    """Where the run of this stage is in MLflow, or None before the first prepare."""
    if not CHECKS.exists():
        return None
    content = sha256(CHECKS)[:12]
    return client.Where(DATA_EXPERIMENT, "prepare", f"prepare-{content}", content)


def log() -> None:
    checks = read_json(CHECKS)
    with client.run_of(runs(), {"kind": "data", **client.context_tags("prepare")}) as run:
        run.dataset(checks["dataset"], sha256(PREPARED / "images.npy")[:32], checks, {"path": str(PREPARED)})
        run.params({"dataset": checks["dataset"]})
        run.metrics({name: checks[name] for name in ("rows", "classes", "constant_images", "duplicates")})
        run.artifacts(CHECKS)
        run.artifacts(PREPARED / "duplicates.csv")
        with tempfile.TemporaryDirectory() as folder:
            contact_sheet(FerData.load(PREPARED), Path(folder) / "contact_sheet.png")
            run.artifacts(Path(folder) / "contact_sheet.png")


def contact_sheet(data: FerData, path: Path, per_class: int = 10) -> None:
    """The first faces of every class, a row each, with where they come from."""
    rows = np.concatenate([np.flatnonzero(data.labels == label)[:per_class] for label in range(len(LABELS))])
    captions = [f"{LABELS[data.labels[row]]} {row}\n{SPLITS[data.splits[row]]}" for row in rows]
    figures.contact_sheet(data.images[rows], captions, path, columns=per_class)


if __name__ == "__main__":
    cli.run(main)
