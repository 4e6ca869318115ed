"""Make the targets: the K unit vectors that a loss compares outputs with, and controls that show what matters in them.

A target is named by its source (a set of label words, or one of `SOURCES`), optionally followed by a dot and one of
`TRANSFORMS`: `word2vec`, `word2vec.centred`. All arrays are float64 [K, D] in the order of the classes, rows of unit
length. Under the cosine loss only their Gram matrix S = W W^T matters (see docs/losses.md), so each control keeps one
property and changes another: `permuted` keeps all cosines but assigns them to the wrong pairs; `whitened` keeps the
words' directions as far as possible with all cosines zero; `one_hot` and `random` keep nothing.

A new source is one function and one entry in `SOURCES`; likewise a new transform in `TRANSFORMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import LABELS, FerData, are_fer2013s, load_classes
from pipeline.errors import UserError
from pipeline.labels.distances import AFFECT, mean_votes
from pipeline.labels.vectors import LabelVectors
from pipeline.workspace import PREPARED, label_vectors

Floats = npt.NDArray[np.float64]

RANDOM_DIMENSIONS = 300
"""As many as GoogleNews word2vec has, where two random directions are nearly orthogonal (cosines of +-.06)."""

SMALLEST = 1e-6
"""Below this length a vector has no direction, and below this eigenvalue a Gram matrix has no inverse."""


class ZeroVectorError(UserError):
    """The vector of a class has no direction. label: its name, or its number where only that is known."""

    def __init__(self, vector: str, label: str | int) -> None:
        of = f"'{label}'" if isinstance(label, str) else f"class {label}"
        super().__init__(f"The {vector} vector of {of} is zero, so it has no direction: choose another word.")
        self.vector, self.label = vector, label


@dataclass(frozen=True)
class Training:
    """The inputs that a source may use: the Training split alone, and the seed of the run.

    labels: uint8 [N]; votes: uint8 [N, 10] FER+ votes, or None if the data have none; classes: the K names.
    """

    labels: npt.NDArray[np.uint8]
    votes: npt.NDArray[np.uint8] | None
    seed: int
    classes: tuple[str, ...] = LABELS


def one_hot(training: Training) -> Floats:
    """Return the unit matrix: every pair of classes is equally far apart."""
    return np.eye(len(training.classes))


def random(training: Training) -> Floats:
    """Return directions drawn uniformly from the sphere, different for every seed of the run."""
    generator = np.random.default_rng([training.seed, RANDOM_DIMENSIONS])
    return unit(generator.standard_normal((len(training.classes), RANDOM_DIMENSIONS)), "random")


def affective(training: Training) -> Floats:
    """Return vectors whose cosines are exp(-d^2 / 2 m^2), d the distance in valence, arousal and dominance.

    m is the median distance between two classes. A kernel rather than cosines of the affective vectors themselves,
    because *neutral* is at their origin and has no direction. Source of the values: Russell & Mehrabian 1977 (see
    `labels.distances`). Raises UserError for classes other than FER-2013's, which have no such values here.
    """
    if not are_fer2013s(training.classes):
        raise UserError(
            f"The targets 'affective' are known for FER-2013's classes alone ({', '.join(LABELS)}), and these are"
            f" {', '.join(training.classes)}: choose other targets."
        )
    points = np.array([AFFECT[label] for label in training.classes])
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    median = np.median(distance[np.triu_indices(len(points), 1)])
    return vectors_of_gram(np.exp(-(distance**2) / (2 * median**2)))


def human(training: Training) -> Floats:
    """Return the mean FER+ votes of each FER-2013 class in Training: classes that annotators confuse are close.

    Raises UserError if there are no votes, or none for a class.
    """
    means = None if training.votes is None else mean_votes(training.labels, training.votes)
    if means is None:
        raise UserError(
            "The targets 'human' need FER+ votes for every class of Training: set data.votes, which FER-2013 alone has."
        )
    return unit(means, "human")


@dataclass(frozen=True)
class Source:
    """How targets without words are made, and what they depend on in addition to the labels' names."""

    make: Callable[[Training], Floats]
    uses_seed: bool = False
    uses_votes: bool = False
    is_of_fer2013: bool = False
    """Whether they are known for FER-2013's seven classes alone."""

    def __call__(self, training: Training) -> Floats:
        return self.make(training)


SOURCES: dict[str, Source] = {
    "one_hot": Source(one_hot),
    "random": Source(random, uses_seed=True),
    "affective": Source(affective, is_of_fer2013=True),
    "human": Source(human, uses_votes=True),
}
"""Targets made without words, by the names that `models.<name>.targets` may use."""


def centred(vectors: Floats, seed: int) -> Floats:
    """Subtract the mean of all K vectors, then normalise: removes what the words have in common."""
    return unit(vectors - vectors.mean(axis=0), "centred")


def whitened(vectors: Floats, seed: int) -> Floats:
    """Return S^(-1/2) W: the orthonormal vectors nearest to the words (Loewdin 1950), every cosine zero.

    Raises UserError if the vectors are linearly dependent: S then has no inverse root.
    """
    values, basis = np.linalg.eigh(vectors @ vectors.T)
    if values[0] < SMALLEST:
        raise UserError(
            "The label vectors are linearly dependent (two of them may be equal), so they cannot be whitened: "
            "choose other words or another transform."
        )
    return np.asarray((basis / np.sqrt(values)) @ basis.T @ vectors)


