"""Measure what the losses cost, and compare the original README's two with the loops in which they were published.

    python -m benchmarks.losses [--batch 256] [--rounds 5]

The loops are those of the original README with numpy in TensorFlow's place: sample by sample, the tensors
turned into lists of floats and the lists into arrays again. "As published" converts the whole batch for
every sample, because the README calls `.numpy().tolist()[i]` inside the loop; "converted once" does that
before the loop, which is kinder than the README. TensorFlow's own cost per call comes on top of both and
is not measured. The loops have no backward pass (`.numpy()` cuts the gradient), so forward is compared
with forward; our forward and backward together is given as well. All run on one thread, as the loops must.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.machine import header
from benchmarks.timing import Case, alternate, rounds_option, table
from pipeline import cli, config
from pipeline.cli import Number
from pipeline.data.fer import LABELS
from pipeline.files import repository
from pipeline.labels.vectors import embed
from pipeline.training.losses import LOSSES, Loss, make_loss

Floats = npt.NDArray[np.float32]
Loop = Callable[[Sequence[Floats], Floats, Floats], float]
"""Class vectors, one-hot labels [B, K], output [B, D] -> the value of the loss."""


def keras_cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> np.float32:
    """Return Keras's cosine loss of two vectors: *minus* their cosine, in float32, lists converted at each call."""
    u, v = np.asarray(a, np.float32), np.asarray(b, np.float32)
    u = u / np.sqrt(np.maximum(np.sum(u * u), 1e-12))
    v = v / np.sqrt(np.maximum(np.sum(v * v), 1e-12))
    return np.float32(-np.sum(u * v))


def visited(count: int) -> list[int]:
    """Return the samples that the README's loop visits: 0 is handled before it, the last two never."""
    return [0, *range(1, count - 2)]


def first_as_published(weight: Sequence[Floats], one_hot: Floats, output: Floats) -> float:
    total = np.float32(0)
    for i in visited(len(one_hot)):
        truth = one_hot.tolist()[i]
        vector = weight[truth.index(int(max(truth)))]
        total += keras_cosine(vector, output.tolist()[i])
    return float(total)


def second_as_published(weight: Sequence[Floats], one_hot: Floats, output: Floats) -> float:
    total = np.float32(0)
    for i in visited(len(one_hot)):
        truth = one_hot.tolist()[i]
        total += abs(keras_cosine(weight[int(max(truth))], output.tolist()[i]))  # int(1.0), always
    return float(total / len(one_hot))


def first_converted_once(weight: Sequence[Floats], one_hot: Floats, output: Floats) -> float:
    truths, outputs = one_hot.tolist(), output.tolist()
    total = np.float32(0)
    for i in visited(len(truths)):
        total += keras_cosine(weight[truths[i].index(int(max(truths[i])))], outputs[i])
    return float(total)


def second_converted_once(weight: Sequence[Floats], one_hot: Floats, output: Floats) -> float:
    truths, outputs = one_hot.tolist(), output.tolist()
    total = np.float32(0)
    for i in visited(len(truths)):
        total += abs(keras_cosine(weight[int(max(truths[i]))], outputs[i]))
    return float(total / len(truths))


LOOPS: dict[str, dict[str, Loop]] = {
    "original_first": {"as published": first_as_published, "converted once": first_converted_once},
    "original_second": {"as published": second_as_published, "converted once": second_converted_once},
}


def run_loop(loop: Loop, targets: Tensor, output: Tensor, labels: Tensor) -> float:
    """Run a loop on the arguments of this project's losses: targets [K, D], output [B, D], labels int64 [B]."""
    one_hot = torch.nn.functional.one_hot(labels, len(targets)).float()
    return loop(list(targets.numpy()), one_hot.numpy(), output.detach().numpy())


def forward(loss: Loss, output: Tensor, labels: Tensor) -> Tensor:
    return loss(output, labels)


def forward_backward(loss: Loss, output: Tensor, labels: Tensor) -> None:
    output.grad = None
    loss(output, labels).backward()


BATCH = click.Option(["--batch"], type=Number(), default=256, help="Samples at a time.")


def main(batch: int, rounds: int) -> None:
    torch.set_num_threads(1)
    settings = config.load().labels["word2vec"]
    targets = embed(repository() / settings.vectors, settings.words).of(LABELS)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(len(LABELS), (batch,), generator=generator)

    rows, versus = [], []
    for name in LOSSES:
        loss = make_loss(name, {}, targets)
        width = loss.output_dim
        output = torch.randn(batch, width, generator=generator).requires_grad_()
        cases: dict[str, Case] = {
            "forward": partial(forward, loss, output, labels),
            "both": partial(forward_backward, loss, output, labels),
        }
        loops: dict[str, Case] = {
            way: partial(run_loop, loop, loss.targets, output, labels) for way, loop in LOOPS.get(name, {}).items()
        }
        seconds = alternate(cases | loops, rounds)
        rows.append([name, str(width), f"{seconds['forward'] * 1e6:.0f}", f"{seconds['both'] * 1e6:.0f}"])
        for way in loops:
            ratios = [f"{seconds[way] / seconds[case]:,.0f}" for case in cases]
            versus.append([f"{name}, {way}", f"{seconds[way] * 1e3:.1f}", *ratios])

    print(header())
    print(f"Batch of {batch}, best of {rounds}, one thread\n")
    print(table(["loss", "outputs", "forward, us", "forward + backward, us"], rows), end="\n\n")
    print(table(["README's loop, forward", "ms", "times our forward", "times our forward + backward"], versus))


if __name__ == "__main__":
    cli.script(main, BATCH, rounds_option(5), example="--batch 256")
