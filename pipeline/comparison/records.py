"""Read one trained and evaluated run for comparisons, from the workspace's outputs or as kept in git.

In git (`results/<data set>/runs/`) a run is its metrics file and a small archive with the label and the decisions of
each image of both test splits: all that a test of any metric needs. No pixels are kept.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.comparison import per_image
from pipeline.comparison.paired import Entry
from pipeline.comparison.registry import recall
from pipeline.comparison.statistics import Scores
from pipeline.data.fer import SPLITS
from pipeline.errors import UserError
from pipeline.evaluation.predictions import Predictions
from pipeline.files import JsonDict, read_json, write_json, write_npz
from pipeline.workspace import RunKey

Bools = npt.NDArray[np.bool_]

SAME_IMAGES = ("index", "actual", "test", "clean", "voted")
"""Fields that runs must share to be compared image by image."""


@dataclass(frozen=True)
class RunRecord:
    """A finished run: its metrics and its output for each image of both test splits.

    metrics: the metrics file, with the training's `history`. For N images: index, row in the data set; actual, the
    label; test, whether it is of PrivateTest (else PublicTest); clean, whether it has no near duplicate in Training;
    probabilities, float16 [N, K]; voted, whether FER+ has a majority for one of the seven classes. By decoder: the
    decided class, uint8 [N]; and, bool [N], whether it is right when averaged with the mirror image, and whether it is
    the FER+ majority.
    """

    metrics: JsonDict
    index: npt.NDArray[np.integer]
    actual: npt.NDArray[np.integer]
    test: Bools
    clean: Bools
    voted: Bools
    probabilities: npt.NDArray[np.float16]
    predicted: Mapping[str, npt.NDArray[np.integer]]
    right_flip: Mapping[str, Bools]
    right_votes: Mapping[str, Bools]

    @property
    def decoders(self) -> list[str]:
        """The decoders, the model's own first."""
        return [self.metrics["decoder"], *self.metrics["decoders"]]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return tuple(self.metrics["test"]["per_class"])

    def right(self, decoder: str) -> Bools:
        """Return whether each decision is the label: [N]."""
        return np.asarray(self.predicted[decoder] == self.actual)

    def of(self, decoder: str) -> JsonDict:
        """Return the metrics under one decoder."""
        own = decoder == self.metrics["decoder"]
        return self.metrics if own else self.metrics["decoders"][decoder]

    @classmethod
    def of_workspace(cls, run_key: RunKey) -> RunRecord:
        """Read the outputs of evaluate. Raises UserError if they are missing."""
        for path in (run_key.metrics, run_key.predictions, run_key.history):
            if not path.exists():
                raise UserError(f"{path} is missing: run `dvc repro` to evaluate {run_key.name}.")
        metrics = read_json(run_key.metrics)
        require_one_training(run_key, run_key.facts(), metrics)
        found = Predictions.read(run_key.predictions, [metrics["decoder"], *metrics["decoders"]])
        return cls(
            metrics=metrics | {"history": run_key.read_history()},
            index=found.index,
            actual=found.actual,
            test=found.split == SPLITS.index("test"),
            clean=~found.near_duplicate,
            voted=found.majority >= 0,
            probabilities=found.probabilities.astype(np.float16),
            predicted=found.predicted,
            right_flip={name: labels == found.actual for name, labels in found.predicted_flip.items()},
            right_votes={name: labels == found.majority for name, labels in found.predicted.items()},
        )

    def keep(self, folder: Path, key: str) -> None:
        """Write both files of the run, the metrics last: they mark it as complete."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "index": self.index, "actual": self.actual, "test": self.test, "clean": self.clean, "voted": self.voted,
            "probabilities": self.probabilities,
        }  # fmt: skip
        for name in self.decoders:
            arrays[f"predicted.{name}"] = self.predicted[name]
            arrays[f"right_flip.{name}"] = np.packbits(self.right_flip[name])
            arrays[f"right_votes.{name}"] = np.packbits(self.right_votes[name])
        write_npz(folder / f"{key}.npz", arrays, compressed=True)
        write_json(folder / f"{key}.json", self.metrics)

    @classmethod
    def kept(cls, folder: Path, key: str) -> RunRecord:
        """Read what `keep` wrote. Raises UserError if a file is missing or damaged."""
        description, arrays = (folder / f"{key}.{kind}" for kind in ("json", "npz"))
        for file in (description, arrays):
            if not file.is_file():
                raise UserError(f"{file} is missing, half of a run: restore it, or remove what is left of {key}.")
        metrics = read_run(description)
        with _opened(arrays) as archive:
            if "actual" not in archive:
                raise UserError(
                    f"{folder / key}.npz was kept by an earlier version, without labels: "
                    f"evaluate and publish {key} again, or run `python -m results.migrate_labels`."
                )
            count, names = len(archive["index"]), [metrics["decoder"], *metrics["decoders"]]

            def bits(name: str) -> dict[str, Bools]:
                return {
                    decoder: np.unpackbits(archive[f"{name}.{decoder}"], count=count).astype(bool) for decoder in names
                }

            return cls(
                metrics, archive["index"], archive["actual"], archive["test"], archive["clean"], archive["voted"],
                archive["probabilities"], {decoder: archive[f"predicted.{decoder}"] for decoder in names},
                bits("right_flip"), bits("right_votes"),
            )  # fmt: skip


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    """Open an `.npz`. Raises UserError if it is damaged, also within the block."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or publish the run again.") from error


