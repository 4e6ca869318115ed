"""What the evaluation measures: which images count where, and which of them may decide anything."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.fer import LABELS, SPLITS, VOTE_COLUMNS, VOTES_OF_LABELS, FerData
from pipeline.evaluation.decoders import ArgMax, CostSensitive
from pipeline.evaluation.measure import decide, measure, measure_pairs, reference_distances
from pipeline.evaluation.models import Network
from pipeline.evaluation.predictions import Predictions
from pipeline.training.losses import make_loss
from pipeline.training.model import FerNet

N = 40
DISGUST = LABELS.index("disgust")
DISTANCE = {"affective": 1 - np.eye(7)}


@pytest.fixture
def data() -> FerData:
    """Ten images of Training, then fifteen of each test split."""
    random = np.random.default_rng(0)
    splits = np.repeat([SPLITS.index(split) for split in ("train", "val", "test")], [10, 15, 15])
    images = random.integers(0, 256, (N, 48, 48), np.uint8)
    return FerData(images, (np.arange(N) % 7).astype(np.uint8), splits.astype(np.uint8))


@pytest.fixture
def found(data: FerData) -> Predictions:
    """Decisions on them; image 30, of PrivateTest, is a near duplicate of one in Training."""
    torch.manual_seed(0)
    loss = make_loss("cross_entropy", {"label_smoothing": 0.0}, np.eye(7), "cpu")
    # Unlike an untrained FerNet, of many opinions.
    network = cast(FerNet, nn.Sequential(nn.Flatten(), nn.LayerNorm(48 * 48), nn.Linear(48 * 48, 7)))
    gram = np.full((7, 7), 0.9)
    gram[DISGUST] = gram[:, DISGUST] = 0.0
    np.fill_diagonal(gram, 1.0)
    model = Network(network, loss, data)
    return decide(model, data, np.arange(N) == 30, {"argmax": ArgMax(), "crm.word2vec": CostSensitive(gram)})


def test_decisions_are_of_both_test_splits_under_every_decoder(found: Predictions) -> None:
    assert found.index.tolist() == list(range(10, N))
    assert (found.actual == found.index % 7).all()
    assert (found.predicted["argmax"] == found.probabilities.argmax(axis=1)).all()
    assert (found.predicted["argmax"] == DISGUST).any()
    assert not (found.predicted["crm.word2vec"] == DISGUST).any()  # as far as it is from all others
    assert not np.array_equal(found.predicted["argmax"], found.predicted_flip["argmax"])


@pytest.mark.parametrize("name", ["cross_entropy", "self_cure"])
def test_uncertainty_is_the_networks_own_or_else_the_entropy(data: FerData, name: str) -> None:
    torch.manual_seed(0)
    loss = make_loss(name, {}, np.eye(7), "cpu")
    linear = nn.Linear(48 * 48, loss.output_dim)
    network = cast(FerNet, nn.Sequential(nn.Flatten(), nn.LayerNorm(48 * 48), linear))
    found = decide(Network(network, loss, data), data, np.zeros(N, bool), {"argmax": ArgMax()})
    expected = -(found.probabilities * np.log(found.probabilities)).sum(axis=1)
    if name == "self_cure":
        outputs = network(torch.from_numpy(data.images[found.index]).float()[:, None])
        expected = 1 / (1 + np.exp(outputs[:, -1].detach().numpy()))
    np.testing.assert_allclose(found.uncertainty, expected, rtol=1e-4)


def test_accuracies_are_those_of_the_images_they_name(found: Predictions, data: FerData) -> None:
    measured = measure(found, data, DISTANCE)
    right = found.predicted["argmax"] == found.actual
    assert measured["val"]["accuracy"] == pytest.approx(right[:15].mean())
    assert measured["test"]["accuracy"] == pytest.approx(right[15:].mean())
    clean = right[15:][found.index[15:] != 30]
    assert measured["test_clean"]["images"] == len(clean) == 14
    assert measured["test_clean"]["accuracy"] == pytest.approx(clean.mean())
    assert np.sum(measured["confusion"]) == 15
    assert measured["distances"] == {"affective": DISTANCE["affective"].tolist()}
    by_costs = found.predicted["crm.word2vec"] == found.actual
    assert measured["decoders"]["crm.word2vec"]["test"]["accuracy"] == pytest.approx(by_costs[15:].mean())


def test_private_test_has_no_say_in_the_temperature(found: Predictions, data: FerData) -> None:
    def temperature(rows: slice) -> float:
        sharper = found.probabilities.copy()
        sharper[rows] = sharper[rows] ** 3 / (sharper[rows] ** 3).sum(axis=1, keepdims=True)
        return float(measure(replace(found, probabilities=sharper), data, DISTANCE)["temperature"])

    before = measure(found, data, DISTANCE)["temperature"]
    assert temperature(slice(15, None)) == before
    assert temperature(slice(0, 15)) != before


def test_only_training_says_which_classes_go_together(found: Predictions, data: FerData) -> None:
    """In Training every class makes a pair with its predecessor, in PrivateTest with its successor."""
    assert "pairs" not in measure(found, data, DISTANCE)["test"]
    assert measure_pairs(found, data) == []
    votes = np.zeros((N, len(VOTE_COLUMNS)), np.uint8)
    first = found.probabilities[:, :].argmax(axis=1)
    for row in range(N):
        k = row % 7 if row < 10 else int(first[row - 10])
        votes[row, VOTES_OF_LABELS[k]] = 5
        votes[row, VOTES_OF_LABELS[(k + (-1 if row < 10 else 1)) % 7]] = 5
    known = replace(data, votes=votes)
    # A pair of neighbours is one of a class and its predecessor, whichever of the two is first.
    assert measure(found, known, DISTANCE)["test"]["pairs"]["images"] == 15
    swapped = votes.copy()
    swapped[:10] = votes[[10] * 10]
    one, other = (measure(found, replace(data, votes=some), DISTANCE)["test"]["pairs"] for some in (votes, swapped))
    assert one["prior"] != other["prior"]
    assert one["halves"] == other["halves"]
    assert sum(row.images for row in measure_pairs(found, known)) == 15


def test_classes_are_those_of_the_data(data: FerData) -> None:
    torch.manual_seed(0)
    names = ("calm", "cross", "happily surprised")
    other = FerData(data.images, data.labels % 3, data.splits, classes=names)
    network = cast(FerNet, nn.Sequential(nn.Flatten(), nn.LayerNorm(48 * 48), nn.Linear(48 * 48, 3)))
    loss = make_loss("cross_entropy", {}, np.eye(3), "cpu")
    found = decide(Network(network, loss, other), other, np.zeros(N, bool), {"argmax": ArgMax()})
    measured = measure(found, other, reference_distances(other, ()))
    assert found.classes == tuple(measured["test"]["per_class"]) == names
    assert np.shape(measured["confusion"]) == (3, 3)
    assert measured["test"]["severity"] == {}


def test_the_affective_distance_follows_the_order_of_the_seven(data: FerData) -> None:
    plain = reference_distances(data, ())["affective"]
    turned = reference_distances(replace(data, classes=LABELS[::-1]), ())["affective"]
    np.testing.assert_allclose(turned, plain[::-1, ::-1])
