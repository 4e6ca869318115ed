"""Apply AutoAugment (Cubuk et al., CVPR 2019): policies found on other data sets, for whole sets of grey images.

A policy has 25 sub-policies of two operations each. For every image one sub-policy is drawn, and each of its operations
is applied with its probability. Images are uint8 [N, 1, H, W]; an operation takes all images that need it at once.

The operations are those of Pillow, in which the authors implemented them, on whole grey levels: moves take the nearest
pixel and leave grey where an image ends. All draws are made beforehand on the processor, and look-ups and single
rounded operations give the same bits on a GPU, so the result depends on the images and the generator alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Step = tuple[str, float, int]
"""Name of an operation, probability with which it is applied, level of its magnitude from 0 to 9."""

SubPolicy = tuple[Step, Step]
Policy = tuple[SubPolicy, ...]

Coefficients = tuple[float, float, float]
"""How a coordinate depends on (column, row, 1)."""

IMAGENET: Policy = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
    (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
)
"""Found on a part of ImageNet. The last five repeat earlier ones, as in the paper."""

CIFAR10: Policy = (
    (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 3)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 8), ("Equalize", 0.6, 4)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
    (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
)
"""Found on a part of CIFAR-10."""

SVHN: Policy = (
    (("ShearX", 0.9, 4), ("Invert", 0.2, 3)),
    (("ShearY", 0.9, 8), ("Invert", 0.7, 5)),
    (("Equalize", 0.6, 5), ("Solarize", 0.6, 6)),
    (("Invert", 0.9, 3), ("Equalize", 0.6, 3)),
    (("Equalize", 0.6, 1), ("Rotate", 0.9, 3)),
    (("ShearX", 0.9, 4), ("AutoContrast", 0.8, 3)),
    (("ShearY", 0.9, 8), ("Invert", 0.4, 5)),
    (("ShearY", 0.9, 5), ("Solarize", 0.2, 6)),
    (("Invert", 0.9, 6), ("AutoContrast", 0.8, 1)),
    (("Equalize", 0.6, 3), ("Rotate", 0.9, 3)),
    (("ShearX", 0.9, 4), ("Solarize", 0.3, 3)),
    (("ShearY", 0.8, 8), ("Invert", 0.7, 4)),
    (("Equalize", 0.9, 5), ("TranslateY", 0.6, 6)),
    (("Invert", 0.9, 4), ("Equalize", 0.6, 7)),
    (("Contrast", 0.3, 3), ("Rotate", 0.8, 4)),
    (("Invert", 0.8, 5), ("TranslateY", 0.0, 2)),
    (("ShearY", 0.7, 6), ("Solarize", 0.4, 8)),
    (("Invert", 0.6, 4), ("Rotate", 0.8, 4)),
    (("ShearY", 0.3, 7), ("TranslateX", 0.9, 3)),
    (("ShearX", 0.1, 6), ("Invert", 0.6, 5)),
    (("Solarize", 0.7, 2), ("TranslateY", 0.6, 7)),
    (("ShearY", 0.8, 4), ("Invert", 0.8, 8)),
    (("ShearX", 0.7, 9), ("TranslateY", 0.8, 3)),
    (("ShearY", 0.8, 5), ("AutoContrast", 0.7, 3)),
    (("ShearX", 0.7, 2), ("Invert", 0.1, 5)),
)
"""Found on SVHN (house numbers)."""

POLICIES: dict[str, Policy] = {"imagenet": IMAGENET, "cifar10": CIFAR10, "svhn": SVHN}
"""The policies of the paper's appendix, with the levels also of operations that have no magnitude."""

DRAWS = 5
"""Random numbers per image, uniform in [0, 1): the sub-policy, two for applying its operations, two for their signs."""

STRONGEST_LEVEL = 9
GREY = 128
"""What moves leave where an image ends."""

CHUNK = 1024
"""Images that an operation takes at once. Their look-ups need 8 bytes a pixel, 19 MB at 48 px."""


def apply_policy(images: Tensor, name: str, generator: torch.Generator) -> Tensor:
    """Return the images [N, 1, H, W], uint8, under the policy of that name; the argument is left as it was.

    `generator` is one of the processor's, wherever the images are. It is asked once, for N x DRAWS numbers. Raises
    ValueError if there is no such policy, or if `images` have another type or shape.
    """
    if name not in POLICIES:
        raise ValueError(f"There is no policy {name!r}: choose one of {', '.join(POLICIES)}")
    draws = torch.rand(len(images), DRAWS, generator=generator, dtype=torch.float64)
    return apply_sub_policies(images, POLICIES[name], draws)


