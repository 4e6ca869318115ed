"""What the evaluation measures: which images count where, and which of them may decide anything."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.fer import LABELS, SPLITS, FerData
from pipeline.evaluation.decoders import ArgMax, CostSensitive
from pipeline.evaluation.measure import decide, measure
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


def test_accuracies_are_those_of_the_images_they_name(found: Predictions, data: FerData) -> None:
    measured = measure(found, data, DISTANCE)
    right = found.predicted["argmax"] == found.actual
    assert measured["val"]["accuracy"] == pytest.approx(right[:15].mean())
    assert measured["test"]["accuracy"] == pytest.approx(right[15:].mean())
    clean = right[15:][found.index[15:] != 30]
    assert measured["test_clean"]["images"] == len(clean) == 14
    assert measured["test_clean"]["accuracy"] == pytest.approx(clean.mean())
    assert np.sum(measured["confusion"]) == 15
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
