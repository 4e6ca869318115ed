"""Bring runs that were kept before their files had labels to the form of `pipeline.comparison.records.RunRecord`.

    python -m results.migrate_labels ARCHIVE VOTES FOLDERS...

Puts the label of each image into the `.npz`, where it replaces whether each decision was right, and the distances
behind the severities into the `.json`. Stops if the old verdicts or mean severities do not follow from the labels. All
runs of FER-2013 in results/ have been through it (2026-11-29).
"""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from gensim.models import KeyedVectors

from pipeline import cli, config
from pipeline.data.fer import LABELS
from pipeline.data.votes import read_votes
from pipeline.files import JsonDict, read_json, write_json, write_npz
from pipeline.labels.distances import affective_distance, cosine_distance, human_distance

USAGES = {"Training": 0, "PublicTest": 1, "PrivateTest": 2}
Labels = npt.NDArray[np.uint8]
Distances = dict[str, npt.NDArray[np.float64]]


def main(archive: Path, votes: Path, folders: Sequence[Path]) -> None:
    labels, splits = read_labels(archive)
    distances = reference(labels, splits, votes)
    for file in (file for folder in folders for file in sorted(folder.glob("*.json"))):
        metrics = read_json(file)
        with np.load(file.with_suffix(".npz"), allow_pickle=False) as stored:
            arrays = dict(stored)
        if "actual" not in arrays:
            actual = labels[arrays["index"]]
            check(file, metrics, arrays, actual, distances)
            kept = {name: array for name, array in arrays.items() if not name.startswith("right.")}
            write_npz(file.with_suffix(".npz"), {"index": kept.pop("index"), "actual": actual, **kept}, compressed=True)
        if "distances" not in metrics:
            wanted = {name: distances[name].round(6).tolist() for name in metrics["test"]["severity"]}
            write_json(file, metrics | {"distances": wanted})


def read_labels(archive: Path) -> tuple[Labels, Labels]:
    """Return the label and the split of every row."""
    with tarfile.open(archive) as opened:
        content = opened.extractfile("fer2013/fer2013.csv")
        assert content is not None
        rows = list(csv.DictReader(io.TextIOWrapper(content)))
    return (
        np.array([int(row["emotion"]) for row in rows], np.uint8),
        np.array([USAGES[row["Usage"]] for row in rows], np.uint8),
    )


def reference(labels: Labels, splits: Labels, votes: Path) -> Distances:
    """Return the distances by which evaluation weighs mistakes."""
    training = splits == USAGES["Training"]
    human = human_distance(labels[training], read_votes(votes, splits)[training])
    assert human is not None
    distances = {"affective": affective_distance(), "human": human}
    for name, words in config.load().labels.items():
        vectors = KeyedVectors.load_word2vec_format(words.vectors, binary=False)
        rows = np.array([vectors[words.words[label]] for label in LABELS], np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        distances[name] = cosine_distance(rows @ rows.T)
    return distances


def check(
    file: Path, metrics: JsonDict, arrays: dict[str, npt.NDArray[np.generic]], actual: Labels, distances: Distances
) -> None:
    """Stop unless the old verdicts and mean severities follow from the labels."""
    test = np.asarray(arrays["test"], bool)
    splits = {"val": ~test, "test": test, "test_clean": test & np.asarray(arrays["clean"], bool)}
    for name in (metrics["decoder"], *metrics["decoders"]):
        of = metrics if name == metrics["decoder"] else metrics["decoders"][name]
        predicted = np.asarray(arrays[f"predicted.{name}"], np.uint8)
        right = np.unpackbits(np.asarray(arrays[f"right.{name}"], np.uint8), count=len(actual)).astype(bool)
        assert np.array_equal(right, predicted == actual), (file, name)
        for split, chosen in splits.items():
            for distance, severity in of[split]["severity"].items():
                found = distances[distance][actual[chosen], predicted[chosen]].mean()
                assert abs(found - severity["all"]) < 1e-6, (file, name, split, distance)


if __name__ == "__main__":
    cli.script(
        main,
        click.Argument(["archive"], type=cli.FILE, help="FER-2013, as fetched."),
        click.Argument(["votes"], type=cli.FILE, help="The votes of FER+ for it."),
        click.Argument(["folders"], type=cli.FOLDER, nargs=-1, required=True, help="Folders of run files."),
        example="fer2013.tar.gz fer2013new.csv results/mine/runs",
    )
