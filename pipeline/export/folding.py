"""Fold batch normalisation into the convolutions before it: the same function with fewer operations."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pipeline.training.model import Block, FerNet


class Signs(nn.Module):
    """Multiply each channel by its sign, 1 or -1: [B, C, H, W] -> [B, C, H, W]."""

    signs: Tensor

    def __init__(self, signs: Tensor) -> None:
        super().__init__()
        self.register_buffer("signs", signs[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.signs


def folded(network: FerNet) -> FerNet:
    """Return a copy of a network without batch normalisation, for prediction: the same outputs up to rounding."""
    network = copy.deepcopy(network).eval()
    convolution, norm = network.stem[1], network.stem[2]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    network.stem[1], network.stem[2] = _fold(convolution, *_scale_and_shift(norm)), nn.Identity()
    for block in network.blocks:
        assert isinstance(block, Block)
        _fold_block(block)
    return network


def _fold_block(block: Block) -> None:
    """Fold both norms of a block. norm2 follows its convolution; between conv1 and norm1 lies max-pooling.

    With a = |scale|, s = sign(scale) and t the shift: scale max(z) + t = s max(a z + s t), as a max moves with a shift
    and with a positive factor alone. So the signs stay after the pooling, if any is negative.
    """
    scale, shift = _scale_and_shift(block.norm1)
    signs = torch.where(scale < 0, -1.0, 1.0)
    block.conv1 = _fold(block.conv1, scale.abs(), signs * shift)
    norm1: nn.Module = Signs(signs) if (signs < 0).any() else nn.Identity()
    block.conv2 = _fold(block.conv2, *_scale_and_shift(block.norm2))
    block.norm1, block.norm2 = norm1, nn.Identity()  # type: ignore[assignment]


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return a and b with norm(x) = a x + b, by channel: g / sqrt(v + e) and beta - a m."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - scale * norm.running_mean.double()


def _fold(convolution: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """Return the convolution without bias followed by x -> scale x + shift, as one convolution."""
    made = nn.Conv2d(convolution.in_channels, convolution.out_channels, 3, padding=1, dtype=convolution.weight.dtype)
    with torch.no_grad():
        made.weight.copy_(convolution.weight.double() * scale[:, None, None, None])
        assert made.bias is not None
        made.bias.copy_(shift)
    return made
