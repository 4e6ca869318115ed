"""Decision functions: from features to a score for each class, in arrays that can be stored without pickle.

Each is fitted by scikit-learn (`classifiers`) and computed here. N images, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


class Decision(Protocol):
    """A score for each class, and what each feature contributes to it."""

    def scores(self, x: Floats) -> Floats:
        """Return the scores of features x [N, D]: float64 [N, K]; the largest decides."""

    def contributions(self, x: Floats, classes: Ints) -> Floats:
        """Return what each feature adds to the score of `classes` [N], compared with 0 in its place: [N, D]."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what determines the decision, by name."""

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the decision that has these `arrays`."""


class _Arrays:
    """Dataclasses whose fields are all arrays."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        return cls(**arrays)


@dataclass(frozen=True)
class Linear(_Arrays):
    """s_k = w_k . x + b_k. weights: [K, D]; bias: [K]."""

    weights: Floats
    bias: Floats

    def scores(self, x: Floats) -> Floats:
        return np.asarray(x @ self.weights.T + self.bias, np.float64)

    def contributions(self, x: Floats, classes: Ints) -> Floats:
        """w_kd x_d: exact."""
        return np.asarray(self.weights[classes] * x)


@dataclass(frozen=True)
class Kernel(_Arrays):
    """s_k = sum_m a_km exp(-gamma |x - c_m|^2) + b_k.

    centres: c, [M, D]; coefficients: a, [K, M]; bias: [K]; gamma: [1].
    """

    centres: Floats
    coefficients: Floats
    bias: Floats
    gamma: Floats

    def near(self, x: Floats) -> Floats:
        """Return exp(-gamma |x - c_m|^2): [N, M]."""
        squared = (x**2).sum(axis=1)[:, None] + (self.centres**2).sum(axis=1) - 2 * x @ self.centres.T
        return np.asarray(np.exp(-self.gamma * np.maximum(squared, 0)))

    def scores(self, x: Floats) -> Floats:
        return np.asarray(self.near(x) @ self.coefficients.T + self.bias, np.float64)

    def contributions(self, x: Floats, classes: Ints) -> Floats:
        """x_d times the derivative of the score by x_d: to first order (gradient times input)."""
        pull = self.near(x) * self.coefficients[classes]  # [N, M]
        slope = -2 * self.gamma * (x * pull.sum(axis=1)[:, None] - pull @ self.centres)
        return np.asarray(x * slope)


@dataclass(frozen=True)
class Stumps(_Arrays):
    """SAMME (Zhu et al. 2009): s_k = sum_t v_t h_tk / sum_t v_t with h_tk = 1 for the class that stump t names and
    -1 / (K - 1) for the others.

    A stump names the class `below` if its feature is at most the threshold, else the class `above`. feature, below,
    above: int [T]; threshold, votes: [T]; classes: [1], K.
    """

    feature: Ints
    threshold: Floats
    below: Ints
    above: Ints
    votes: Floats
    classes: Ints

    def named(self, x: Floats) -> Ints:
        """Return the class that each stump names: [N, T]."""
        return np.where(x[:, self.feature] <= self.threshold, self.below, self.above)

    def scores(self, x: Floats) -> Floats:
        count = int(self.classes[0])
        named = self.named(x)
        share = np.stack([(named == k) @ self.votes for k in range(count)], axis=1) / self.votes.sum()
        return np.asarray((share * count - 1) / (count - 1))

    def contributions(self, x: Floats, classes: Ints) -> Floats:
        """The votes for the class of the stumps that look at a feature."""
        votes = (self.named(x) == classes[:, None]) * self.votes
        of_feature = np.zeros((x.shape[1], len(x)))
        np.add.at(of_feature, self.feature, votes.T)
        return of_feature.T
