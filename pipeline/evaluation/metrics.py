"""Compute the metrics of one model's decisions and probabilities on one split, as a nested dict of numbers.

Arrays: labels and predicted int [N], indices of the K classes; probabilities float64 [N, K], rows summing to one.
`predicted` is the decoder's decision and need not be the arg-max of the probabilities. All values are fractions or in
nats, never per cent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import entr, log_softmax, rel_entr, softmax
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support, top_k_accuracy_score

from pipeline.data.fer import LABELS
from pipeline.data.votes import barsoum_majority, distribution, majority
from pipeline.files import JsonDict

CALIBRATION_BINS = 15
TEMPERATURE_RANGE = (0.01, 20.0)

SMALLEST_PROBABILITY = 1e-7
"""Floor of p in the divergence from the votes: no image costs more than 16 nats."""


class Reliability(NamedTuple):
    """Images sorted into bins of confidence; fields are arrays [bins], zero where a bin is empty."""

    images: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]


def split_metrics(
    labels: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    predicted_flip: npt.NDArray[np.integer],
    probabilities: npt.NDArray[np.float64],
    temperature: float,
    distances: Mapping[str, npt.NDArray[np.float64]],
    votes: npt.NDArray[np.uint8] | None = None,
    uncertainty: npt.NDArray[np.float64] | None = None,
    classes: Sequence[str] = LABELS,
) -> JsonDict:
    """Return the metrics of one split, with the same keys whatever the data (`votes` may be absent).

    - `accuracy` is that of `predicted`, `accuracy_flip` that of `predicted_flip`; all other scores of
      decisions use `predicted`.
    - `balanced_accuracy`: mean recall over the classes that occur. `macro_f1`: mean F1 over all K, where
      a class that neither occurs nor is predicted counts as zero.
    - `top2`, `nll` and `ece` evaluate `probabilities`, so a decoder does not change them; `nll_calibrated` and
      `ece_calibrated` evaluate them after `apply_temperature`. NLL is in nats, and a probability of zero counts
      as the smallest step of a float64 (36 nats).
    - `severity.<name>`: mean of `distances[name][label, predicted]` over all images and over the mistakes
      alone; without a mistake both are 0, so that all = error rate * mistakes always holds (zero diagonal).
    - `votes`: see `vote_metrics` and `uncertainty_metrics`; absent if `votes` is None.

    votes: FER+ counts, uint8 [N, 10], columns `VOTE_COLUMNS`. distances: name -> float64 [K, K]. uncertainty: what the
    model says of its own, [N]; by default the entropy of the probabilities. classes: the K names.
    Raises ValueError if there are no images.
    """
    if len(labels) == 0:
        raise ValueError("there are no images to score")
    # A softmax in single precision, or a rounded CSV file, misses one by more than scikit-learn accepts.
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    calibrated = apply_temperature(probabilities, temperature)
    numbers = range(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    metrics: JsonDict = {
        "images": len(labels),
        "accuracy": float(accuracy_score(labels, predicted)),
        "accuracy_flip": float(accuracy_score(labels, predicted_flip)),
        # The same as balanced_accuracy_score, which warns when a class is predicted that does not occur.
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_f1": float(f1.mean()),
        "per_class": {
            label: {
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
                "support": int(support[k]),
            }
            for k, label in enumerate(classes)
        },
        "top2": float(top_k_accuracy_score(labels, probabilities, k=2, labels=numbers))
        if len(classes) > 2
        else 1.0,  # scikit-learn has no second guess among two
        "nll": float(log_loss(labels, probabilities, labels=numbers)),
        "ece": expected_calibration_error(labels, probabilities),
        "nll_calibrated": float(log_loss(labels, calibrated, labels=numbers)),
        "ece_calibrated": expected_calibration_error(labels, calibrated),
        "severity": {name: mistake_severity(labels, predicted, distance) for name, distance in distances.items()},
    }
    if votes is not None:
        metrics["votes"] = vote_metrics(predicted, probabilities, votes) | uncertainty_metrics(
            entropy(probabilities) if uncertainty is None else uncertainty, probabilities, votes
        )
    return metrics


def mistake_severity(
    labels: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], distance: npt.NDArray[np.float64]
) -> dict[str, float]:
    """Return the mean distance [K, K] from label to decision, over `all` images and over `mistakes` (0 if none).

    Read the two together: the second can improve while accuracy falls (many mistakes, each a mild one).
    """
    cost = distance[labels, predicted]
    wrong = labels != predicted
    return {"all": float(cost.mean()), "mistakes": float(cost[wrong].mean()) if wrong.any() else 0.0}


def vote_metrics(
    predicted: npt.NDArray[np.integer], probabilities: npt.NDArray[np.float64], votes: npt.NDArray[np.uint8]
) -> dict[str, float]:
    """Measure agreement with the ten FER+ annotators, whose opinion differs from FER-2013's labels.

    - `accuracy` over the `images` that have a clear majority among the seven classes;
    - `kl`: KL(votes || p), mean over the images with any vote for these classes, p floored at 1e-7;
    - `js`: Jensen-Shannon divergence over the same images, between 0 and log 2;
    - `barsoum_accuracy` over the `barsoum_images` of FER+'s own test (`barsoum_majority`), whose eighth class is
      contempt: a mistake for every model here.

    Divergences are in nats; all values are zero if no image qualifies.
    """
    opinion = majority(votes)
    clear = opinion >= 0
    theirs = barsoum_majority(votes)
    kept = theirs >= 0
    shares, voted = distribution(votes)
    q, p = shares[voted], probabilities[voted]
    floored = np.maximum(p, SMALLEST_PROBABILITY)
    # Adding up to one again keeps the divergence at or above zero.
    kl = rel_entr(q, floored / floored.sum(axis=1, keepdims=True)).sum(axis=1)
    # Not scipy's jensenshannon: it takes a root, which is NaN where rounding leaves -1e-17.
    middle = (q + p) / 2
    js = (rel_entr(q, middle) + rel_entr(p, middle)).sum(axis=1) / 2
    return {
        "accuracy": float((predicted[clear] == opinion[clear]).mean()) if clear.any() else 0.0,
        "kl": float(kl.mean()) if voted.any() else 0.0,
        "js": float(js.mean()) if voted.any() else 0.0,
        "images": int(clear.sum()),
        "barsoum_accuracy": float((predicted[kept] == theirs[kept]).mean()) if kept.any() else 0.0,
        "barsoum_images": int(kept.sum()),
    }


def uncertainty_metrics(
    uncertainty: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64], votes: npt.NDArray[np.uint8]
) -> dict[str, float]:
    """Ask whether a model is uncertain where people disagree, over the images with any vote for the seven classes.

    - `uncertainty`: Spearman's rank correlation between `uncertainty` [N] and the entropy of an image's votes;
    - `entropy`: the same for the entropy of the probabilities, which every model has.

    0 where a correlation is not defined.
    """
    shares, voted = distribution(votes)
    disagreement = entropy(shares[voted])
    return {
        "uncertainty": _rank_correlation(uncertainty[voted], disagreement),
        "entropy": _rank_correlation(entropy(probabilities[voted]), disagreement),
    }


def vote_entropy(votes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the entropy of each image's votes for the seven classes in nats, [N]; NaN without such a vote."""
    shares, voted = distribution(votes)
    return np.where(voted, entropy(shares), np.nan)


