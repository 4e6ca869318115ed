"""Class maps of an image and of its mirror image, against the network at each position."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.evaluation.class_maps import MirroredMaps, mirrored_maps
from pipeline.training.losses import LOSSES, make_loss
from pipeline.training.model import FerNet


@pytest.mark.parametrize("name", LOSSES)
def test_maps_are_the_scores_of_the_head_at_each_position(name: str) -> None:
    torch.manual_seed(0)
    loss = make_loss(name, {}, np.eye(7, 9))
    network = FerNet((4, 8, 16), loss.output_dim, mean=115.0, std=30.0).eval()
    images, classes = 255 * torch.rand(3, 1, 24, 24), torch.tensor([6, 0, 2])
    maps = mirrored_maps(network, loss, images, classes)
    assert maps.own.shape == maps.mirrored.shape == (3, 3, 3)
    with torch.no_grad():
        for seen, flipped in ((maps.own, False), (maps.mirrored, True)):
            features = network.features(images.flip(3) if flipped else images)
            for n, row, column in ((0, 0, 0), (1, 2, 1), (2, 1, 2)):
                there = features[n : n + 1, :, row : row + 1, column : column + 1]
                score = loss.scores(network.classify(there))[0, classes[n]]
                place = (n, row, 2 - column if flipped else column)
                assert seen[place] == pytest.approx(float(score), abs=1e-5)


def test_disagreement_is_relative_to_the_variance_of_the_maps() -> None:
    own = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    assert MirroredMaps(own, own).disagreement == 0
    other = np.array([[[2.0, 1.0], [3.0, 4.0]]])
    assert MirroredMaps(own, other).disagreement == pytest.approx(0.5 / 1.25)
    assert MirroredMaps(0 * own, 0 * own).disagreement == 0
