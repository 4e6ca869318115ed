"""Stage prepare: parse the archive, check it, find duplicates, write arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from pipeline import cli, config, workspace
from pipeline.data import duplicates, sources, splits
from pipeline.data.checks import check, dataset_name
from pipeline.data.fer import SPLITS, FerData
from pipeline.data.folder_set import Pictures
from pipeline.data.votes import check_order, read_votes
from pipeline.errors import UserError, about
from pipeline.files import read_json, write_csv, write_json
from pipeline.tracking.data_runs import log_prepare
from pipeline.workspace import CHECKS, PREPARED, RAW, SOURCE

KEYS = {"archive": "data.path", "folder": "data.path", "kaggle": "data.source", "synthetic": "data.synthetic"}
"""The parameter that names the data, by data source."""


def main() -> None:
    params = config.load()
    if not SOURCE.exists():
        raise UserError(f"{SOURCE} is missing: run `dvc repro fetch` first.")
    source = read_json(SOURCE)
    workspace.clear(PREPARED)
    archive, votes_file = source["archive"], source["votes"]
    key = KEYS[archive["source"]]
    own = Pictures.load(RAW / archive["file"]) if archive["source"] == "folder" else None
    with about(key):
        data = own.data if own else sources.read_raw(RAW / archive["file"], archive["name"])
    if votes_file:
        with about("data.votes"):
            votes = read_votes(RAW / votes_file["file"], data.splits, votes_file["name"])
            check_order(votes, data.labels, data.splits, votes_file["name"])
        data = dataclasses.replace(data, votes=votes)
    groups = duplicates.find(data.images)
    with about(key):
        data = splits.complete(data, groups.near, params.data.split)
    checks = check(data, groups, None if own else params.data.expect)
    with about(key):
        refuse_unusable(data, duplicates.near_duplicates_of_training(groups.near, data.splits))

    name = "synthetic" if archive["source"] == "synthetic" else None if own else dataset_name(data)
    checks = {"dataset": name or f"custom-{archive['sha256'][:8]}", **checks}
    data.save(PREPARED)
    if own:
        rows = enumerate(zip(data.splits, data.labels, own.files, strict=True))
        write_csv(
            PREPARED / "files.csv",
            ["index", "split", "class", "file"],
            ([row, SPLITS[split], data.classes[k], file] for row, (split, k, file) in rows),
        )
    write_csv(PREPARED / "duplicates.csv", duplicates.COLUMNS, duplicates.table(groups, data))
    write_json(CHECKS, checks)  # last: it marks the folder as complete
    for warning in checks["warnings"]:
        print(f"warning: {warning}")
    print(f"{checks['dataset']}: {checks['rows']:,} images; duplicates: {checks['duplicates']}")
    log_prepare()


def refuse_unusable(data: FerData, leaked: npt.NDArray[np.bool_]) -> None:
    """Raise UserError now, not after hours of training, if a split is empty or PrivateTest is all near duplicates."""
    for split in SPLITS:
        if not len(data.rows(split)):
            raise UserError(
                f"The split '{split}' of the data set has no images: all of {', '.join(SPLITS)} are needed."
            )
    if leaked[data.rows("test")].all():
        raise UserError(
            "Every test image has a near duplicate in Training, so no accuracy without leakage can be"
            " measured: use other data."
        )


if __name__ == "__main__":
    cli.script(main)
