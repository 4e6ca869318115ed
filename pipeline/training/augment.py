"""Augment whole batches of tensors: every image has its own parameters, without a Python loop.

Images are float [B, 1, H, W] in grey levels 0 to 255. Nothing here is random: each image comes with a row of numbers
drawn beforehand, so that a whole epoch is drawn (and sent to a GPU) at once, and processes that share a batch know all
its numbers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training.recipe import Augment

GREY = 127.5
DRAWS = 8
"""Random numbers per image, uniform in [0, 1): rotation, zoom, two shifts, two for light, two for cut-out."""


def flips(count: int, epoch: int, generator: torch.Generator) -> Tensor:
    """Return which images to mirror: bool [count]. Alternating flip (Jordan 2024).

    Each image's first choice is random, and it is mirrored every other epoch from then on, so both views are seen
    equally often. `generator` must start from the same state in every epoch.
    """
    return (torch.rand(count, generator=generator) < 0.5) ^ (epoch % 2 == 1)


def augment(images: Tensor, flip: Tensor, size: int, spec: Augment, draws: Tensor) -> Tensor:
    """Rotate, zoom, shift and mirror in one bilinear resampling to [B, 1, size, size], then apply light and cut-out.

    flip: bool [B]; draws: float [B, DRAWS], uniform in [0, 1).
    """
    count = len(images)
    signed = (draws * 2 - 1).unbind(1)  # each from -1 to 1
    angle, scale = signed[0] * math.radians(spec.rotation), (signed[1] * spec.zoom).exp()
    # affine_grid's unit is half an image: a shift of the whole width would be 2.
    shift_x, shift_y = signed[2] * 2 * spec.shift, signed[3] * 2 * spec.shift
    mirror = 1 - 2 * flip.to(images)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack([cosine * mirror, -sine, shift_x], 1), torch.stack([sine * mirror, cosine, shift_y], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 1, size, size], align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    brightness = (signed[4] * spec.brightness)[:, None, None, None]
    contrast = (signed[5] * spec.contrast).exp()[:, None, None, None]
    lit = (moved - GREY) * contrast + GREY + brightness
    return cutout(lit, round(spec.cutout * size), draws[:, 6:8]) if spec.cutout else lit


def cutout(images: Tensor, side: int, draws: Tensor) -> Tensor:
    """Fill one square of `side` pixels per image with grey (DeVries & Taylor 2017); it may cross the border.

    draws: float [B, 2], uniform in [0, 1): the position of the square, top to bottom and left to right.
    """
    _, _, height, width = images.shape
    half = side // 2
    top = (draws[:, :1] * height).long() - half
    left = (draws[:, 1:] * width).long() - half
    rows = torch.arange(height, device=images.device) - top
    columns = torch.arange(width, device=images.device) - left
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    return images.masked_fill((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], GREY)
