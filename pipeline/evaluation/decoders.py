"""Turn the output of a model for an image into a decision.

A decoder receives a `ModelOutput`: arrays [N, K] of N images and K classes. Which of them exist depends on the loss. A
new decoder is one class here, one entry in `DECODERS` and one test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

from pipeline.errors import UserError
from pipeline.labels.targets import SMALLEST, TargetSpec

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ModelOutput:
    """The output of a model for N images.

    scores: the loss's scores, [N, K]. probabilities: their softmax; a trained posterior only if the loss is
    probabilistic, otherwise a convention that ranks the classes as the model does. cosines: of the output with each
    label vector, [N, K]; None if the output is not a vector. uncertainty: what the network says of it, [N]; None if it
    says nothing.
    """

    scores: Floats
    probabilities: Floats
    cosines: Floats | None
    uncertainty: Floats | None = None

    def averaged(self, other: ModelOutput) -> ModelOutput:
        """Return the mean of two views of the same images; scores are those of the mean probabilities."""
        probabilities = (self.probabilities + other.probabilities) / 2
        cosines = None if self.cosines is None or other.cosines is None else (self.cosines + other.cosines) / 2
        return ModelOutput(np.log(np.maximum(probabilities, np.finfo(float).tiny)), probabilities, cosines)


def softmax(scores: npt.NDArray[np.floating]) -> Floats:
    """Return exp(s_k) / sum_j exp(s_j), rows of [N, K] in float64."""
    return np.asarray(special.softmax(scores.astype(np.float64), axis=1))


class Decoder(Protocol):
    """A decision rule. needs_probabilities, needs_vectors: its requirements on the loss.

    weighs: whether it is made of the Gram matrix of the targets in its name, by which it weighs mistakes. inverts:
    whether it is made of the Gram matrix of the model's own targets.
    """

    needs_probabilities: ClassVar[bool] = False
    needs_vectors: ClassVar[bool] = False
    weighs: ClassVar[bool] = False
    inverts: ClassVar[bool] = False

    def __call__(self, output: ModelOutput) -> Ints: ...


@dataclass(frozen=True)
class ArgMax(Decoder):
    """arg-max over k of the scores; the first of equals."""

    def __call__(self, output: ModelOutput) -> Ints:
        return np.asarray(output.scores.argmax(axis=1), np.int64)


@dataclass(frozen=True)
class Nearest(Decoder):
    """arg-max over k of cos(f, w_k): the nearest label vector, the meaning of the README's `train_step`."""

    needs_vectors: ClassVar[bool] = True

    def __call__(self, output: ModelOutput) -> Ints:
        return np.asarray(_cosines(output).argmax(axis=1), np.int64)


@dataclass(frozen=True)
class Inverse(Decoder):
    """arg-max over k of (S^-1 c)_k with c_k = cos(f, w_k): `Nearest` with the targets' similarities taken out.

    S is `gram`, the cosines between the model's own targets, [K, K]. In the limit of the cosine loss f points along
    W^T p, so c = S p / sqrt(p^T S p) and S^-1 c is the posterior p times a positive number: q = S^-1 c / sum_k
    (S^-1 c)_k is p itself, and its arg-max that of p (see docs/losses.md). q is not divided by its sum here, because in
    a trained network entries, and even the sum, can be negative. Raises UserError if S has no inverse.
    """

    gram: Floats
    needs_vectors: ClassVar[bool] = True
    inverts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if np.linalg.eigvalsh(self.gram)[0] < SMALLEST:
            raise UserError(
                "The decoder 'inverse' needs label vectors that are linearly independent, but these are not (those of "
                "targets that end in '.centred' never are): choose other targets or another decoder."
            )

    def __call__(self, output: ModelOutput) -> Ints:
        return np.asarray(np.linalg.solve(self.gram, _cosines(output).T).argmax(axis=0), np.int64)


def _cosines(output: ModelOutput) -> Floats:
    if output.cosines is None:
        raise ValueError("the model's output is no vector")
    return output.cosines


@dataclass(frozen=True)
class CostSensitive(Decoder):
    """arg-min over k of sum_j C_kj p_j with C = 1 - S: the class of least expected cost.

    Conditional risk minimisation (CRM) as in Karthik et al. (ICLR 2021). S is `gram`, the cosines between some
    targets, [K, K]. As sum_j p_j = 1 this is arg-max over k of (S p)_k, which is also what the cosine loss
    decides in the limit (see docs/losses.md).
    """

    gram: Floats
    needs_probabilities: ClassVar[bool] = True
    weighs: ClassVar[bool] = True

    def __call__(self, output: ModelOutput) -> Ints:
        return np.asarray((output.probabilities @ (1 - self.gram).T).argmin(axis=1), np.int64)


DECODERS: dict[str, type[Decoder]] = {"argmax": ArgMax, "nearest": Nearest, "inverse": Inverse, "crm": CostSensitive}
"""The names that `models.<name>.decoders` in params.yaml may use. The name of one that weighs mistakes is followed
by a dot and the targets whose cosines it uses: `crm.word2vec`."""


@dataclass(frozen=True)
class DecoderSpec:
    """An entry of `models.<name>.decoders`: a rule of `DECODERS`, and targets if it weighs mistakes."""

    rule: str
    weights: TargetSpec | None = None

    @classmethod
    def parse(cls, name: str) -> DecoderSpec:
        """Parse an entry: `crm.word2vec` -> DecoderSpec("crm", TargetSpec("word2vec"))."""
        rule, dot, weights = name.partition(".")
        return cls(rule, TargetSpec.parse(weights) if dot else None)

    def make(self, seed: int, targets: Floats) -> Decoder:
        """Return the decoder, with the cosines that it is made of. targets: the model's own, [K, D].

        Raises UserError if targets in its name cannot be made, or if the model's own cannot be inverted.
        """
        kind = DECODERS[self.rule]
        make: Callable[..., Decoder] = kind
        if self.weights is not None:
            targets = self.weights.load(seed)
        return make(targets @ targets.T) if kind.weighs or kind.inverts else make()
