"""Measure what this machine can do at most: matrix products, large convolutions, copies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.timing import Case, alternate, table, waiting

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CHANNELS, PIXELS, BATCH = 256, 24, 64
COPIED = 2**28
"""Bytes, far more than any cache holds."""


@dataclass(frozen=True)
class Peaks:
    """FLOP/s by precision, and bytes read and written per second."""

    product: dict[str, float]
    convolution: dict[str, float]
    copy: float


def measure(rounds: int, side: int) -> Peaks:
    """Measure with square matrices of that side, a 3x3 convolution with many channels, and a tensor to copy."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cases: dict[str, Case] = {}
    for precision, dtype in DTYPES.items():
        left, right, product = torch.randn(3, side, side, device=device).to(dtype)
        cases[f"product {precision}"] = waiting(partial(torch.mm, left, right, out=product))
        images = torch.randn(BATCH, CHANNELS, PIXELS, PIXELS, device=device).to(dtype)
        weight = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device).to(dtype)
        images, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (images, weight))
        cases[f"convolution {precision}"] = waiting(partial(F.conv2d, images, weight, padding=1))
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    cases["copy"] = waiting(partial(torch.empty_like(source).copy_, source))

    seconds = alternate(cases, rounds)
    product, convolution = 2 * side**3, 2 * BATCH * (CHANNELS * PIXELS * 3) ** 2
    return Peaks(
        {name: product / seconds[f"product {name}"] for name in DTYPES},
        {name: convolution / seconds[f"convolution {name}"] for name in DTYPES},
        2 * COPIED / seconds["copy"],
    )


def peaks_table(peaks: Peaks, side: int) -> str:
    def row(name: str, values: dict[str, float], unit: float = 1e9) -> list[str]:
        return [name, *(f"{values[precision] / unit:,.0f}" for precision in DTYPES)]

    rows = [
        row(f"matrix product, {side} x {side}: the peak, GFLOP/s", peaks.product),
        row(f"3x3 convolution, {CHANNELS} channels, {PIXELS} px, GFLOP/s", peaks.convolution),
        row("FLOP per byte below which memory is the limit", peaks.product, peaks.copy),
    ]
    copy = f"copy of {COPIED / 1e6:.0f} MB: {peaks.copy / 1e9:.1f} GB/s, read and written"
    return f"{table(['all cores', *DTYPES], rows)}\n{copy}"
