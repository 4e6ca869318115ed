"""Choose number format, memory format and threads for training: as requested, or as measured once per machine."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, get_args

import torch
from filelock import FileLock
from pydantic import Field
from torch import nn

from pipeline.errors import UserError
from pipeline.files import repository, write_json
from pipeline.schema import must_be
from pipeline.training.hardware import Hardware, has_bf16, has_gpu, instructions, processor

logger = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16"]
MemoryFormat = Literal["auto", "channels_last", "contiguous"]
Threads = Annotated[Literal["auto"] | Annotated[int, Field(ge=1)], must_be("auto or a whole number from 1")]
MARGIN = 1.1
"""Minimum speed-up over a setting listed earlier to be preferred to it."""
ROUNDS = 6
PATIENCE = 10.0
"""Seconds after which measuring ends: on a busy machine it would take long and not show what the machine can do."""
TRUSTED = 2
"""Turns after which a measurement counts: the first measurement of all includes waking up the processor."""
HOPELESS = 3
"""Slowdown against the best beyond which a setting is not measured again after that."""


@dataclass(frozen=True)
class MachineParams:
    """The settings under `machine` in params.yaml; "auto" is measured."""

    precision: Precision
    memory_format: MemoryFormat
    threads: Threads
    compile: bool


def choose(requested: MachineParams, cache: Path | None = None) -> Hardware:
    """Return the hardware: CUDA if available; other settings as requested or, for "auto", the fastest measured.

    A processor may compute bf16 more slowly than fp32, and on many cores a small network may train faster with only a
    few of them. The combinations are therefore measured (a second or two on two cores), and their times kept by
    processor, number of threads and PyTorch version, in `cache` or the repository's .machine/speed.json. On a GPU
    nothing is measured: bf16 if supported, channels_last; a GPU that this PyTorch was not built for is not used, and
    one line says so. Hardware that only emulates bf16, more slowly than it computes fp32, gets fp32 whatever is
    requested. Raises UserError if more threads are requested than PyTorch may use, or if a GPU fails.
    """
    cache = cache or repository() / ".machine" / "speed.json"
    torch.set_flush_denormal(True)  # before any other thread runs: running threads would not notice
    compiled = requested.compile and _can_compile()
    most = torch.get_num_threads()
    if isinstance(requested.threads, int) and requested.threads > most:
        raise UserError(
            f"params.yaml: 'machine.threads' is {requested.threads}, but PyTorch may use {most} here: lower it or "
            "raise OMP_NUM_THREADS."
        )
    cuda = has_gpu()
    bf16 = requested.precision != "fp32" and has_bf16(cuda)
    if requested.precision == "bf16" and not bf16:
        logger.warning(f"This {'GPU' if cuda else 'processor'} has no bf16: machine.precision is fp32 instead.")
    if cuda:
        contiguous = requested.memory_format == "contiguous"
        return Hardware(
            "cuda",
            "bf16" if bf16 else "fp32",
            "contiguous" if contiguous else "channels_last",
            requested.threads if isinstance(requested.threads, int) else most,
            compiled,
        )
    candidates = [
        Hardware("cpu", precision, layout, threads, compiled)
        for threads, layout, precision in product(
            [requested.threads] if isinstance(requested.threads, int) else _thread_counts(most),
            get_args(MemoryFormat)[1:] if requested.memory_format == "auto" else [requested.memory_format],
            ["fp32"] if not bf16 else get_args(Precision)[1:] if requested.precision == "auto" else ["bf16"],
        )
    ]
    if len(candidates) == 1:
        return candidates[0]
    seconds = _seconds(candidates, f"{processor()} {instructions()}, {most} threads, torch {torch.__version__}", cache)
    known = [candidate for candidate in candidates if _name(candidate) in seconds]
    best = known[0]
    for candidate in known[1:]:
        if MARGIN * seconds[_name(candidate)] < seconds[_name(best)]:
            best = candidate
    return best


def _thread_counts(most: int) -> list[int]:
    """Return `most` and every power of two below it, in descending order."""
    return sorted({most, *(2**power for power in range(most.bit_length()) if 2**power < most)}, reverse=True)


def _name(hardware: Hardware) -> str:
    return f"{hardware.precision} {hardware.memory_format} {hardware.threads}"


def _seconds(candidates: Sequence[Hardware], machine: str, cache: Path) -> dict[str, float]:
    """Return each candidate's time on this machine, by name: kept from before, or measured and kept now.

    Trainings that start together measure one after the other, and the second finds what the first has written.
    """
    cache.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.with_suffix(".lock")):
        remembered = _remembered(cache)
        seconds = remembered.get(machine, {})
        if all(_name(candidate) in seconds for candidate in candidates):
            return seconds
        measured, trusted = _measure(candidates)
        seconds = seconds | measured
        if trusted:
            write_json(cache, remembered | {machine: seconds})
        else:
            logger.warning("The machine is too busy to be measured: it will be at the next training.")
        return seconds


def _remembered(cache: Path) -> dict[str, dict[str, float]]:
    """Return seconds by machine and candidate as measured earlier."""
    try:
        facts = json.loads(cache.read_text(encoding="utf-8"))
        return {machine: {name: float(value) for name, value in seconds.items()} for machine, seconds in facts.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # nothing kept, or kept by a version with another format: measure again


def _measure(candidates: Sequence[Hardware]) -> tuple[dict[str, float], bool]:
    """Return the best time in seconds of a training step of one block per candidate, measured in turns.

    Candidates far behind get no further turn, and candidates for which there was no time are missing. The second value
    tells whether all had enough turns to be trusted.
    """
    threads, end = torch.get_num_threads(), time.perf_counter() + PATIENCE
    taken: dict[Hardware, list[float]] = {candidate: [] for candidate in candidates}
    try:
        for candidate in ROUNDS * list(candidates):
            fastest = min((seconds for turns in taken.values() for seconds in turns), default=0.0)
            if len(taken[candidate]) >= TRUSTED and min(taken[candidate]) > HOPELESS * fastest:
                continue
            if time.perf_counter() > end:
                break
            torch.set_num_threads(candidate.threads)
            taken[candidate].append(_step_seconds(candidate))
    finally:
        torch.set_num_threads(threads)
    best = {_name(candidate): round(min(turns), 5) for candidate, turns in taken.items() if turns}
    return best, all(len(turns) >= TRUSTED for turns in taken.values())


def _step_seconds(hardware: Hardware) -> float:
    """Time a forward and backward pass through the kinds of layers of `FerNet`, at a typical size: 3 GFLOP."""
    layers = [nn.Conv2d(32, 64, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(64), nn.GELU()]
    block = nn.Sequential(*layers, nn.Conv2d(64, 64, 3, padding=1)).to(memory_format=hardware.layout)  # type: ignore[call-overload]
    images = torch.ones(32, 32, 24, 24).to(memory_format=hardware.layout).requires_grad_()
    start = time.perf_counter()
    with hardware.autocast():
        output = block(images)
    output.float().sum().backward()
    return time.perf_counter() - start


def _can_compile() -> bool:
    """Return whether torch.compile finds the C++ compiler that it needs; if not, print that it is left out."""
    found = any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++") if name)
    if not found:
        logger.warning("No C++ compiler was found: machine.compile is ignored.")
    return found
