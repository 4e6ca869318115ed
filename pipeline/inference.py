"""A trained network at work: outputs for many images, a chunk at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.machine import Hardware
from pipeline.model import FerNet

CHUNK = 512
"""Images per forward pass: bounds memory."""


@torch.no_grad()
def predict(network: FerNet, pixels: Tensor, hardware: Hardware, flip: bool = False) -> Tensor:
    """Outputs float32 [N, O] for uint8 images [N, 1, H, W], of their mirror images if `flip`."""
    network.eval()
    outputs = []
    for chunk in pixels.split(CHUNK):
        images = chunk.to(hardware.device).float()
        images = (images.flip(3) if flip else images).contiguous(memory_format=hardware.layout)
        with hardware.autocast():
            outputs.append(network(images))
    return torch.cat(outputs)
