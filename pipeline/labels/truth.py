"""Training labels other than FER-2013's own.

`models.<name>.labels` names one entry of `TRUTHS`, some with a number behind it (`given.noisy20`); without the key a
model trains on the labels as they are. Nothing here changes PrivateTest, nor what evaluation measures. Where labels
are corrupted (`given.noisy20`, `given.noisy_votes`), those of PublicTest are corrupted alike, because a study of noisy
labels has no clean ones to choose by.

An epoch has the same number of steps whatever is dropped: its N places are filled with the images that are left, over
and over. A new kind of labels is one function and one entry in `TRUTHS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import LABELS, FerData
from pipeline.data.votes import distribution, majority
from pipeline.errors import UserError
from pipeline.files import write_npz
from pipeline.workspace import RunKey

CERTAIN = 5
"""The votes of ten that one answer needs for its image to be certain; 10.9 % of Training have none with so many."""


@dataclass(frozen=True)
class Split:
    """labels: uint8 [N]; votes: uint8 [N, 10] of FER+, or None where the data have none."""

    labels: npt.NDArray[np.uint8]
    votes: npt.NDArray[np.uint8] | None

    @classmethod
    def of(cls, data: FerData, split: str) -> Split:
        rows = data.rows(split)
        return cls(data.labels[rows], None if data.votes is None else data.votes[rows])


@dataclass(frozen=True)
class Asked:
    """What an entry of `TRUTHS` may look at. number: what stands behind its name; classes: how many there are."""

    training: Split
    val: Split
    seed: int
    number: int = 0
    classes: int = len(LABELS)

    def random(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream])

    def votes(self) -> npt.NDArray[np.uint8]:
        """Those of Training. Raises UserError if there are none."""
        if self.training.votes is None:
            raise UserError(
                "These labels are made of FER+ votes, which the data lack: set data.votes, or choose other labels."
            )
        return self.training.votes


@dataclass(frozen=True)
class Truth:
    """Of the N images of Training, each None where nothing is changed.

    labels: uint8 [N], and val_labels, uint8 [M], those of PublicTest; soft: float32 [N, K], rows add up to 1; weights:
    float32 [N]; rows: int32 [N], the image in each place of an epoch. drawn: bool [1], whether each epoch draws one
    label for each image from `soft`. neighbours: int32 [N, k], the images whose landmarks are most similar, with their
    affinities: float32 [N, k].
    """

    labels: npt.NDArray[np.uint8] | None = None
    val_labels: npt.NDArray[np.uint8] | None = None
    soft: npt.NDArray[np.float32] | None = None
    weights: npt.NDArray[np.float32] | None = None
    rows: npt.NDArray[np.int32] | None = None
    drawn: npt.NDArray[np.bool_] | None = None
    neighbours: npt.NDArray[np.int32] | None = None
    affinities: npt.NDArray[np.float32] | None = None

    def save(self, path: Path) -> None:
        """Write what there is as an `.npz`: an archive without arrays if nothing is changed."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        write_npz(path, {name: array for name, array in arrays.items() if array is not None})

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            return cls(**dict(archive))


def votes(asked: Asked) -> Truth:
    """q: the shares of the ten votes among the seven classes (Barsoum et al. 2016, "probability"). An image without
    a vote for any of the seven keeps its label."""
    shares, has_votes = distribution(asked.votes())
    given = np.eye(asked.classes)[asked.training.labels]
    return Truth(soft=np.where(has_votes[:, None], shares, given).astype(np.float32))


def votes_drawn(asked: Asked) -> Truth:
    """In each epoch a label drawn from the shares of the votes (Barsoum et al. 2016, "probabilistic label drawing")."""
    return Truth(soft=votes(asked).soft, drawn=np.ones(1, bool))


def of_majority(asked: Asked) -> Truth:
    """The class that FER+ agrees on; the given label where it agrees on none of the seven."""
    agreed = majority(asked.votes())
    return Truth(labels=np.where(agreed >= 0, agreed, asked.training.labels).astype(np.uint8))


def noisy(asked: Asked) -> Truth:
    """With the chance r = number / 100 another class instead, each of the K - 1 others equally likely."""

    def corrupt(labels: npt.NDArray[np.uint8], stream: int) -> npt.NDArray[np.uint8]:
        random = asked.random(stream)
        wrong = random.random(len(labels)) < asked.number / 100
        other = (labels + random.integers(1, asked.classes, len(labels))) % asked.classes
        return np.where(wrong, other, labels).astype(np.uint8)

    return Truth(labels=corrupt(asked.training.labels, 1), val_labels=corrupt(asked.val.labels, 2))


def noisy_votes(asked: Asked) -> Truth:
    """One label drawn from each image's own votes: as wrong, and for the same faces, as one annotator is."""
    asked.votes()

    def draw(split: Split, stream: int) -> npt.NDArray[np.uint8]:
        assert split.votes is not None
        shares, has_votes = distribution(split.votes)
        place = asked.random(stream).random((len(split.labels), 1))
        drawn = np.minimum((shares.cumsum(axis=1) <= place).sum(axis=1), asked.classes - 1)
        return np.where(has_votes, drawn, split.labels).astype(np.uint8)

    return Truth(labels=draw(asked.training, 3), val_labels=draw(asked.val, 4))


