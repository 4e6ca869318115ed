"""Take a training step apart: each convolution on its own, and the profiler's times by kind of operator."""

from __future__ import annotations

import copy
import ctypes
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.timing import Case
from pipeline.training.loop import AUGMENTATION

FORWARD, DATA_GRADIENT, WEIGHT_GRADIENT = DIRECTIONS = ("forward", "data gradient", "weight gradient")
BACKWARD = "convolution, backward"
BETWEEN = "between operators (Python, autograd)"
OTHER = "other operators"

RANGES = {AUGMENTATION: re.compile(f"^{AUGMENTATION}$"), "optimiser": re.compile(r"^Optimizer\.")}
"""Stretches of a step to which everything within belongs."""

BOOKKEEPING = re.compile(r"^autograd::|^torch::autograd::|Backward\d+$")
"""What autograd does between the operators that it calls."""

OPERATORS = {
    "new memory": re.compile(r"^aten::(new_)?(empty|zeros|zero_|full|fill_|resize_)"),
    "copies and casts": re.compile(r"^aten::(to|_to_copy|copy_|contiguous|clone)$"),
    BACKWARD: re.compile(r"convolution_backward"),
    "convolution, forward": re.compile(r"^aten::.*conv"),
    "normalisation": re.compile(r"batch_?norm", re.IGNORECASE),
    "activation": re.compile(r"gelu", re.IGNORECASE),
    "pooling and unshuffling": re.compile(r"max_?pool2d|pixel_?unshuffle", re.IGNORECASE),
    "head and loss": re.compile(r"linear|addmm|amax|softmax|cross_?entropy|nll_?loss", re.IGNORECASE),
    "moving average": re.compile(r"lerp"),
}
"""Kinds of operator by name. An operator that matches none belongs where its caller does."""


@dataclass(frozen=True)
class Convolution:
    """One layer with random numbers of the step's shapes, number format and memory format."""

    name: str
    images: Tensor
    weight: Tensor
    gradient: Tensor
    settings: tuple[Any, ...]
    first: bool

    @property
    def flop(self) -> int:
        """Return the operations of one direction: two per multiply-add."""
        return 2 * self.gradient.numel() * self.weight[0].numel()

    @property
    def intensity(self) -> float:
        """Return FLOP per byte that must at least be moved: both factors read, the result written."""
        numbers = self.images.numel() + self.weight.numel() + self.gradient.numel()
        return self.flop / (numbers * self.images.element_size())

    def forward(self) -> Tensor:
        found: Tensor = torch.ops.aten.convolution(self.images, self.weight, None, *self.settings)
        return found

    def backward(self, *mask: bool) -> tuple[Tensor | None, ...]:
        """Return the gradients of images, weight and bias, of those that `mask` asks for."""
        found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            self.gradient, self.images, self.weight, None, *self.settings, mask
        )
        return found

    def cases(self) -> dict[str, Case]:
        """Return the three directions; the first layer's images need no gradient."""
        cases: dict[str, Case] = {FORWARD: self.forward}
        if not self.first:
            cases[DATA_GRADIENT] = partial(self.backward, True, False, False)
        return cases | {WEIGHT_GRADIENT: partial(self.backward, False, True, False)}


def convolutions(
    network: nn.Module, images: Tensor, dtype: torch.dtype, layout: torch.memory_format
) -> list[Convolution]:
    """Return the convolutions that `network` applies to a batch of images, in order."""
    network = copy.deepcopy(network).eval()
    found: list[Convolution] = []

    def note(name: str, layer: nn.Conv2d, arguments: tuple[Tensor], output: Tensor) -> None:
        def like(tensor: Tensor) -> Tensor:
            return torch.randn_like(tensor, dtype=dtype).contiguous(memory_format=layout)

        stride, padding, dilation = list(layer.stride), list(layer.padding), list(layer.dilation)
        settings = (stride, padding, dilation, False, [0, 0], layer.groups)
        tensors = like(arguments[0]), like(layer.weight), like(output)
        found.append(Convolution(name, *tensors, settings, first=not found))

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(partial(note, name))
    with torch.no_grad():
        network(images)
    return found


@dataclass(frozen=True)
class Spent:
    """Seconds and calls per step by kind of operator; `other` names the largest operators in OTHER."""

    seconds: dict[str, float]
    calls: dict[str, float]
    other: list[str]


def kind_of(names: Sequence[str]) -> str:
    """Return where an operator's own time belongs. names: its own, then its callers', from the inside out."""
    for name in names:
        for kind, pattern in RANGES.items():
            if pattern.search(name):
                return kind
    if BOOKKEEPING.search(names[0]):
        return BETWEEN
    for name in names:
        for kind, pattern in OPERATORS.items():
            if pattern.search(name):
                return kind
    return OTHER


def spent(step: Case, steps: int) -> Spent:
    """Profile some steps. On a GPU an operator's time is that of the kernels it starts.

    What no operator accounts for (Python; on a GPU, waiting for the next kernel) is in BETWEEN, so that
    the kinds add up to the whole step.
    """
    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    step()
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            with record_function("step"):
                step()
    events = [event for event in profiler.events() if event.device_type == DeviceType.CPU]
    whole = sum(event.cpu_time_total for event in events if event.name == "step")

    seconds, calls, other = Counter[str](), Counter[str](), Counter[str]()
    for event in events:
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        names = list(_names(event))
        if names[0] == "step" or own == 0:
            continue
        kind = kind_of(names)
        seconds[kind] += own
        calls[kind] += 1
        if kind == OTHER:
            other[names[0]] += own
    seconds[BETWEEN] += whole - sum(seconds.values())
    return Spent(
        {kind: value / steps / 1e6 for kind, value in seconds.most_common()},
        {kind: count / steps for kind, count in calls.items()},
        [name for name, _ in other.most_common(3)],
    )


def _names(event: Any) -> Iterator[str]:
    while event is not None:
        yield event.name
        event = event.cpu_parent


def kernel_share(step: Case, steps: int) -> float:
    """Return the share of the processor's time that the system's kernel takes: pages of new memory, waking threads."""
    before = os.times()
    for _ in range(steps):
        step()
    after = os.times()
    user, system = after.user - before.user, after.system - before.system
    return system / (user + system) if system else 0.0  # the clock ticks every 10 ms


def reorders(step: Case) -> tuple[int, float] | None:
    """Return how often and for how many seconds oneDNN copies a tensor into another layout in one step.

    The profiler does not see this inside a convolution; oneDNN itself tells, on standard output.
    None where PyTorch computes without oneDNN.
    """
    if torch.cuda.is_available() or not torch.backends.mkldnn.is_available():
        return None
    with tempfile.TemporaryFile("w+") as file:
        with _standard_output_in(file), torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            step()
        file.seek(0)
        lines = [line.rstrip().split(",") for line in file if ",exec," in line and ",reorder," in line]
    return len(lines), sum(float(fields[-1]) for fields in lines) / 1e3


@contextmanager
def _standard_output_in(file: IO[str]) -> Iterator[None]:
    """Redirect also what C code prints, which knows nothing of sys.stdout."""
    sys.stdout.flush()
    terminal = os.dup(1)
    os.dup2(file.fileno(), 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(terminal, 1)
        os.close(terminal)
