"""Training labels other than FER-2013's own.

`models.<name>.labels` names one entry of `LABEL_KINDS`, some with a number behind it (`given.noisy20`); without the key
a model trains on the labels as they are. Nothing here changes PrivateTest, nor what evaluation measures. Where labels
are corrupted (`given.noisy20`, `given.noisy_votes`), those of PublicTest are corrupted alike, because a study of noisy
labels has no clean ones to choose by.

An epoch has the same number of steps whatever is dropped: its N places are filled with the images that are left, over
and over. A new kind of labels is one function and one entry in `LABEL_KINDS`.
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
class LabelInputs:
    """What an entry of `LABEL_KINDS` may look at. number: what stands behind its name; classes: how many there are."""

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
class TrainingLabels:
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
    def load(cls, path: Path) -> TrainingLabels:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            return cls(**dict(archive))


def votes(inputs: LabelInputs) -> TrainingLabels:
    """q: the shares of the ten votes among the seven classes (Barsoum et al. 2016, "probability"). An image without
    a vote for any of the seven keeps its label."""
    shares, has_votes = distribution(inputs.votes())
    given = np.eye(inputs.classes)[inputs.training.labels]
    return TrainingLabels(soft=np.where(has_votes[:, None], shares, given).astype(np.float32))


def votes_drawn(inputs: LabelInputs) -> TrainingLabels:
    """In each epoch a label drawn from the shares of the votes (Barsoum et al. 2016, "probabilistic label drawing")."""
    return TrainingLabels(soft=votes(inputs).soft, drawn=np.ones(1, bool))


def of_majority(inputs: LabelInputs) -> TrainingLabels:
    """The class that FER+ agrees on; the given label where it agrees on none of the seven."""
    agreed = majority(inputs.votes())
    return TrainingLabels(labels=np.where(agreed >= 0, agreed, inputs.training.labels).astype(np.uint8))


def noisy(inputs: LabelInputs) -> TrainingLabels:
    """With the chance r = number / 100 another class instead, each of the K - 1 others equally likely."""

    def corrupt(labels: npt.NDArray[np.uint8], stream: int) -> npt.NDArray[np.uint8]:
        random = inputs.random(stream)
        wrong = random.random(len(labels)) < inputs.number / 100
        other = (labels + random.integers(1, inputs.classes, len(labels))) % inputs.classes
        return np.where(wrong, other, labels).astype(np.uint8)

    return TrainingLabels(labels=corrupt(inputs.training.labels, 1), val_labels=corrupt(inputs.val.labels, 2))


def noisy_votes(inputs: LabelInputs) -> TrainingLabels:
    """One label drawn from each image's own votes: as wrong, and for the same faces, as one annotator is."""
    inputs.votes()

    def draw(split: Split, stream: int) -> npt.NDArray[np.uint8]:
        assert split.votes is not None
        shares, has_votes = distribution(split.votes)
        place = inputs.random(stream).random((len(split.labels), 1))
        drawn = np.minimum((shares.cumsum(axis=1) <= place).sum(axis=1), inputs.classes - 1)
        return np.where(has_votes, drawn, split.labels).astype(np.uint8)

    return TrainingLabels(labels=draw(inputs.training, 3), val_labels=draw(inputs.val, 4))


def certain(inputs: LabelInputs) -> TrainingLabels:
    """Without the images on which no answer has `CERTAIN` votes of ten or more."""
    kept = np.flatnonzero(inputs.votes().max(axis=1) >= CERTAIN)
    return TrainingLabels(rows=_filled(inputs.random(5).permutation(kept), len(inputs.training.labels)))


def weighted(inputs: LabelInputs) -> TrainingLabels:
    """Each image weighs as much as annotators agree on it: the share of the ten votes that its first answer has."""
    counts = inputs.votes().astype(np.float32)
    return TrainingLabels(weights=counts.max(axis=1) / counts.sum(axis=1).clip(min=1))


def balanced(inputs: LabelInputs) -> TrainingLabels:
    """Each class weighs the same: weight N / (K n_y), n_y the number of images of the label."""
    counts = np.bincount(inputs.training.labels, minlength=inputs.classes)
    weights = len(inputs.training.labels) / (inputs.classes * counts[inputs.training.labels])
    return TrainingLabels(weights=weights.astype(np.float32))


