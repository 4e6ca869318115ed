"""Define the network, and the classifier that combines it with its loss's scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pool = Literal["max", "mean"]
HEAD_SCALE: dict[Pool, float] = {"max": 0.25, "mean": 1.0}
"""Maxima over positions are large: unscaled, the head's first steps are too long and training may stall."""


class Block(nn.Module):
    """Two 3x3 convolutions, the first followed by 2x2 max-pooling: [B, I, H, W] -> [B, O, H / 2, W / 2].

    Odd sizes round up. No shortcut: at this depth none is needed, and max-pooling keeps the fine marks
    of an expression (a crease, the corner of a mouth) that an average would blur.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(self.pool(self.conv1(x))))
        return F.gelu(self.norm2(self.conv2(x)))


class FerNet(nn.Module):
    """A small convolutional network for grey faces of any even size.

    Input: float [B, 1, H, W], grey levels 0 to 255, which it standardises with the given mean and standard deviation.
    Output: float32 [B, output_dim]; the loss defines its meaning. Pixel unshuffle turns each 2x2 square of pixels into
    four channels, one convolution makes `widths[0]` of them, then come one block per further width, the maximum over
    all positions (or their mean, as `pool` says), and a linear head.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, widths: Sequence[int], output_dim: int, mean: float, std: float, pool: Pool = "max") -> None:
        super().__init__()
        self.pool: Pool = pool
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.GELU(),
        )
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in pairwise(widths)))
        self.head = nn.Linear(widths[-1], output_dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the last features: [B, 1, H, W] -> [B, C, h, w]."""
        features: Tensor = self.blocks(self.stem((images - self.mean) / self.std))
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Pool features and apply the head: [B, C, h, w] -> [B, output_dim]."""
        # The head runs in fp32 even under autocast: a few outputs are not worth bf16's 8 bits.
        with torch.autocast(device_type=features.device.type, enabled=False):
            values = features.to(self.head.weight.dtype)
            pooled = values.amax(dim=(2, 3)) if self.pool == "max" else values.mean(dim=(2, 3))
            output: Tensor = self.head(HEAD_SCALE[self.pool] * pooled)
        return output

    def class_maps(self, features: Tensor, classes: int) -> Tensor:
        """Return scale * sum_c W_kc F_c at each position, for the first outputs: [B, C, h, w] -> [B, classes, h, w].

        The weights W of the head are detached. Under mean pooling a map's mean and the bias are the logit.
        """
        with torch.autocast(device_type=features.device.type, enabled=False):
            weights = HEAD_SCALE[self.pool] * self.head.weight[:classes].detach()
            return torch.einsum("kc,bchw->bkhw", weights, features.to(weights.dtype))


class Classifier(nn.Module):
    """A network with its loss's scores: images as for `FerNet` -> probabilities [B, K]."""

    def __init__(self, network: FerNet, scores: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.scores = network, scores

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(self.network(images)).softmax(dim=1)
