"""Measure what more views of every face bring at test time: accuracy of trained models by number of views.

    python -m benchmarks.views [MODEL_FOLDER ...] [--data outputs/prepared]

Published accuracies on FER-2013 are mostly the mean of ten crops of every face. The pipeline reports one view, and
the mean with its mirror image; this prints what ten would make of the same networks: the face in its place and moved
towards the four corners, by one pixel or two, each with its mirror image. Probabilities are averaged, in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.machine import header
from benchmarks.timing import table
from pipeline import cli
from pipeline.cli import FOLDER
from pipeline.data.fer import FerData
from pipeline.training.hardware import EVALUATION
from pipeline.training.images import Images
from pipeline.training.losses import Loss
from pipeline.training.model import FerNet
from pipeline.training.saved_model import load_trained, predict
from pipeline.workspace import PREPARED, RunKey

SHIFTS = (1, 2)
"""Pixels."""


def moved(images: Tensor, shift: int) -> Iterator[Tensor]:
    """Return the images [N, 1, H, W] in their place, then up to the left, up to the right, and the same down.

    The border is repeated where an image leaves it, as in training.
    """
    height, width = images.shape[2:]
    padded = F.pad(images.float(), [shift] * 4, mode="replicate")
    for down, right in ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)):
        top, left = shift * (1 - down), shift * (1 - right)
        yield padded[..., top : top + height, left : left + width]


def accuracies(network: FerNet, loss: Loss, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the share of right decisions by views: one, with its mirror image, ten for every shift."""

    def probabilities(view: Tensor, flip: bool) -> Tensor:
        return loss.scores(predict(network, view, EVALUATION, flip)).double().softmax(1)

    once = probabilities(images, False)
    both = once + probabilities(images, True)
    sums = {"one view": once, "with its mirror image": both}
    for shift in SHIFTS:
        _, *corners = moved(images, shift)
        others = [probabilities(view, flip) for view in corners for flip in (False, True)]
        sums[f"ten, moved by {shift} px"] = both + torch.stack(others).sum(0)
    return {name: float((total.argmax(1) == labels).double().mean()) for name, total in sums.items()}


MODELS = click.Argument(["models"], type=FOLDER, nargs=-1, help="Trained; none: the first baseline.")
DATA = click.Option(["--data"], type=click.Path(path_type=Path), default=PREPARED, help="What prepare wrote.")


def main(models: Sequence[Path], data: Path) -> None:
    prepared = FerData.load(data)
    rows = []
    for folder in models or (RunKey("baseline", 0).models,):
        network, loss = load_trained(folder)
        found = []
        for split in ("val", "test"):
            images = Images.of(prepared, split)
            found.append(accuracies(network, loss, images.pixels, images.labels))
        val, test = found
        rows += [[f"{folder}, {name}", f"{100 * val[name]:.2f}", f"{100 * test[name]:.2f}"] for name in val]
    print(header())
    print(table(["model, views", "PublicTest", "PrivateTest"], rows))


if __name__ == "__main__":
    cli.script(main, MODELS, DATA, example="outputs/models/baseline-0")