def certain(asked: Asked) -> Truth:
    """Without the images on which no answer has `CERTAIN` votes of ten or more."""
    kept = np.flatnonzero(asked.votes().max(axis=1) >= CERTAIN)
    return Truth(rows=_filled(asked.random(5).permutation(kept), len(asked.training.labels)))


def weighted(asked: Asked) -> Truth:
    """Each image weighs as much as annotators agree on it: the share of the ten votes that its first answer has."""
    counts = asked.votes().astype(np.float32)
    return Truth(weights=counts.max(axis=1) / counts.sum(axis=1).clip(min=1))


def balanced(asked: Asked) -> Truth:
    """Each class weighs the same: weight N / (K n_y), n_y the number of images of the label."""
    counts = np.bincount(asked.training.labels, minlength=asked.classes)
    weights = len(asked.training.labels) / (asked.classes * counts[asked.training.labels])
    return Truth(weights=weights.astype(np.float32))


def few(asked: Asked) -> Truth:
    """`number` images of each class, or all it has, drawn by the seed: more of them contain the fewer."""
    labels = asked.training.labels
    chosen = [
        asked.random(10 + k).permutation(np.flatnonzero(labels == k))[: asked.number] for k in range(asked.classes)
    ]
    return Truth(rows=_filled(np.concatenate(chosen), len(labels)))


def dropped(asked: Asked) -> Truth:
    """Without number / 100 of the images of each class, drawn by the seed: the control of every other dropping."""
    labels = asked.training.labels
    kept = []
    for k in range(asked.classes):
        images = asked.random(20 + k).permutation(np.flatnonzero(labels == k))
        kept.append(images[round(len(images) * asked.number / 100) :])
    return Truth(rows=_filled(asked.random(6).permutation(np.concatenate(kept)), len(labels)))


def _filled(images: npt.NDArray[np.integer], places: int) -> npt.NDArray[np.int32]:
    """The images over and over, in all the places of an epoch. Raises UserError if there is none."""
    if not len(images):
        raise UserError("These labels leave no image of Training.")
    return np.resize(images, places).astype(np.int32)


@dataclass(frozen=True)
class Kind:
    """How labels are made and what they need. numbers: what may stand behind the name; None: nothing.

    is_soft: whether the loss must have a value for each image and class. is_distribution: whether an image has more
    than one label. selects: whether an epoch leaves images out.
    """

    make: Callable[[Asked], Truth]
    uses_votes: bool = False
    is_soft: bool = False
    is_distribution: bool = False
    selects: bool = False
    numbers: range | None = None


TRUTHS: dict[str, Kind] = {
    "votes": Kind(votes, uses_votes=True, is_soft=True, is_distribution=True),
    "votes.drawn": Kind(votes_drawn, uses_votes=True, is_distribution=True),
    "majority": Kind(of_majority, uses_votes=True),
    "given.noisy": Kind(noisy, numbers=range(1, 91)),
    "given.noisy_votes": Kind(noisy_votes, uses_votes=True),
    "given.certain": Kind(certain, uses_votes=True, selects=True),
    "given.weighted": Kind(weighted, uses_votes=True, is_soft=True),
    "given.balanced": Kind(balanced, is_soft=True),
    "given.few": Kind(few, selects=True, numbers=range(1, 100_000)),
    "given.dropped": Kind(dropped, selects=True, numbers=range(1, 91)),
}
"""What `models.<name>.labels` may name."""


@dataclass(frozen=True)
class LabelSpec:
    """What `models.<name>.labels` says: the name in `TRUTHS` and the number behind it, 0 where none stands."""

    name: str
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> LabelSpec:
        """`given.noisy20` -> LabelSpec("given.noisy", 20). Raises ValueError if there is no such thing."""
        match = re.fullmatch(r"([a-z_.]*[a-z_])([0-9]{0,6})", text)
        name, digits = match.groups() if match else (text, "")
        numbers = TRUTHS[name].numbers if name in TRUTHS else None
        known = name in TRUTHS and (int(digits or 0) in numbers if numbers else not digits)
        if not known or digits.startswith("0"):
            raise ValueError(f"must be one of {', '.join(map(_written, TRUTHS))}")
        return cls(name, int(digits or 0))

    @property
    def kind(self) -> Kind:
        return TRUTHS[self.name]

    def make(self, data: FerData, seed: int) -> Truth:
        """Raise UserError if the data lack what the labels are made of."""
        asked = Asked(Split.of(data, "train"), Split.of(data, "val"), seed, self.number, len(data.classes))
        return self.kind.make(asked)


def _written(name: str) -> str:
    numbers = TRUTHS[name].numbers
    return f"{name}<{numbers.start} to {numbers.stop - 1}>" if numbers else name


def read_targets(run_key: RunKey) -> tuple[npt.NDArray[np.float64], Truth]:
    """Read what the stage targets wrote for a run: the targets, [K, D], and the labels.

    Raises UserError if it has not run.
    """
    for file in (run_key.targets, run_key.labels):
        if not file.exists():
            raise UserError(f"{file} is missing: run `dvc repro targets` first.")
    return np.array(np.load(run_key.targets, allow_pickle=False)), Truth.load(run_key.labels)