def read_run(file: Path) -> JsonDict:
    """Read the measurements of a kept run. Raises UserError if the file has others or none."""
    run = read_json(file)
    if not isinstance(run, dict) or not {"seed", "settings", "machine"} <= run.keys():
        raise UserError(f"{file} is not what a run was kept as: restore it, or remove it and make the run again.")
    return run


def is_network(metrics: JsonDict) -> bool:
    """Return whether the model behind these metrics is a network: what else classifies faces has no recipe."""
    return "recipe" in metrics["settings"]


REWEIGHTED = "test_clean.reweighted_accuracy"
"""Accuracy without near duplicates if the classes were as frequent as on all of PrivateTest, which matters: more than
half of disgust has a near duplicate."""
MIN_IMAGES = 2
"""Images, for a mean of recalls those of each class, below which nothing is said about others and nothing is tested."""


def values_by_image(run: RunRecord, decoder: str) -> dict[str, Scores]:
    """Return, for each metric that is tested, a value for each image it is about, [N], whose mean is the metric.

    Metrics that fewer than `MIN_IMAGES` images are about, as without votes, are left out.
    """
    test, clean = run.test, run.test & run.clean
    right, labels, predicted = run.right(decoder), run.actual[run.test], run.predicted[decoder][run.test]
    found: dict[str, Scores] = {
        "test.accuracy": right[test],
        "test.accuracy_flip": run.right_flip[decoder][test],
        "test_clean.accuracy": right[clean],
        "test.votes.accuracy": run.right_votes[decoder][test & run.voted],
        "test.macro_f1": per_image.macro_f1(labels, predicted, len(run.classes)),
        **_severities(run, labels, predicted),
        **{recall(label): right[test][labels == k] for k, label in enumerate(run.classes)},
    }
    images, clean_images = per_image.counts(labels), per_image.counts(run.actual[clean])
    if min(images.values()) >= MIN_IMAGES:
        found["test.balanced_accuracy"] = per_image.balanced_accuracy(labels, predicted)
    if all(clean_images.get(k, 0) >= MIN_IMAGES for k in images):
        shares = {k: count / len(labels) for k, count in images.items()}
        found[REWEIGHTED] = per_image.weighted_recalls(run.actual[clean], run.predicted[decoder][clean], shares)
    return {name: values for name, values in found.items() if len(values) >= MIN_IMAGES}


def _severities(run: RunRecord, labels: per_image.Classes, predicted: per_image.Classes) -> dict[str, Scores]:
    """Return the values of both severities under every distance of the metrics file."""
    found: dict[str, Scores] = {}
    for name, distance in run.metrics.get("distances", {}).items():
        away = np.array(distance)
        found[f"test.severity.{name}.all"] = per_image.severity(labels, predicted, away)
        found[f"test.severity.{name}.mistakes"] = per_image.severity_of_mistakes(labels, predicted, away)
    return found


def require_one_training(run_key: RunKey, model: JsonDict, metrics: JsonDict) -> None:
    """Raise UserError if the model was retrained with other settings after the metrics were measured."""
    if metrics["settings_digest"] != model["settings_digest"]:
        raise UserError(
            f"{run_key.metrics} was measured before {run_key.name} was retrained with other settings: run "
            "`dvc repro` to evaluate it again."
        )


def entries(found: Mapping[str, Mapping[int, RunRecord]], baseline: str) -> list[Entry]:
    """Return every model under each of its decoders, the baseline's own first."""
    first = [baseline, *(model for model in found if model != baseline)]
    some = next(iter(found[baseline].values()))
    for model in first:
        other = next(iter(found[model].values()))
        if not all(np.array_equal(getattr(other, name), getattr(some, name)) for name in SAME_IMAGES):
            raise UserError(f"{model} and {baseline} were measured on different images: evaluate both again.")
    return [
        entry(model, decoder, found[model]) for model in first for decoder in next(iter(found[model].values())).decoders
    ]


def entry(model: str, decoder: str, runs: Mapping[int, RunRecord]) -> Entry:
    """Return one row's measurements on PrivateTest. Raises UserError if the seeds do not fit together."""
    some = next(iter(runs.values()))
    for seed, run in runs.items():
        if decoder not in run.decoders:
            raise UserError(f"{model}-{seed} was evaluated without the decoder {decoder}: evaluate it again.")
        if not all(np.array_equal(getattr(run, name), getattr(some, name)) for name in SAME_IMAGES):
            raise UserError(f"The seeds of {model} were measured on different images: evaluate them again.")
    values = {seed: values_by_image(run, decoder) for seed, run in runs.items()}
    measured = {seed: _measured(run, decoder, values[seed]) for seed, run in runs.items()}
    common = [name for name in values[min(runs)] if all(name in found for found in values.values())]
    by_metric = {name: {seed: found[name] for seed, found in values.items()} for name in common}
    return Entry(
        model, decoder, measured, some.index[some.test], by_metric,
        some.metrics["settings"], own_decoder=decoder == some.metrics["decoder"],
    )  # fmt: skip


def _measured(run: RunRecord, decoder: str, values: Mapping[str, Scores]) -> JsonDict:
    """Return the metrics under a decoder, with the one that follows from others: accuracy at another mix of classes."""
    found = {name: dict(run.of(decoder)[name]) for name in ("val", "test", "test_clean")}
    if REWEIGHTED in values:
        found["test_clean"]["reweighted_accuracy"] = float(values[REWEIGHTED].mean())
    return {**found, "training": run.metrics["training"]}
