"""Compare how fast images are augmented: whole batches of tensors against one image at a time with Pillow.

    python -m benchmarks.augmentation [--rounds 5]

Both start from uint8 images in memory and end with one float tensor per batch, with the recipe of
params.yaml. The loop does with Pillow what torchvision's transforms do on Pillow images, in our own
words and in their favour: rotation, zoom, shift and resize are one resampling, and random numbers are
Python's, which cost less than a tensor each. It differs where Pillow does: corners turned in are black
instead of the nearest pixel, brightness is a factor, contrast is about the image's mean.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from benchmarks.machine import header
from benchmarks.timing import Case, alternate, rounds_option, table
from pipeline import cli, config
from pipeline.training.augment import DRAWS, GREY, augment
from pipeline.training.recipe import Augment

SIDE = 48


def image_by_image(
    pixels: npt.NDArray[np.uint8], flip: Iterable[bool], size: int, spec: Augment, draw: random.Random
) -> Tensor:
    """Augment uint8 [B, H, W] to float32 [B, 1, size, size], with parameters from the ranges of `spec`."""
    pairs = zip(pixels, flip, strict=True)
    return torch.stack([one_image(Image.fromarray(image), mirror, size, spec, draw) for image, mirror in pairs])


def one_image(image: Image.Image, mirror: bool, size: int, spec: Augment, draw: random.Random) -> Tensor:
    def symmetric(limit: float) -> float:
        return draw.uniform(-limit, limit)

    angle, scale = symmetric(math.radians(spec.rotation)), math.exp(symmetric(spec.zoom))
    shift_x, shift_y = symmetric(spec.shift) * image.width, symmetric(spec.shift) * image.height
    # The coefficients lead from a pixel of the result to its place in the image, both about their centres.
    step = scale * image.width / size
    cosine, sine = step * math.cos(angle), step * math.sin(angle)
    x = image.width / 2 + shift_x - (cosine - sine) * size / 2
    y = image.height / 2 + shift_y - (sine + cosine) * size / 2
    image = image.transform(
        (size, size), Image.Transform.AFFINE, (cosine, -sine, x, sine, cosine, y), Image.Resampling.BILINEAR
    )
    if mirror:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    image = ImageEnhance.Contrast(image).enhance(math.exp(symmetric(spec.contrast)))
    image = ImageEnhance.Brightness(image).enhance(1 + symmetric(spec.brightness) / GREY)
    side = round(spec.cutout * size)
    top, left = (draw.randrange(-(side // 2), size - side // 2) for _ in range(2))
    image.paste(round(GREY), (left, top, left + side, top + side))
    return torch.from_numpy(np.array(image, dtype=np.float32))[None]


def cases(size: int, batch: int, spec: Augment) -> dict[str, Case]:
    """Return a function for each way, which augments one batch."""
    arrays = np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE), dtype=np.uint8)
    tensors, flip = torch.from_numpy(arrays)[:, None], torch.arange(batch) % 2 == 0
    generator, draw, threads = torch.Generator().manual_seed(0), random.Random(0), torch.get_num_threads()

    def batched(threads: int) -> Tensor:
        torch.set_num_threads(threads)
        return augment(tensors.float(), flip, size, spec, torch.rand(batch, DRAWS, generator=generator))

    return {
        "all threads": lambda: batched(threads),
        "one thread": lambda: batched(1),
        "Pillow": lambda: image_by_image(arrays, flip.tolist(), size, spec, draw),
    }


def main(rounds: int) -> None:
    recipe, threads = config.load().chosen_recipe, torch.get_num_threads()

    rows = []
    for size in recipe.sizes:
        seconds = alternate(cases(size, recipe.batch_size, recipe.augment), rounds)
        torch.set_num_threads(threads)
        rates = {name: recipe.batch_size / spent for name, spent in seconds.items()}
        ratios = [f"{rates[name] / rates['Pillow']:.1f}" for name in ("all threads", "one thread")]
        rows.append([f"{size} px", *(f"{rate:,.0f}" for rate in rates.values()), *ratios])
    print(header("pillow"))
    print(f"Images per second, batches of {recipe.batch_size}, best of {rounds}, torch threads: {threads}\n")
    headings = ["size", "batched", "batched, 1 thread", "Pillow loop", "times Pillow", "times, 1 thread"]
    print(table(headings, rows))


if __name__ == "__main__":
    cli.script(main, rounds_option(5), example="--rounds 3")
