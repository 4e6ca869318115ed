"""Describe the hardware: the device, its number and memory formats; make PyTorch repeatable on it."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import platform
import re
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pipeline.errors import UserError
from pipeline.files import JsonDict
from pipeline.trouble import NO_KERNEL, explain

logger = logging.getLogger(__name__)

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")
"""PyTorch's names of the instructions (the last ones ARM's) of which one is needed for bf16 without emulation."""


@dataclass(frozen=True)
class Hardware:
    """The device and how it computes."""

    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16"]
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"
    threads: int = 1
    compile: bool = False

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else ""
        return f"{self.device}, {self.precision}, {self.memory_format}{threads}{', compiled' * self.compile}"

    @property
    def layout(self) -> torch.memory_format:
        """Return PyTorch's memory format."""
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context that computes in this number format."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)


EVALUATION = Hardware("cpu", "fp32")
"""The hardware for measuring trained models, whatever they were trained on; with all available threads."""


def has_gpu() -> bool:
    """Return whether there is a GPU that this PyTorch supports. If there is one that it cannot use, one line says why.

    Raises UserError if the GPU should work and does not: it is full, in use by others, or broken.
    """
    with warnings.catch_warnings(record=True) as caught:  # PyTorch's own take many lines each
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        if caught:
            logger.warning(f"The GPU is not used: {str(caught[0].message).split('(Triggered')[0].strip()}")
        return False
    try:
        _compute_on_gpu()
    except RuntimeError as error:
        sentence = explain(error)
        if sentence is None:
            raise
        if not NO_KERNEL.search(str(error)):
            raise UserError(sentence) from error
        name = torch.cuda.get_device_name()
        logger.warning(f"This PyTorch was not built for the GPU here ({name}): the processor computes instead.")
        return False
    return True


def _compute_on_gpu() -> None:
    """Compute something small and wait for it: an error appears with the first kernel that runs, or after it."""
    if torch.backends.cuda.is_built():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the GPU is too old, in many lines
            torch.ones(8, device="cuda").sum().item()


def set_up(hardware: Hardware, seed: int) -> None:
    """Make PyTorch compute on this hardware, repeatably: the same seed gives the same bits."""
    torch.manual_seed(seed)
    torch.set_num_threads(hardware.threads)
    torch.set_flush_denormal(True)  # numbers near zero would slow a processor down a hundredfold
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.use_deterministic_algorithms(True)
    # "fp32" is 32 bits wide: a GPU's convolutions would keep only 10 of the 23 digits (TF32).
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    # That would also fill all new memory, a guard against code that reads what it never wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def chip(device: str) -> str:
    """Return the name of the GPU or, without one, of the processor."""
    return torch.cuda.get_device_name() if device == "cuda" else processor()


def processor() -> str:
    """Return the processor's name as its maker gives it, or the architecture if the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.machine()


def instructions() -> str:
    """Return eight digits for the processor's instruction set: on rented machines one name covers several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        known = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    except OSError:
        known = ""
    return hashlib.sha256((known or platform.machine()).encode()).hexdigest()[:8]


def has_bf16(cuda: bool) -> bool:
    """Return whether convolutions in bf16 are computed as such and not emulated.

    oneDNN's own answer does not tell: it says yes to any processor with AVX-512, even where it emulates.
    """
    if cuda:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities()
    return torch.backends.mkldnn.is_available() and any(known.get(name) for name in BF16_INSTRUCTIONS)


def numerics_key(hardware: Hardware, processes: int) -> str:
    """Return everything that decides how sums are rounded, as part of a checkpoint's file name.

    A training on hardware that rounds differently cannot resume exactly.
    """
    kind = f"{chip(hardware.device)} {instructions()}"
    text = f"{kind}-{hardware} x {processes}-torch {torch.__version__}"
    return re.sub(r"[^\w.+-]", "", text.replace(", ", "-"))


def environment(hardware: Hardware, processes: int) -> JsonDict:
    """Return the machine and versions of a training, for readers.

    Processors of one name may have different instruction sets.
    """
    facts = {
        "processor": chip(hardware.device),
        **dataclasses.asdict(hardware),
        "processes": processes,
        "torch": str(torch.__version__),
    }
    if hardware.device == "cuda":
        del facts["threads"]  # they compute nothing there
    return facts
