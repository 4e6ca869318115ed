"""Augmentation of whole batches of tensors: every image gets its own parameters, no Python loop.

Images are float [B, 1, H, W] in grey levels 0 to 255. All randomness comes from the generator passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = 127.5


@dataclass(frozen=True)
class Augment:
    """How far an image may be moved: each value is the end of a symmetric range.

    rotation: degrees; zoom: natural logarithm of the scale; shift: share of the image's width;
    brightness: grey levels; contrast: natural logarithm of the factor; cutout: side of the blanked
    square as a share of the image's width (0: none). Flips are not drawn here: see `flips`.
    """

    rotation: float
    zoom: float
    shift: float
    brightness: float
    contrast: float
    cutout: float


def flips(count: int, epoch: int, generator: torch.Generator) -> Tensor:
    """Which images to mirror: bool [count]. Alternating flip (Jordan 2024).

    Each image's first choice is random, and it is mirrored every other epoch from there, so both
    views are seen equally often. `generator` must start from the same state in every epoch.
    """
    return (torch.rand(count, generator=generator) < 0.5) ^ (epoch % 2 == 1)


def augment(images: Tensor, flip: Tensor, size: int, spec: Augment, generator: torch.Generator) -> Tensor:
    """Rotate, zoom, shift and mirror in one bilinear resampling to [B, 1, size, size], then light and cut-out."""
    count = len(images)

    def symmetric(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1).to(images.device) * limit

    angle, scale = symmetric(math.radians(spec.rotation)), symmetric(spec.zoom).exp()
    # affine_grid's unit is half an image: a shift of the whole width would be 2.
    shift_x, shift_y = symmetric(2 * spec.shift), symmetric(2 * spec.shift)
    mirror = 1 - 2 * flip.to(images)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = [
        torch.stack([cosine * mirror, -sine, shift_x], 1),
        torch.stack([sine * mirror, cosine, shift_y], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 1, size, size], align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    brightness = symmetric(spec.brightness)[:, None, None, None]
    contrast = symmetric(spec.contrast).exp()[:, None, None, None]
    lit = (moved - GREY) * contrast + GREY + brightness
    return cutout(lit, round(spec.cutout * size), generator) if spec.cutout else lit


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Blank one square of `side` pixels per image with grey (DeVries & Taylor 2017); it may overlap the border."""
    count, _, height, width = images.shape
    half = side // 2
    top = torch.randint(-half, height - half, (count, 1), generator=generator).to(images.device)
    left = torch.randint(-half, width - half, (count, 1), generator=generator).to(images.device)
    rows = torch.arange(height, device=images.device) - top
    columns = torch.arange(width, device=images.device) - left
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    return images.masked_fill((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], GREY)