def apply_sub_policies(images: Tensor, policy: Policy, draws: Tensor) -> Tensor:
    """Return the images [N, 1, H, W], uint8, each under its own sub-policy; the argument is left as it was.

    draws: float64 [N, DRAWS], uniform in [0, 1). Raises ValueError if `images` have another type or shape.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images must be uint8 [N, 1, H, W], not {images.dtype} {list(images.shape)}")
    draws, result = draws.to(images.device), images.clone()
    sub_policies = (draws[:, 0] * len(policy)).long()
    for number, steps in enumerate(policy):
        for place, (name, probability, level) in enumerate(steps):
            operation = OPERATIONS[name]
            applied = (sub_policies == number) & (draws[:, 1 + place] < probability)
            negative = (draws[:, 3 + place] < 0.5) & operation.signed
            for sign, concerned in ((1, applied & ~negative), (-1, applied & negative)):
                rows, magnitude = concerned.nonzero()[:, 0], sign * operation.magnitude(level)
                for start in range(0, len(rows), CHUNK):
                    part = rows[start : start + CHUNK]
                    result[part] = operation.change(result[part], magnitude)
    return result


@dataclass(frozen=True)
class Operation:
    """What an operation does to images [n, 1, H, W] at a magnitude, and the ends of the range of magnitudes."""

    change: Callable[[Tensor, float], Tensor]
    weakest: float = 0.0
    strongest: float = 0.0
    signed: bool = False
    """Whether the magnitude is negative for half of the images."""

    def magnitude(self, level: int) -> float:
        """Return the magnitude at one of ten levels, equally spaced from the weakest to the strongest."""
        return self.weakest + (self.strongest - self.weakest) * level / STRONGEST_LEVEL


def shear_x(images: Tensor, slope: float) -> Tensor:
    """Shift every row by `slope` times its distance from the top."""
    return _move(images, (1, slope, 0), (0, 1, 0))


def shear_y(images: Tensor, slope: float) -> Tensor:
    """Shift every column by `slope` times its distance from the left."""
    return _move(images, (1, 0, 0), (slope, 1, 0))


def translate_x(images: Tensor, share: float) -> Tensor:
    """Shift to the left by a share of the width, rounded to whole pixels."""
    return _move(images, (1, 0, share * images.shape[3]), (0, 1, 0))


def translate_y(images: Tensor, share: float) -> Tensor:
    """Shift upwards by a share of the height, rounded to whole pixels."""
    return _move(images, (1, 0, 0), (0, 1, share * images.shape[2]))


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Rotate counter-clockwise about the centre."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = images.shape[3] / 2, images.shape[2] / 2
    return _move(images, (cosine, -sine, x - cosine * x + sine * y), (sine, cosine, y - sine * x - cosine * y))


def posterize(images: Tensor, bits: float) -> Tensor:
    """Keep the highest bits of every grey level, as many as `bits` rounded."""
    return images & (0xFF << (8 - round(bits)) & 0xFF)


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Invert the grey levels from `threshold` on."""
    levels = torch.arange(256, device=images.device)
    return _look_up(torch.where(levels < threshold, levels, 255 - levels), images)


def invert(images: Tensor, _: float) -> Tensor:
    """Turn grey level v into 255 - v."""
    return ~images


def autocontrast(images: Tensor, _: float) -> Tensor:
    """Stretch the grey levels of every image linearly to 0 to 255, rounded down; an image of one level stays."""
    low, high = (ends.double()[:, None] for ends in images.flatten(1).aminmax(dim=1))
    # Divided, multiplied and subtracted in this order, in float64, numbers round as Pillow's do (255 / tensor would
    # multiply by the reciprocal).
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)
    levels = torch.arange(256, device=images.device)
    stretched = (levels * scale - low * scale).clamp(0, 255)
    return _look_up(torch.where(high > low, stretched, levels), images)


