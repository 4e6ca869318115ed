"""What computes: the device, its number and memory formats, and PyTorch set up to be repeatable on it."""

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
"""What PyTorch calls the instructions, the last those of ARM, one of which bf16 needs not to be emulated."""


@dataclass(frozen=True)
class Hardware:
    """Where and how to compute."""

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
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[None]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)


EVALUATION = Hardware("cpu", "fp32")
"""How trained models are measured, whatever they were trained in; with as many threads as there are."""


def has_gpu() -> bool:
    """Whether there is a GPU that this PyTorch computes on. If there is one that it cannot use, one line says why.

    Raises UserError if the GPU should work and does not: it is full, in another's use, or broken.
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
        logger.warning(
            f"This PyTorch was not built for the GPU here ({name}): the processor computes instead."
        )
        return False
    return True


def _compute_on_gpu() -> None:
    """Something small, and wait for it: an error comes with the first kernel that runs, or after it."""
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
    """The name of what computes: the GPU's or the processor's."""
    return torch.cuda.get_device_name() if device == "cuda" else processor()


def processor() -> str:
    """The processor's name as its maker gives it, or the architecture where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.machine()


def instructions() -> str:
    """Eight digits for the instructions the processor knows: on hired machines one name has several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        known = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    except OSError:
        known = ""
    return hashlib.sha256((known or platform.machine()).encode()).hexdigest()[:8]


def has_bf16(cuda: bool) -> bool:
    """Whether convolutions in bf16 are computed as such and not emulated.

    oneDNN's own answer does not tell: it says yes to any processor with AVX-512, also where it emulates.
    """
    if cuda:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities()
    return torch.backends.mkldnn.is_available() and any(known.get(name) for name in BF16_INSTRUCTIONS)


def numerics_key(hardware: Hardware, processes: int) -> str:
    """All that decides how sums are rounded, as part of a file's name: what computes otherwise cannot go on exactly."""
    kind = f"{chip(hardware.device)} {instructions()}"
    text = f"{kind}-{hardware} x {processes}-torch {torch.__version__}"
    return re.sub(r"[^\w.+-]", "", text.replace(", ", "-"))


def environment(hardware: Hardware, processes: int) -> JsonDict:
    """With what it was trained, for the table's readers; processors of one name may still have other instructions."""
    facts = {
        "processor": chip(hardware.device),
        **dataclasses.asdict(hardware),
        "processes": processes,
        "torch": str(torch.__version__),
    }
    if hardware.device == "cuda":
        del facts["threads"]  # they compute nothing there
    return facts