def entropy(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return -sum_k p_k log p_k of each row, in nats: [N, K] -> [N]."""
    return np.asarray(entr(probabilities).sum(axis=1))


def _rank_correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return 0.0
    return float(spearmanr(first, second).statistic)


def reliability_bins(
    labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.float64], bins: int = CALIBRATION_BINS
) -> Reliability:
    """Return count, accuracy and mean confidence of the images in each of `bins` equal bins ((m-1)/M, m/M].

    Confidence is the largest probability; accuracy is that of the class that has it.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    index = np.digitize(confidence, inner_edges, right=True)
    count = np.bincount(index, minlength=bins)
    filled = np.maximum(count, 1)
    return Reliability(
        count,
        np.bincount(index, weights=correct, minlength=bins) / filled,
        np.bincount(index, weights=confidence, minlength=bins) / filled,
    )


def expected_calibration_error(
    labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.float64], bins: int = CALIBRATION_BINS
) -> float:
    """Return ECE = sum over bins of n_m / N * |accuracy_m - confidence_m| (Guo et al., ICML 2017): 0 to 1."""
    count, accuracy, confidence = reliability_bins(labels, probabilities, bins)
    return float((count * np.abs(accuracy - confidence)).sum() / count.sum())


def apply_temperature(probabilities: npt.NDArray[np.float64], temperature: float) -> npt.NDArray[np.float64]:
    """Return p^(1/T), normalised to sum to one: softmax(z / T) where p = softmax(z). T > 1 lowers confidence."""
    return np.asarray(softmax(_log(probabilities) / temperature, axis=1))


def fit_temperature(labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.float64]) -> float:
    """Return the temperature in [0.01, 20] that minimises the NLL of `apply_temperature`. Fit it on PublicTest only.

    One parameter, which changes no arg-max (Guo et al., ICML 2017). The NLL is convex in 1/T, so the search over log T
    finds the one minimum; if it lies outside the range, the nearer end is returned.
    """
    scores, rows = _log(probabilities), np.arange(len(labels))

    def nll(log_temperature: float) -> float:
        return float(-log_softmax(scores / np.exp(log_temperature), axis=1)[rows, labels].mean())

    low, high = np.log(TEMPERATURE_RANGE)
    return float(np.exp(minimize_scalar(nll, bounds=(low, high), method="bounded").x))


def _log(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the logarithm, with zero replaced by the smallest step of a float64 as in scikit-learn's log_loss."""
    return np.log(np.maximum(probabilities, np.finfo(np.float64).eps))
