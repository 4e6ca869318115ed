"""What this machine is good at, measured once: the number format that trains faster here."""

from __future__ import annotations

import json
import platform
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F

from pipeline.files import write_json

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Hardware:
    """Where and in which number format to compute."""

    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16"]

    def autocast(self) -> AbstractContextManager[None]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)


def choose(precision: str, cache: Path) -> Hardware:
    """The hardware to train on: CUDA if there is one, `precision` as asked, or as measured for "auto".

    Without bf16 units a processor computes bf16 slower than fp32, so it is measured (about a second)
    and remembered in `cache` for this processor, thread count and PyTorch version.
    """
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    if precision != "auto":
        return Hardware(device, "bf16" if precision == "bf16" else "fp32")
    if device == "cuda":
        return Hardware(device, "bf16" if torch.cuda.is_bf16_supported() else "fp32")
    machine = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    remembered = _read(cache)
    if remembered.get("machine") != machine or not isinstance(remembered.get("bf16_speedup"), float):
        remembered = {"machine": machine, "bf16_speedup": round(_bf16_speedup(), 2)}
        write_json(cache, remembered)
    return Hardware(device, "bf16" if float(remembered["bf16_speedup"]) > 1.1 else "fp32")


def processor() -> str:
    """The processor's name as its maker gives it, or the architecture where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.machine()


def _read(cache: Path) -> dict[str, float | str]:
    try:
        return dict(json.loads(cache.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # nothing remembered, or by a version that wrote otherwise: measure again


def _bf16_speedup() -> float:
    """Seconds of a convolution forward and backward in fp32 over those in bf16, best of five each, alternating."""
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(6):
        for dtype in best:
            images = torch.randn(32, 64, 20, 20, dtype=dtype).to(memory_format=torch.channels_last)
            images.requires_grad_()
            weight = torch.randn(64, 64, 3, 3, dtype=dtype, requires_grad=True)
            start = time.perf_counter()
            F.conv2d(images, weight, padding=1).sum().backward()
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]
