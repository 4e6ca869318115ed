"""Draw boxes on square images and tell which pixels lie in them: for CutMix and random erasing.

A box is a row of int64 [4]: top, bottom, left, right, the second and the fourth exclusive; all zero for none. Boxes are
drawn before an epoch by NumPy and used in batches of tensors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]
Boxes = npt.NDArray[np.int64]

ASPECTS = (0.3, 1 / 0.3)
"""The range of height over width of an erased box (Zhong et al., AAAI 2020)."""


def centred_boxes(heights: Floats, widths: Floats, size: int, random: np.random.Generator) -> Boxes:
    """Return boxes of these sides, in pixels [N], around uniform centres and clipped at the border."""
    top, bottom = _clipped(heights, size, random)
    left, right = _clipped(widths, size, random)
    return np.stack([top, bottom, left, right], axis=1)


def erasing_boxes(
    count: int, size: int, chance: float, areas: tuple[float, float], random: np.random.Generator
) -> Boxes:
    """Return a box for each image with this chance, else none: random erasing (Zhong et al., AAAI 2020).

    Its share of the area is uniform within `areas` and the logarithm of its aspect within that of `ASPECTS`; it lies
    within the image, cut to its side where one ratio would not fit.
    """
    area = random.uniform(*areas, count) * size * size
    aspect = np.exp(random.uniform(np.log(ASPECTS[0]), np.log(ASPECTS[1]), count))
    top, bottom = _within(np.sqrt(area * aspect), size, random)
    left, right = _within(np.sqrt(area / aspect), size, random)
    boxes = np.stack([top, bottom, left, right], axis=1)
    return np.where(random.random((count, 1)) < chance, boxes, 0)


def inside(boxes: Tensor, size: int) -> Tensor:
    """Return which pixels lie in the box of each image: [B, 4] -> bool [B, 1, size, size]."""
    place = torch.arange(size, device=boxes.device)
    top, bottom, left, right = boxes[:, :, None].unbind(1)
    rows, columns = (place >= top) & (place < bottom), (place >= left) & (place < right)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _clipped(lengths: Floats, size: int, random: np.random.Generator) -> tuple[Boxes, Boxes]:
    whole = np.rint(lengths).astype(np.int64)
    first = random.integers(0, size, len(lengths)) - whole // 2
    return first.clip(0, size), (first + whole).clip(0, size)


def _within(lengths: Floats, size: int, random: np.random.Generator) -> tuple[Boxes, Boxes]:
    whole = np.rint(lengths).astype(np.int64).clip(1, size)
    first = np.floor(random.random(len(lengths)) * (size - whole + 1)).astype(np.int64)
    return first, first + whole