def equalize(images: Tensor, _: float) -> Tensor:
    """Map the grey levels of every image so that they become about equally frequent.

    With c_v pixels darker than v, v becomes (c_v + s // 2) // s, at most 255, where s is a 255th of the pixels darker
    than the brightest. An image with fewer than 255 of those stays.
    """
    count, pixels = len(images), images.flatten(1).long()
    bins = pixels + 256 * torch.arange(count, device=images.device)[:, None]
    histogram = torch.bincount(bins.flatten(), minlength=256 * count).view(count, 256)
    brightest = histogram.gather(1, pixels.amax(1, keepdim=True))
    step = (pixels.shape[1] - brightest) // 255
    darker = histogram.cumsum(1) - histogram
    mapped = ((darker + step // 2) // step.clamp(min=1)).clamp(max=255)
    levels = torch.arange(256, device=images.device)
    return _look_up(torch.where(step > 0, mapped, levels), images)


def color(images: Tensor, _: float) -> Tensor:
    """Return the images: grey ones have no saturation that could change."""
    return images


def brightness(images: Tensor, factor: float) -> Tensor:
    """Multiply the grey levels by `factor`."""
    return _blend(torch.zeros((), device=images.device), images, factor)


def contrast(images: Tensor, factor: float) -> Tensor:
    """Multiply the differences from the image's mean, rounded to a whole grey level, by `factor`."""
    pixels = images.flatten(1)
    mean = (2 * pixels.sum(1) + pixels.shape[1]) // (2 * pixels.shape[1])
    return _blend(mean.float()[:, None, None, None], images, factor)


def sharpness(images: Tensor, factor: float) -> Tensor:
    """Multiply the differences from a smoothed image by `factor`: below 1 blurs, above 1 sharpens.

    Smoothing weights a pixel by 5/13 and its eight neighbours by 1/13 each; the border, which lacks some, stays.
    """
    pixels = images.float()
    smooth, inner = pixels.clone(), pixels[..., 1:-1, 1:-1]
    columns = pixels[..., :-2, :] + pixels[..., 1:-1, :] + pixels[..., 2:, :]
    nine = columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:]
    # Thirteenths are never near a half, so rounding does not depend on how the device divides.
    smooth[..., 1:-1, 1:-1] = ((nine + 4 * inner) / 13 + 0.5).floor()
    return _blend(smooth, images, factor)


OPERATIONS: dict[str, Operation] = {
    "ShearX": Operation(shear_x, 0, 0.3, signed=True),
    "ShearY": Operation(shear_y, 0, 0.3, signed=True),
    "TranslateX": Operation(translate_x, 0, 150 / 331, signed=True),
    "TranslateY": Operation(translate_y, 0, 150 / 331, signed=True),
    "Rotate": Operation(rotate, 0, 30, signed=True),
    "AutoContrast": Operation(autocontrast),
    "Invert": Operation(invert),
    "Equalize": Operation(equalize),
    "Solarize": Operation(solarize, 256, 0),
    "Posterize": Operation(posterize, 8, 4),
    "Contrast": Operation(contrast, 0.1, 1.9),
    "Color": Operation(color, 0.1, 1.9),
    "Brightness": Operation(brightness, 0.1, 1.9),
    "Sharpness": Operation(sharpness, 0.1, 1.9),
}
"""Every operation of the policies by the paper's name, with the paper's ranges; 331 is the side of its images."""


def _move(images: Tensor, x: Coefficients, y: Coefficients) -> Tensor:
    """Fill each pixel from the one that holds the point (x . p, y . p), where p = (column, row, 1) of its centre.

    In whole numbers of 1/65536 pixel, as Pillow: on every device the same pixel wins where a point is between two.
    """
    height, width = images.shape[2:]
    columns = torch.arange(width, device=images.device)
    rows = torch.arange(height, device=images.device)[:, None]
    source_column, source_row = (
        (_fixed(a) * columns + _fixed(b) * rows + _fixed(a / 2 + b / 2 + c)) >> 16 for a, b, c in (x, y)
    )
    inside = (source_column >= 0) & (source_column < width) & (source_row >= 0) & (source_row < height)
    outside = height * width  # the place of the grey pixel that is appended
    source = torch.where(inside, source_row * width + source_column, outside).flatten()
    pixels = F.pad(images.flatten(1), (0, 1), value=GREY)
    return pixels.gather(1, source.expand(len(images), -1)).view_as(images)


def _fixed(value: float) -> int:
    """Return the number of 65536ths, rounded."""
    return math.floor(value * 65536 + 0.5)


def _look_up(tables: Tensor, images: Tensor) -> Tensor:
    """Replace grey levels by their entries in the image's table [n, 256], or in one table [256] for all images."""
    tables = tables.to(torch.uint8).expand(len(images), -1)
    return tables.gather(1, images.flatten(1).long()).view_as(images)


def _blend(origin: Tensor, images: Tensor, factor: float) -> Tensor:
    """Return origin + factor (images - origin), cut off to 0 to 255 and rounded down, as Pillow does in float32."""
    return ((images.float() - origin) * factor + origin).clamp(0, 255).to(torch.uint8)
