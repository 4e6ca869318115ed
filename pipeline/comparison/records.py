"""Read one trained and evaluated run for comparisons, from the workspace's outputs or as kept in git.

In git (`results/<data set>/runs/`) a run is its metrics file and a small archive of its decisions for each image, in
which labels are replaced by whether the decision was right. No pixels are kept, nor the label of an image that no run
gets right; the label of any other image can be inferred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.comparison.paired import Entry
from pipeline.comparison.registry import METRICS
from pipeline.data.fer import SPLITS
from pipeline.errors import UserError
from pipeline.evaluation.predictions import Predictions
from pipeline.files import JsonDict, read_json, write_json, write_npz
from pipeline.workspace import RunKey

Bools = npt.NDArray[np.bool_]

SAME_IMAGES = ("index", "test", "clean", "voted")
"""Fields that runs must share to be compared image by image."""


@dataclass(frozen=True)
class RunRecord:
    """A finished run: its metrics and its output for each image of both test splits.

    metrics: the metrics file, with the training's `history`. For N images: index, row in the data set; test, whether it
    is of PrivateTest (else PublicTest); clean, whether it has no near duplicate in Training; probabilities, float16 [N,
    K]; voted, whether FER+ has a majority for one of the seven classes. By decoder: the decided class, uint8 [N]; and,
    bool [N], whether it is right, whether it is right when averaged with the mirror image, and whether it is the FER+
    majority.
    """

    metrics: JsonDict
    index: npt.NDArray[np.integer]
    test: Bools
    clean: Bools
    voted: Bools
    probabilities: npt.NDArray[np.float16]
    predicted: Mapping[str, npt.NDArray[np.integer]]
    right: Mapping[str, Bools]
    right_flip: Mapping[str, Bools]
    right_votes: Mapping[str, Bools]

    @property
    def decoders(self) -> list[str]:
        """The decoders, the model's own first."""
        return [self.metrics["decoder"], *self.metrics["decoders"]]

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
            test=found.split == SPLITS.index("test"),
            clean=~found.near_duplicate,
            voted=found.majority >= 0,
            probabilities=found.probabilities.astype(np.float16),
            predicted=found.predicted,
            right={name: labels == found.actual for name, labels in found.predicted.items()},
            right_flip={name: labels == found.actual for name, labels in found.predicted_flip.items()},
            right_votes={name: labels == found.majority for name, labels in found.predicted.items()},
        )

    def keep(self, folder: Path, key: str) -> None:
        """Write both files of the run, the metrics last: they mark it as complete."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "index": self.index, "test": self.test, "clean": self.clean, "voted": self.voted,
            "probabilities": self.probabilities,
        }  # fmt: skip
        for name in self.decoders:
            arrays[f"predicted.{name}"] = self.predicted[name]
            arrays[f"right.{name}"] = np.packbits(self.right[name])
            arrays[f"right_flip.{name}"] = np.packbits(self.right_flip[name])
            arrays[f"right_votes.{name}"] = np.packbits(self.right_votes[name])
        write_npz(folder / f"{key}.npz", arrays, compressed=True)
        write_json(folder / f"{key}.json", self.metrics)

    @classmethod
    def kept(cls, folder: Path, key: str) -> RunRecord:
        """Read what `keep` wrote."""
        metrics = read_json(folder / f"{key}.json")
        with np.load(folder / f"{key}.npz", allow_pickle=False) as archive:
            count, names = len(archive["index"]), [metrics["decoder"], *metrics["decoders"]]

            def bits(name: str) -> dict[str, Bools]:
                return {
                    decoder: np.unpackbits(archive[f"{name}.{decoder}"], count=count).astype(bool)
                    for decoder in names
                }

            return cls(
                metrics, archive["index"], archive["test"], archive["clean"], archive["voted"],
                archive["probabilities"], {decoder: archive[f"predicted.{decoder}"] for decoder in names},
                bits("right"), bits("right_flip"), bits("right_votes"),
            )  # fmt: skip


BY_IMAGE: Mapping[str, Callable[[RunRecord, str], Bools]] = {
    "test.accuracy": lambda run, decoder: run.right[decoder][run.test],
    "test.accuracy_flip": lambda run, decoder: run.right_flip[decoder][run.test],
    "test_clean.accuracy": lambda run, decoder: run.right[decoder][run.test & run.clean],
    "test.votes.accuracy": lambda run, decoder: run.right_votes[decoder][run.test & run.voted],
}
"""Which images are right, for each metric that `METRICS` pairs by image, under a decoder: [N] of those it is a mean
over. Without such images, as without votes, the metric is not compared."""


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
        entry(model, decoder, found[model])
        for model in first
        for decoder in next(iter(found[model].values())).decoders
    ]


def entry(model: str, decoder: str, runs: Mapping[int, RunRecord]) -> Entry:
    """Return one row's measurements on PrivateTest. Raises UserError if the seeds do not fit together."""
    some = next(iter(runs.values()))
    for seed, run in runs.items():
        if decoder not in run.decoders:
            raise UserError(f"{model}-{seed} was evaluated without the decoder {decoder}: evaluate it again.")
        if not all(np.array_equal(getattr(run, name), getattr(some, name)) for name in SAME_IMAGES):
            raise UserError(f"The seeds of {model} were measured on different images: evaluate them again.")
    right = {}
    for metric in METRICS:
        if metric.paired != "images":
            continue
        if metric.name not in BY_IMAGE:
            raise ValueError(
                f"METRICS pairs {metric.name} by image, but BY_IMAGE does not give its images: add it, or pair by seed"
            )
        found = {seed: BY_IMAGE[metric.name](run, decoder) for seed, run in runs.items()}
        if all(len(images) for images in found.values()):
            right[metric.name] = found
    measured = {
        seed: {name: run.of(decoder)[name] for name in ("val", "test", "test_clean")}
        | {"training": run.metrics["training"]}
        for seed, run in runs.items()
    }
    return Entry(model, decoder, measured, some.index[some.test], right)
