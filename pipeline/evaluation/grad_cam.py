"""Compute class activation maps (Grad-CAM, Selvaraju et al. 2017) with captum: where a network looks."""

from __future__ import annotations

import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor

from pipeline.training.losses import Loss
from pipeline.training.model import Block, FerNet

CHUNK = 128
"""Images per backward pass: limits memory without changing results."""


def heat_maps(network: FerNet, loss: Loss, pixels: Tensor, classes: Tensor) -> Tensor:
    """Return, for each image, how strongly each place supports `classes[n]`: float32 [N, H, W], 0 to 1.

    pixels: uint8 [N, 1, H, W]; classes: int64 [N]. The map is that of the last convolution before the last pooling (6 x
    6 for 48 pixels; after it 3 x 3 would remain), interpolated to the image's size. Each map is scaled to its own
    maximum; an image without support stays 0.
    """
    last = network.blocks[-1]
    assert isinstance(last, Block)
    cam = LayerGradCam(lambda images: loss.scores(network(images)), last.conv1)
    maps = []
    for chunk, target in zip(pixels.split(CHUNK), classes.split(CHUNK), strict=True):
        coarse = cam.attribute(chunk.float(), target, relu_attributions=True)
        maps.append(LayerAttribution.interpolate(coarse, pixels.shape[-2:], "bilinear")[:, 0].detach())
    stacked = torch.cat(maps)
    return stacked / stacked.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
