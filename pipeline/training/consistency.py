"""Train on two or more views of each image, and ask their class maps to agree.

The class map of class k is M_k(u) = s sum_c W_kc F_c(u) [B, K, h, w]: the linear head at every position u of the last
features F, without its bias, s the scale of pooled features. W is detached, so that only features learn to agree, as
the published codes of both methods do. At 48 pixels a map is 3 x 3.

A consistency is one entry of `CONSISTENCIES`; `models.<name>.consistency` in params.yaml names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.schema import NotNegative
from pipeline.training.augment import GREY
from pipeline.training.boxes import erasing_boxes, inside
from pipeline.training.model import FerNet

ERASED = (0.02, 0.25)
"""The range of an erased box's share of the image."""
ERASING_CHANCE = 0.5


class Consistency(Protocol):
    """What is asked of several views of an image.

    weight: of the penalty. supervised: how many of the views, the first ones, have a classification loss.
    """

    @property
    def weight(self) -> float: ...

    @property
    def supervised(self) -> int: ...

    def sizes(self, size: int) -> list[int]:
        """Return the side of each view of an image of this side; a step costs as many passes."""
        ...

    def draw(self, count: int, size: int, random: np.random.Generator) -> Tensor | None:
        """Draw, before an epoch, the boxes to erase in each of `count` images: int64 [N, 4 * n], or None."""
        ...

    def outputs(self, network: FerNet, images: Tensor, boxes: Tensor | None, classes: int) -> list[Tensor]:
        """Return the network's outputs [B, O] for each view, then the penalty of each image [B, 1]."""
        ...


@dataclass(frozen=True)
class FlipMaps:
    """Penalty |M(x) - mirror(M(mirror x))|^2, mean over classes and positions.

    Erasing attention consistency (EAC; Zhang et al., ECCV 2022): cross-entropy on the first view only
    (`supervise: first`) and random erasing, the second view being the mirror image of the erased one (`erase: shared`)
    or of the image erased elsewhere (`erase: independent`; the published code takes the first for clean and the second
    for noisy labels). Visual attention consistency (VAC; Guo et al., CVPR 2019) with flips: `supervise: all`, no
    erasing. The published networks average over positions; for that, `pool: mean`. Both views go through the network in
    one batch, where EAC's code normalises each by itself. With weight 0 and `supervise: all` two views are trained on
    and nothing is asked of them: the control.
    """

    weight: NotNegative = 5.0
    erase: Literal["none", "shared", "independent"] = "none"
    supervise: Literal["first", "all"] = "first"

    @property
    def supervised(self) -> int:
        return 1 if self.supervise == "first" else 2

    def sizes(self, size: int) -> list[int]:
        return [size, size]

    def draw(self, count: int, size: int, random: np.random.Generator) -> Tensor | None:
        views = {"none": 0, "shared": 1, "independent": 2}[self.erase]
        if not views:
            return None
        drawn = [erasing_boxes(count, size, ERASING_CHANCE, ERASED, random) for _ in range(views)]
        return torch.from_numpy(np.concatenate(drawn, axis=1))

    def outputs(self, network: FerNet, images: Tensor, boxes: Tensor | None, classes: int) -> list[Tensor]:
        first = second = images
        if boxes is not None:
            first, second = erased(images, boxes[:, :4]), erased(images, boxes[:, -4:])
        outputs, maps = seen(network, [first, second.flip(3)], classes)
        return [*outputs, disagreement(maps[0], maps[1].flip(3))]


@dataclass(frozen=True)
class ScaleMaps:
    """Penalties between mirror images at two sizes, and between the sizes: VAC (Guo et al., CVPR 2019) whole.

    Views: the image, its mirror image, and both at 2/3 of the side; all are supervised. The maps of the two sizes are
    brought to their least common multiple by repeating entries, as in the published code, which takes 224 and 192
    pixels; the three penalties add up, each as in `FlipMaps`. At 48 and 32 pixels the maps are 3 x 3 and 2 x 2: coarse.
    """

    weight: NotNegative = 5.0

    @property
    def supervised(self) -> int:
        return 4

    def sizes(self, size: int) -> list[int]:
        return [size, size, _smaller(size), _smaller(size)]

    def draw(self, count: int, size: int, random: np.random.Generator) -> Tensor | None:
        return None

    def outputs(self, network: FerNet, images: Tensor, boxes: Tensor | None, classes: int) -> list[Tensor]:
        side = _smaller(images.shape[-1])
        small = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
        large_outputs, large = seen(network, [images, images.flip(3)], classes)
        small_outputs, little = seen(network, [small, small.flip(3)], classes)
        common = lcm(large[0].shape[-1], little[0].shape[-1])
        penalty = (
            disagreement(large[0], large[1].flip(3))
            + disagreement(little[0], little[1].flip(3))
            + disagreement(_repeated(large[0], common), _repeated(little[0], common))
        )
        return [*large_outputs, *small_outputs, penalty]


CONSISTENCIES: dict[str, type[Consistency]] = {"flip_maps": FlipMaps, "scale_maps": ScaleMaps}
"""The names that `models.<name>.consistency.kind` in params.yaml may use."""


class Views(nn.Module):
    """A network that is shown the views of a consistency: images [B, 1, S, S] -> [B, V * O + 1].

    The outputs of the V views are concatenated, followed by the penalty of each image, so that what processes exchange
    is one tensor.
    """

    def __init__(self, network: FerNet, consistency: Consistency, classes: int) -> None:
        super().__init__()
        self.network, self.consistency, self.classes = network, consistency, classes

    def forward(self, images: Tensor, boxes: Tensor | None = None) -> Tensor:
        return torch.cat(self.consistency.outputs(self.network, images, boxes, self.classes), dim=1)


def seen(network: FerNet, views: Sequence[Tensor], classes: int) -> tuple[list[Tensor], list[Tensor]]:
    """Show views of one size in one batch; return outputs [B, O] and class maps [B, K, h, w] of each."""
    features = network.features(torch.cat(list(views)))
    outputs, maps = network.classify(features), network.class_maps(features, classes)
    return list(outputs.chunk(len(views))), list(maps.chunk(len(views)))


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean squared difference of the maps of each image: [B, K, h, w] -> [B, 1]."""
    return (first - second).square().mean(dim=(1, 2, 3))[:, None]


def erased(images: Tensor, boxes: Tensor) -> Tensor:
    """Fill the box of each image with grey."""
    return images.masked_fill(inside(boxes, images.shape[-1]), GREY)


def _smaller(size: int) -> int:
    """Return two thirds of a side, as an even number."""
    return 2 * round(size / 3)


def _repeated(maps: Tensor, side: int) -> Tensor:
    factor = side // maps.shape[-1]
    return maps.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