def permuted(vectors: Floats, seed: int) -> Floats:
    """Give every label the vector of another one, by a derangement drawn from the seed of the run."""
    generator = np.random.default_rng([seed, len(vectors)])
    while True:  # one draw in e has no fixed point
        order = generator.permutation(len(vectors))
        if not (order == np.arange(len(vectors))).any():
            return vectors[order]


@dataclass(frozen=True)
class Transform:
    """A change of vectors: (vectors, seed of the run) -> vectors.

    is_control: whether the similarities of the words are removed or assigned to other labels.
    """

    make: Callable[[Floats, int], Floats]
    uses_seed: bool = False
    is_control: bool = False

    def __call__(self, vectors: Floats, seed: int) -> Floats:
        return self.make(vectors, seed)


TRANSFORMS: dict[str, Transform] = {
    "centred": Transform(centred),
    "whitened": Transform(whitened, is_control=True),
    "permuted": Transform(permuted, uses_seed=True, is_control=True),
}
"""The names that may follow the dot in `models.<name>.targets`."""


@dataclass(frozen=True)
class TargetSpec:
    """A value of `models.<name>.targets`: a set of words or one of `SOURCES`, and one of `TRANSFORMS` or ""."""

    source: str
    transform: str = ""

    @classmethod
    def parse(cls, name: str) -> TargetSpec:
        """Parse a value: `word2vec.centred` -> TargetSpec("word2vec", "centred")."""
        return cls(*name.partition(".")[::2])

    def __str__(self) -> str:
        return f"{self.source}.{self.transform}" if self.transform else self.source

    @property
    def uses_seed(self) -> bool:
        """Whether the targets differ between seeds of the run."""
        parts = (SOURCES.get(self.source), TRANSFORMS.get(self.transform))
        return any(part is not None and part.uses_seed for part in parts)

    @property
    def uses_votes(self) -> bool:
        """Whether the targets are made from FER+ votes."""
        return self.source in SOURCES and SOURCES[self.source].uses_votes

    @property
    def is_of_fer2013(self) -> bool:
        """Whether the targets are known for FER-2013's seven classes alone."""
        return self.source in SOURCES and SOURCES[self.source].is_of_fer2013

    @property
    def has_similarities_of_words(self) -> bool:
        """Whether they are label words with their own similarities, or with those that a transform leaves."""
        control = bool(self.transform) and TRANSFORMS[self.transform].is_control
        return self.source not in SOURCES and not control

    def load(self, seed: int) -> Floats:
        """Return the targets [K, D] in the order of the classes: from embed's output or from `SOURCES`.

        Raises UserError if they cannot be made, or if two labels have the same vector.
        """
        if self.source not in SOURCES:
            classes = load_classes(PREPARED)
            vectors = LabelVectors.load(label_vectors(self.source)).of(classes)
            return self.of(vectors.astype(np.float64), seed, classes)
        data = FerData.load(PREPARED)
        rows = data.rows("train")
        votes = None if data.votes is None else data.votes[rows]
        training = Training(data.labels[rows], votes, seed, data.classes)
        return self.of(SOURCES[self.source](training), seed, data.classes)

    def of(self, vectors: Floats, seed: int, classes: Sequence[str] = LABELS) -> Floats:
        """Make the targets from the source's vectors. Raises UserError as `load` does."""
        try:
            targets = TRANSFORMS[self.transform](vectors, seed) if self.transform else vectors
        except UserError as error:
            if isinstance(error, ZeroVectorError) and isinstance(error.label, int):
                error = ZeroVectorError(error.vector, classes[error.label])
            raise UserError(f"The targets '{self}' cannot be made. {error}") from None
        equal = np.argwhere(np.triu(targets @ targets.T, 1) > 1 - SMALLEST)
        if len(equal):
            one, other = (classes[k] for k in equal[0])
            raise UserError(
                f"The targets '{self}' of '{one}' and '{other}' are equal, so the two classes could not be told apart: "
                "choose another word for one of them."
            )
        return targets


def names(words: Iterable[str]) -> list[str]:
    """Return every valid name of targets, given these sets of words."""
    sources = [*words, *SOURCES]
    return [*sources, *(str(TargetSpec(source, transform)) for source in sources for transform in TRANSFORMS)]


def unit(vectors: Floats, name: str) -> Floats:
    """Scale rows to length one. Raises ZeroVectorError, with the number of the class, if a row is (nearly) zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if lengths.min() < SMALLEST:
        raise ZeroVectorError(name, int(lengths.argmin()))
    return np.asarray(vectors / lengths)


def vectors_of_gram(gram: Floats) -> Floats:
    """Return K unit vectors in K dimensions with the given cosines [K, K], ones on the diagonal.

    They are the rows of its symmetric square root, the only choice that does not depend on how a machine finds
    eigenvectors. Raises UserError if there are none: the matrix is not positive semi-definite.
    """
    values, basis = np.linalg.eigh((gram + gram.T) / 2)
    if values[0] < -SMALLEST:
        raise UserError(f"No vectors have these cosines: the Gram matrix has the negative eigenvalue {values[0]:.3g}.")
    return unit((basis * np.sqrt(values.clip(min=0))) @ basis.T, "Gram matrix")
