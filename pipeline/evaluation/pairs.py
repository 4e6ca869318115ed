"""Compound expressions: does a model's second class name what the second largest group of annotators saw?

An image has a second reading if two of the seven classes have `SECOND` FER+ votes or more each and both lie strictly
ahead of every third: its pair. Ten votes of one label each do not say that a face shows a blend: two groups may each
see one expression. So this measures agreement with the two readings and nothing more (docs/methods.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr
from sklearn.metrics import roc_auc_score

from pipeline.data.fer import LABELS, VOTES_OF_LABELS
from pipeline.data.votes import distribution
from pipeline.files import JsonDict

SECOND = 3
"""Votes of ten from which a reading counts."""
ENOUGH = 20
"""Images of a pair from which it counts in the mean over pairs."""
NEUTRAL = LABELS.index("neutral")
SMALLEST = 1e-7

Pairs = npt.NDArray[np.int64]


def pairs_of(votes: npt.NDArray[np.uint8]) -> tuple[Pairs, npt.NDArray[np.bool_]]:
    """Return the two classes with the most votes [N, 2], in the order of `LABELS`, and which images have a pair [N]."""
    counts = votes[:, list(VOTES_OF_LABELS)].astype(np.int64)
    order = np.argsort(-counts, axis=1, kind="stable")
    second, third = np.take_along_axis(counts, order[:, 1:3], axis=1).T
    return np.sort(order[:, :2], axis=1), (second >= SECOND) & (second > third)


def pair_metrics(probabilities: npt.NDArray[np.float64], votes: npt.NDArray[np.uint8]) -> JsonDict:
    """Compare probabilities [N, 7] with FER+ votes [N, 10].

    - `exact`, `jaccard`: over the `images` with a second reading, how often the two most probable classes are the
      pair, and |both| / |either| of the two sets; the same under `emotions` over pairs without *neutral*.
    - `macro`: `exact` of each pair with `ENOUGH` images, averaged over those `pairs`.
    - `auc`: how well the second largest probability tells images with a second reading from those without.
    - `ldl`: the six measures of label distribution learning (Geng 2016) between the shares of the votes d and p, means
      over the images with a vote for the seven: Chebyshev max |d - p|, Clark sqrt(sum ((d - p) / (d + p))^2), Canberra
      sum |d - p| / (d + p), KL sum d log(d / p) in nats, cosine, and intersection sum min(d, p).

    Values are 0 where no image qualifies.
    """
    pairs, has_pair = pairs_of(votes)
    shares, voted = distribution(votes)
    named = np.sort(np.argsort(-probabilities, axis=1, kind="stable")[:, :2], axis=1)
    common = (named[:, :, None] == pairs[:, None, :]).any(axis=2).sum(axis=1)
    emotions = has_pair & (pairs != NEUTRAL).all(axis=1)
    exact = common == 2
    counted = [
        group for group in np.unique(pairs[has_pair], axis=0) if _same(pairs, group)[has_pair].sum() >= ENOUGH
    ]
    return {
        **_agreement(common, has_pair),
        "emotions": _agreement(common, emotions),
        "macro": _mean(np.array([exact[has_pair & _same(pairs, group)].mean() for group in counted])),
        "pairs": len(counted),
        "auc": _auc(np.sort(probabilities, axis=1)[voted, -2], has_pair[voted]),
        "ldl": _distribution_measures(shares[voted], probabilities[voted]),
    }


def _same(pairs: Pairs, pair: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return np.asarray((pairs == pair).all(axis=1))


def _agreement(common: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> JsonDict:
    hits = common[chosen]
    return {"images": int(chosen.sum()), "exact": _mean(hits == 2), "jaccard": _mean(hits / (4 - hits))}


def _auc(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.bool_]) -> float:
    return float(roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else 0.0


def _distribution_measures(d: npt.NDArray[np.float64], p: npt.NDArray[np.float64]) -> JsonDict:
    p = np.maximum(p, SMALLEST)
    p = p / p.sum(axis=1, keepdims=True)
    apart, total = np.abs(d - p), d + p
    lengths = np.linalg.norm(d, axis=1) * np.linalg.norm(p, axis=1)
    return {
        "chebyshev": _mean(apart.max(axis=1, initial=0)),
        "clark": _mean(np.sqrt(((apart / total) ** 2).sum(axis=1))),
        "canberra": _mean((apart / total).sum(axis=1)),
        "kl": _mean(rel_entr(d, p).sum(axis=1)),
        "cosine": _mean((d * p).sum(axis=1) / lengths),
        "intersection": _mean(np.minimum(d, p).sum(axis=1)),
    }


def _mean(values: npt.NDArray[np.generic]) -> float:
    return float(values.mean()) if len(values) else 0.0
