"""Measure one trained model on PublicTest and PrivateTest: its decisions and every metric of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from pipeline.data.fer import SPLITS, FerData, are_fer2013s
from pipeline.data.votes import majority
from pipeline.evaluation.decoders import Decoder
from pipeline.evaluation.metrics import entropy, fit_temperature, split_metrics
from pipeline.evaluation.models import Model
from pipeline.evaluation.pairs import PairRow, pair_metrics, pair_table, usual_partners
from pipeline.evaluation.predictions import Predictions
from pipeline.files import JsonDict
from pipeline.labels.distances import affective_distance, cosine_distance, human_distance
from pipeline.labels.vectors import LabelVectors
from pipeline.workspace import label_vectors

Floats = npt.NDArray[np.float64]


def decide(
    model: Model, data: FerData, near_duplicate: npt.NDArray[np.bool_], decoders: Mapping[str, Decoder]
) -> Predictions:
    """Return the model's decisions on PublicTest and PrivateTest under each decoder, the model's own first.

    near_duplicate: for each image of the data set, whether it has an exact or near duplicate in Training.
    """
    rows = np.concatenate([data.rows("val"), data.rows("test")])
    answer = model.outputs(rows)
    averaged = answer.averaged(model.outputs(rows, flip=True))
    return Predictions(
        index=rows,
        split=data.splits[rows],
        actual=data.labels[rows].astype(np.int64),
        near_duplicate=near_duplicate[rows],
        majority=np.full(len(rows), -1) if data.votes is None else majority(data.votes[rows]),
        probabilities=answer.probabilities,
        uncertainty=entropy(answer.probabilities) if answer.uncertainty is None else answer.uncertainty,
        predicted={name: decode(answer) for name, decode in decoders.items()},
        predicted_flip={name: decode(averaged) for name, decode in decoders.items()},
        classes=data.classes,
    )


def measure(found: Predictions, data: FerData, distances: Mapping[str, Floats]) -> JsonDict:
    """Compute every metric of each decoder on PublicTest, PrivateTest and PrivateTest without near duplicates."""
    val, test = (found.split == SPLITS.index(name) for name in ("val", "test"))
    temperature = fit_temperature(found.actual[val], found.probabilities[val])
    splits = {"val": val, "test": test, "test_clean": test & ~found.near_duplicate}
    pairs = {name: _second_readings(found, data, chosen) for name, chosen in splits.items()}
    metrics = {
        decoder: {
            name: split_metrics(
                found.actual[chosen], found.predicted[decoder][chosen], found.predicted_flip[decoder][chosen],
                found.probabilities[chosen], temperature,
                distances, None if data.votes is None else data.votes[found.index][chosen],
                found.uncertainty[chosen], data.classes,
            ) | pairs[name]
            for name, chosen in splits.items()
        }
        for decoder in found.predicted
    }  # fmt: skip
    own, *others = metrics
    numbers = range(len(data.classes))
    confusion = confusion_matrix(found.actual[test], found.predicted[own][test], labels=numbers)
    return {
        "decoder": own,
        "temperature": temperature,
        "confusion": confusion.tolist(),
        "distances": {name: distance.round(6).tolist() for name, distance in distances.items()},
        **metrics[own],
        "decoders": {name: metrics[name] for name in others},
    }


def _second_readings(found: Predictions, data: FerData, chosen: npt.NDArray[np.bool_]) -> JsonDict:
    """Return the entry `pairs` of a split; none without votes. A decoder does not change it."""
    if data.votes is None:
        return {}
    partners = usual_partners(data.votes[data.rows("train")])
    return {"pairs": pair_metrics(found.probabilities[chosen], data.votes[found.index[chosen]], partners)}


def measure_pairs(found: Predictions, data: FerData) -> list[PairRow]:
    """Return how the second reading of each pair of classes is found on PrivateTest; nothing without votes."""
    if data.votes is None:
        return []
    test = found.split == SPLITS.index("test")
    partners = usual_partners(data.votes[data.rows("train")])
    return pair_table(found.probabilities[test], data.votes[found.index[test]], partners)


def reference_distances(data: FerData, words: Iterable[str]) -> dict[str, Floats]:
    """Return the distances by which mistakes are weighed, by name.

    Those of the sets of words, and for FER-2013's classes two that no model trains on as such: the affective and the
    human one (from Training votes alone).
    """
    distances = {"affective": affective_distance(data.classes)} if are_fer2013s(data.classes) else {}
    for name in words:
        distances[name] = cosine_distance(LabelVectors.load(label_vectors(name)).gram_of(data.classes))
    if data.votes is not None:
        training = data.rows("train")
        human = human_distance(data.labels[training], data.votes[training])
        if human is not None:
            distances["human"] = human
    return distances
