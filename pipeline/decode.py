"""From the scores of a model to its decision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special

Scores = npt.NDArray[np.floating]


def softmax(scores: Scores) -> npt.NDArray[np.float64]:
    """exp(s_k) / sum_j exp(s_j), rows of [N, K] in float64: the probabilities a model's scores stand for.

    For the cosine losses these are a convention, not a trained posterior: they rank the classes as
    the model does, and calibration is reported after one temperature is fitted.
    """
    return special.softmax(scores.astype(np.float64), axis=1)


def argmax(scores: Scores) -> npt.NDArray[np.int64]:
    """The class with the highest score, the first of equals.

    Where scores are cosines to the label vectors this is the nearest label vector, the meaning of
    the original README's `train_step`.
    """
    return scores.argmax(axis=1).astype(np.int64)


DECODERS: dict[str, Callable[[Scores], npt.NDArray[np.int64]]] = {"argmax": argmax}
"""The names that `models.<name>.decoder` in params.yaml may use."""