def few(inputs: LabelInputs) -> TrainingLabels:
    """`number` images of each class, or all it has, drawn by the seed: more of them contain the fewer."""
    labels = inputs.training.labels
    chosen = [
        inputs.random(10 + k).permutation(np.flatnonzero(labels == k))[: inputs.number] for k in range(inputs.classes)
    ]
    return TrainingLabels(rows=_filled(np.concatenate(chosen), len(labels)))


def dropped(inputs: LabelInputs) -> TrainingLabels:
    """Without number / 100 of the images of each class, drawn by the seed: the control of every other dropping."""
    labels = inputs.training.labels
    kept = []
    for k in range(inputs.classes):
        images = inputs.random(20 + k).permutation(np.flatnonzero(labels == k))
        kept.append(images[round(len(images) * inputs.number / 100) :])
    return TrainingLabels(rows=_filled(inputs.random(6).permutation(np.concatenate(kept)), len(labels)))


def _filled(images: npt.NDArray[np.integer], places: int) -> npt.NDArray[np.int32]:
    """The images over and over, in all the places of an epoch. Raises UserError if there is none."""
    if not len(images):
        raise UserError("These labels leave no image of Training.")
    return np.resize(images, places).astype(np.int32)


@dataclass(frozen=True)
class LabelKind:
    """How labels are made and what they need. numbers: what may stand behind the name; None: nothing.

    is_soft: whether the loss must have a value for each image and class. is_distribution: whether an image has more
    than one label. selects: whether an epoch leaves images out.
    """

    make: Callable[[LabelInputs], TrainingLabels]
    uses_votes: bool = False
    is_soft: bool = False
    is_distribution: bool = False
    selects: bool = False
    numbers: range | None = None


LABEL_KINDS: dict[str, LabelKind] = {
    "votes": LabelKind(votes, uses_votes=True, is_soft=True, is_distribution=True),
    "votes.drawn": LabelKind(votes_drawn, uses_votes=True, is_distribution=True),
    "majority": LabelKind(of_majority, uses_votes=True),
    "given.noisy": LabelKind(noisy, numbers=range(1, 91)),
    "given.noisy_votes": LabelKind(noisy_votes, uses_votes=True),
    "given.certain": LabelKind(certain, uses_votes=True, selects=True),
    "given.weighted": LabelKind(weighted, uses_votes=True, is_soft=True),
    "given.balanced": LabelKind(balanced, is_soft=True),
    "given.few": LabelKind(few, selects=True, numbers=range(1, 100_000)),
    "given.dropped": LabelKind(dropped, selects=True, numbers=range(1, 91)),
}
"""What `models.<name>.labels` may name."""


@dataclass(frozen=True)
class LabelSpec:
    """What `models.<name>.labels` says: the name in `LABEL_KINDS` and the number behind it, 0 where none stands."""

    name: str
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> LabelSpec:
        """`given.noisy20` -> LabelSpec("given.noisy", 20). Raises ValueError if there is no such thing."""
        match = re.fullmatch(r"([a-z_.]*[a-z_])([0-9]{0,6})", text)
        name, digits = match.groups() if match else (text, "")
        numbers = LABEL_KINDS[name].numbers if name in LABEL_KINDS else None
        known = name in LABEL_KINDS and (int(digits or 0) in numbers if numbers else not digits)
        if not known or digits.startswith("0"):
            raise ValueError(f"must be one of {', '.join(map(_written, LABEL_KINDS))}")
        return cls(name, int(digits or 0))

    @property
    def kind(self) -> LabelKind:
        return LABEL_KINDS[self.name]

    def make(self, data: FerData, seed: int) -> TrainingLabels:
        """Raise UserError if the data lack what the labels are made of."""
        inputs = LabelInputs(Split.of(data, "train"), Split.of(data, "val"), seed, self.number, len(data.classes))
        return self.kind.make(inputs)


def _written(name: str) -> str:
    numbers = LABEL_KINDS[name].numbers
    return f"{name}<{numbers.start} to {numbers.stop - 1}>" if numbers else name


def read_targets(run_key: RunKey) -> tuple[npt.NDArray[np.float64], TrainingLabels]:
    """Read what the stage targets wrote for a run: the targets, [K, D], and the labels.

    Raises UserError if it has not run.
    """
    for file in (run_key.targets, run_key.labels):
        if not file.exists():
            raise UserError(f"{file} is missing: run `dvc repro targets` first.")
    return np.array(np.load(run_key.targets, allow_pickle=False)), TrainingLabels.load(run_key.labels)
