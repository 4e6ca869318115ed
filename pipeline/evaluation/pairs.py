"""Compound expressions: does a model's second class name what the second largest group of annotators saw?

An image has a second reading if two of the seven classes have `SECOND` FER+ votes or more each and both lie strictly
ahead of every third: its pair. Ten votes of one label each do not say that a face shows a blend: two groups may each
see one expression. So this measures agreement with the two readings and nothing more (docs/methods.md).

Two reference lines belong to every such number: how well one half of the annotators predicts the pair of the other
(`halves`), and how far one gets by knowing the usual partner of each class (`usual_partners`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr
from sklearn.metrics import roc_auc_score

from pipeline.data.fer import LABELS, VOTES_OF_LABELS
from pipeline.data.votes import ANNOTATORS, distribution
from pipeline.files import JsonDict

SECOND = 3
"""Votes of ten from which a reading counts."""
ENOUGH = 20
"""Images of a pair from which it counts in the mean over pairs."""
NEUTRAL = LABELS.index("neutral")
SMALLEST = 1e-7

COMPOUNDS = {
    frozenset({"happy", "surprise"}): "happily surprised",
    frozenset({"happy", "disgust"}): "happily disgusted",
    frozenset({"sad", "fear"}): "sadly fearful",
    frozenset({"sad", "angry"}): "sadly angry",
    frozenset({"sad", "surprise"}): "sadly surprised",
    frozenset({"sad", "disgust"}): "sadly disgusted",
    frozenset({"fear", "angry"}): "fearfully angry",
    frozenset({"fear", "surprise"}): "fearfully surprised, awed",
    frozenset({"fear", "disgust"}): "fearfully disgusted",
    frozenset({"angry", "surprise"}): "angrily surprised",
    frozenset({"angry", "disgust"}): "angrily disgusted, appalled, hatred",
    frozenset({"disgust", "surprise"}): "disgustedly surprised",
}
"""The 15 compound expressions of Du, Tao & Martinez (PNAS 2014) by the two basic emotions of each. Three of the 15
pairs have no name: happy with angry, fear and sad. A name says which pair it is and not that a face shows the blend."""

Pairs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


class PairRow(NamedTuple):
    """One pair of classes, its name as a compound expression (may be empty), and the metrics of its images."""

    first: str
    second: str
    compound: str
    images: int
    exact: float
    jaccard: float
    halves_exact: float
    halves_jaccard: float
    prior_exact: float
    prior_jaccard: float


def pairs_of(votes: npt.NDArray[np.uint8]) -> tuple[Pairs, npt.NDArray[np.bool_]]:
    """Return the two classes with the most votes [N, 2], in the order of `LABELS`, and which images have a pair [N]."""
    counts = votes[:, list(VOTES_OF_LABELS)].astype(np.int64)
    order = np.argsort(-counts, axis=1, kind="stable")
    second, third = np.take_along_axis(counts, order[:, 1:3], axis=1).T
    return np.sort(order[:, :2], axis=1), (second >= SECOND) & (second > third)


def halves(votes: npt.NDArray[np.uint8]) -> Floats:
    """Return how well two halves of an image's annotators agree on its pair: `exact` and `jaccard`, [N, 2].

    The mean over all ways to divide the ten votes five to five (nine: four to five). The pair of a half is its two
    classes with the most votes; where votes are tied, each way to break the tie counts equally, and a half of one mind
    is tied in all other classes. NaN for more than ten votes, which FER+ has for no image.
    """
    # Classes are alike in this, so that images have one of few sorted counts.
    counts = np.sort(votes[:, list(VOTES_OF_LABELS)].astype(np.int64), axis=1)
    others = votes.sum(axis=1, dtype=np.int64) - counts.sum(axis=1)
    found = np.full((len(votes), 2), np.nan)
    for n in np.flatnonzero(counts.sum(axis=1) + others <= ANNOTATORS):
        found[n] = _halves(tuple(counts[n].tolist()), int(others[n]))
    return found


@cache
def _halves(counts: Sequence[int], others: int) -> tuple[float, float]:
    """Return `halves` of one image: votes for the classes, and votes for anything else."""
    classes = len(counts)
    votes = np.eye(classes + 1)[np.repeat(np.arange(classes + 1), [*counts, others])]
    first = np.array([votes[list(half)].sum(axis=0) for half in combinations(range(len(votes)), len(votes) // 2)])
    pairs = np.array(list(combinations(range(classes), 2)))
    common = (pairs[:, None, :, None] == pairs[None, :, None, :]).sum(axis=(2, 3))

    def read(half: Floats) -> Floats:
        """Return the probability of each pair: the two classes with the most votes have the largest sum of two."""
        sums = half[:, pairs].sum(axis=2)
        best = sums == sums.max(axis=1, keepdims=True)
        return np.asarray(best / best.sum(axis=1, keepdims=True))

    one, other = read(first[:, :classes]), read((votes.sum(axis=0) - first)[:, :classes])
    exact, jaccard = (((one @ gain) * other).sum(axis=1).mean() for gain in (common == 2, common / (4 - common)))
    return float(exact), float(jaccard)


def usual_partners(votes: npt.NDArray[np.uint8]) -> Pairs:
    """Return for each class the one that most often makes a pair with it in these images, those of Training: [K].

    Of equals, and for a class without a pair, the one that is in most pairs.
    """
    pairs, has_pair = pairs_of(votes)
    together = np.zeros((len(LABELS), len(LABELS)))
    np.add.at(together, tuple(pairs[has_pair].T), 1)
    together += together.T
    in_pairs = together.sum(axis=0)
    together += in_pairs / (1 + in_pairs.max())
    np.fill_diagonal(together, -1)
    return np.asarray(together.argmax(axis=1), np.int64)


def pair_metrics(probabilities: Floats, votes: npt.NDArray[np.uint8], partners: Pairs) -> JsonDict:
    """Compare probabilities [N, 7] with FER+ votes [N, 10]. partners: `usual_partners` of Training.

    - `exact`, `jaccard`: over the `images` with a second reading, how often the two most probable classes are the
      pair, and |both| / |either| of the two sets; the same under `emotions` over pairs without *neutral*.
    - `halves`, `prior`: the same two numbers for `halves` of the annotators, and for a guess that keeps the most
      probable class and adds its usual partner: what the second probability is worth beyond the first choice.
    - `macro`: `exact` of each pair with `ENOUGH` images, averaged over those `pairs`.
    - `auc`: how well the second largest probability tells images with a second reading from those without.
    - `ldl`: the six measures of label distribution learning (Geng 2016) between the shares of the votes d and p, means
      over the images with a vote for the seven: Chebyshev max |d - p|, Clark sqrt(sum ((d - p) / (d + p))^2), Canberra
      sum |d - p| / (d + p), KL sum d log(d / p) in nats, cosine, and intersection sum min(d, p).

    Values are 0 where no image qualifies.
    """
    pairs, has_pair = pairs_of(votes)
    shares, voted = distribution(votes)
    scores = _scores(probabilities, votes, partners)
    emotions = has_pair & (pairs != NEUTRAL).all(axis=1)
    exact = scores["model"][:, 0]
    counted = [group for group in np.unique(pairs[has_pair], axis=0) if _same(pairs, group)[has_pair].sum() >= ENOUGH]
    return {
        **_agreement(scores, has_pair),
        "emotions": _agreement(scores, emotions),
        "macro": _mean(np.array([exact[has_pair & _same(pairs, group)].mean() for group in counted])),
        "pairs": len(counted),
        "auc": _auc(np.sort(probabilities, axis=1)[voted, -2], has_pair[voted]),
        "ldl": _distribution_measures(shares[voted], probabilities[voted]),
    }


def pair_table(probabilities: Floats, votes: npt.NDArray[np.uint8], partners: Pairs) -> list[PairRow]:
    """Return what `pair_metrics` has of all pairs together for each pair that images have, the most frequent first."""
    pairs, has_pair = pairs_of(votes)
    scores = _scores(probabilities, votes, partners)
    found = []
    for group in np.unique(pairs[has_pair], axis=0):
        chosen = has_pair & _same(pairs, group)
        first, second = (LABELS[k] for k in group)
        name = COMPOUNDS.get(frozenset({first, second}), "")
        means = [mean for values in scores.values() for mean in _means(values[chosen])]
        found.append(PairRow(first, second, name, int(chosen.sum()), *means))
    return sorted(found, key=lambda row: -row.images)


def _same(pairs: Pairs, pair: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return np.asarray((pairs == pair).all(axis=1))


def _scores(probabilities: Floats, votes: npt.NDArray[np.uint8], partners: Pairs) -> dict[str, Floats]:
    """Return exact and Jaccard agreement with the pair of each image, [N, 2], of the model and of both references.

    Only rows of images that have a pair mean anything.
    """
    pairs, has_pair = pairs_of(votes)
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    guess = np.stack([ranked[:, 0], partners[ranked[:, 0]]], axis=1)
    between = np.zeros((len(votes), 2))
    between[has_pair] = halves(votes[has_pair])
    return {"model": _compared(ranked[:, :2], pairs), "halves": between, "prior": _compared(guess, pairs)}


def _compared(named: Pairs, pairs: Pairs) -> Floats:
    """Return whether two pairs are the same set, and their Jaccard index: [N, 2], [N, 2] -> [N, 2]."""
    common = (named[:, :, None] == pairs[:, None, :]).any(axis=2).sum(axis=1)
    return np.stack([common == 2, common / (4 - common)], axis=1)


def _agreement(scores: dict[str, Floats], chosen: npt.NDArray[np.bool_]) -> JsonDict:
    means = {name: _means(values[chosen])._asdict() for name, values in scores.items()}
    model = means.pop("model")
    return {"images": int(chosen.sum()), **model, **means}


class _Means(NamedTuple):
    exact: float
    jaccard: float


def _means(scores: Floats) -> _Means:
    """Return the means over the images [M, 2] that have a score: not those of more annotators than `halves` divides."""
    known = scores[~np.isnan(scores[:, 0])]
    return _Means(_mean(known[:, 0]), _mean(known[:, 1]))


def _auc(scores: Floats, labels: npt.NDArray[np.bool_]) -> float:
    return float(roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else 0.0


def _distribution_measures(d: Floats, p: Floats) -> JsonDict:
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
