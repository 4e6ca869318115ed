"""Compute class maps: the loss's scores at every position of the last features, of images and of their mirror images.

What consistency training compares (see `training.consistency`), for every model: at each position u the head is applied
to the features F(u) alone. Under cross-entropy this is the class map of the papers plus the bias.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.training.losses import Loss
from pipeline.training.model import HEAD_SCALE, FerNet

Maps = npt.NDArray[np.float64]


class MirroredMaps(NamedTuple):
    """Maps [N, h, w] of one class for each image: of the image, and of its mirror image, mirrored back."""

    own: Maps
    mirrored: Maps

    @property
    def disagreement(self) -> float:
        """The mean squared difference of the two, relative to the variance of the maps; 0 if they never vary."""
        variance = float(np.var([self.own, self.mirrored]))
        return float(np.mean((self.own - self.mirrored) ** 2)) / variance if variance else 0.0


@torch.no_grad()
def mirrored_maps(network: FerNet, loss: Loss, images: Tensor, classes: Tensor) -> MirroredMaps:
    """Return the maps of `classes` [N] for images float [N, 1, H, W], grey levels 0 to 255."""
    own, mirrored = (_maps(network, loss, view, classes) for view in (images, images.flip(3)))
    return MirroredMaps(own, mirrored[..., ::-1])


def _maps(network: FerNet, loss: Loss, images: Tensor, classes: Tensor) -> Maps:
    features = network.features(images)
    count, _, height, width = features.shape
    outputs = network.head(HEAD_SCALE[network.pool] * features.permute(0, 2, 3, 1).flatten(0, 2))
    scores = loss.scores(outputs).view(count, height, width, -1)
    return scores[torch.arange(count), :, :, classes].double().numpy()
