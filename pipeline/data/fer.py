"""Represent a data set as arrays: class names, splits and one container for all modules; and FER-2013's own facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError
from pipeline.files import read_json, write_json, write_npy

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER-2013's classes in its own order: the number in the `emotion` column is the index here."""

SPLITS = ("train", "val", "test")
USAGES = ("Training", "PublicTest", "PrivateTest")
"""The challenge's names for `SPLITS`, in the same order: PublicTest chooses, PrivateTest is read once."""

VOTE_COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
"""The ten columns of FER+ (Barsoum et al. 2016), in the file's order. NF: not a face."""

VOTES_OF_LABELS = (4, 5, 6, 1, 3, 2, 0)
"""For each of `LABELS`, the index of its column in `VOTE_COLUMNS`."""

IMAGE_SIZE = 48

CLASSES_FILE = "classes.json"
"""The file next to the arrays that names the classes in the order of their numbers."""

PUBLISHED_COUNTS: dict[str, tuple[int, ...]] = {
    "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "val": (467, 56, 496, 895, 653, 415, 607),
    "test": (491, 55, 528, 879, 594, 416, 626),
}
"""Images per split and class (order of `LABELS`) as the ICML 2013 challenge published them."""


EXPECTATIONS = ("any", "fer2013")
"""Requirements that `data.expect` can make of a data set: none, or the counts above."""


@dataclass(frozen=True)
class FerData:
    """A data set in FER-2013's terms, in the row order of its CSV file.

    images: uint8 [N, 48, 48]; labels: uint8 [N], indices into `classes`;
    splits: uint8 [N], indices into `SPLITS`; votes: uint8 [N, 10] as FER+ counts them, or None;
    classes: the K names. Only FER-2013's own classes, in its order, have votes.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    splits: npt.NDArray[np.uint8]
    votes: npt.NDArray[np.uint8] | None = None
    classes: tuple[str, ...] = LABELS

    def rows(self, split: str) -> npt.NDArray[np.intp]:
        """Return the row numbers of one split, ascending."""
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def save(self, folder: Path) -> None:
        """Write `classes.json`, `images.npy`, `labels.npy`, `split.npy` and, if there are votes, `votes.npy`."""
        write_json(folder / CLASSES_FILE, self.classes)
        arrays = {"images": self.images, "labels": self.labels, "split": self.splits}
        if self.votes is not None:
            arrays["votes"] = self.votes
        for name, array in arrays.items():
            write_npy(folder / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> FerData:
        """Read what `save` wrote; images stay on disk until rows of them are read.

        Raises UserError if the folder holds no prepared data.
        """

        def read(name: str, mode: Literal["r"] | None = None) -> npt.NDArray[np.uint8]:
            path = folder / f"{name}.npy"
            if not path.exists():
                raise UserError(f"{path} is missing: run `dvc repro prepare` first.")
            array: npt.NDArray[np.uint8] = np.load(path, mmap_mode=mode, allow_pickle=False)
            return array

        votes = read("votes") if (folder / "votes.npy").exists() else None
        return cls(read("images", "r"), read("labels"), read("split"), votes, load_classes(folder))


def load_classes(folder: Path) -> tuple[str, ...]:
    """Read the class names that `FerData.save` wrote. Raises UserError if the folder holds no prepared data."""
    path = folder / CLASSES_FILE
    if not path.exists():
        raise UserError(f"{path} is missing: run `dvc repro prepare` first.")
    return tuple(read_json(path))


def are_fer2013s(classes: Sequence[str]) -> bool:
    """Return whether these are FER-2013's seven classes, in any order."""
    return len(classes) == len(LABELS) and set(classes) == set(LABELS)
