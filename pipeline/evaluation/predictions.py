"""Read and write the predictions file of a run: its decisions for each image of PublicTest and PrivateTest."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import LABELS, SPLITS
from pipeline.files import write_csv

Classes = npt.NDArray[np.integer]

COLUMNS = ("index", "split", "actual", "near_duplicate", "majority", "uncertainty")
DECISION = "predicted"
"""How the name of a column of decisions begins. The columns that are neither these nor `COLUMNS` are the classes."""


@dataclass(frozen=True)
class Predictions:
    """The decisions of a model for N images.

    index: row in the data set; split: index into `SPLITS`; actual: the true class; near_duplicate: bool, whether
    Training has an exact or near duplicate; majority: the class that FER+ agrees on, -1 if none; probabilities: float
    [N, K]; uncertainty: float [N], higher for the less certain, what the network says or else the entropy of its
    probabilities. By decoder, the model's own first: the decided class, from one view and from the mean with the mirror
    image.
    classes: the K names.
    """

    index: npt.NDArray[np.integer]
    split: Classes
    actual: Classes
    near_duplicate: npt.NDArray[np.bool_]
    majority: Classes
    probabilities: npt.NDArray[np.floating]
    uncertainty: npt.NDArray[np.floating]
    predicted: Mapping[str, Classes]
    predicted_flip: Mapping[str, Classes]
    classes: tuple[str, ...] = LABELS

    def write(self, path: Path) -> None:
        """Write a row for each image, with class names."""
        own, names = next(iter(self.predicted)), self.classes
        decided = {f"{DECISION}{_suffix(name, own)}": labels for name, labels in self.predicted.items()}
        decided |= {f"{DECISION}_flip{_suffix(name, own)}": labels for name, labels in self.predicted_flip.items()}
        write_csv(
            path,
            [*COLUMNS, *decided, *names],
            (
                [
                    row, SPLITS[split], names[y], int(duplicate), names[voted] if voted >= 0 else "",
                    f"{unsure:.6f}", *(names[k] for k in decisions), *(f"{p:.6f}" for p in probability),
                ]
                for row, split, y, duplicate, voted, decisions, probability, unsure in zip(
                    self.index, self.split, self.actual, self.near_duplicate, self.majority,
                    zip(*decided.values(), strict=True), self.probabilities, self.uncertainty, strict=True,
                )
            ),
        )  # fmt: skip

    @classmethod
    def read(cls, path: Path, decoders: Sequence[str]) -> Predictions:
        """Read what `write` wrote, for these decoders, the model's own first."""
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        columns = reader.fieldnames or ()
        classes = tuple(name for name in columns if name not in COLUMNS and not name.startswith(DECISION))

        def numbers(column: str, names: Sequence[str]) -> npt.NDArray[np.uint8]:
            return np.array([names.index(row[column]) for row in rows], np.uint8)

        own = decoders[0]
        return cls(
            index=np.array([int(row["index"]) for row in rows], np.int32),
            split=numbers("split", SPLITS),
            actual=numbers("actual", classes),
            near_duplicate=np.array([row["near_duplicate"] == "1" for row in rows], bool),
            majority=np.array([classes.index(row["majority"]) if row["majority"] else -1 for row in rows], np.int64),
            probabilities=np.array([[float(row[label]) for label in classes] for row in rows]),
            uncertainty=np.array([float(row["uncertainty"]) for row in rows]),
            predicted={name: numbers(f"{DECISION}{_suffix(name, own)}", classes) for name in decoders},
            predicted_flip={name: numbers(f"{DECISION}_flip{_suffix(name, own)}", classes) for name in decoders},
            classes=classes,
        )


def _suffix(decoder: str, own: str) -> str:
    """Return the suffix of a decoder's columns; that of the model's own is empty."""
    return "" if decoder == own else f".{decoder}"
