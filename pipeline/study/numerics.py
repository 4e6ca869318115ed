"""Say how this machine computes a training, as requested or as measured, in a form that other machines can compare."""

from __future__ import annotations

import torch

from pipeline.files import JsonDict
from pipeline.training import autotune
from pipeline.training.autotune import MachineParams
from pipeline.training.hardware import environment, instructions

NAMES = ("precision", "memory_format", "threads", "compile")
"""The keys of `machine` in params.yaml."""


def measured(requested: MachineParams, threads: int) -> JsonDict:
    """Return the settings `chosen` for `machine`, the `environment` as in model.json, and the set of `instructions`.

    threads: how many a training may use.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        hardware = autotune.choose(requested)
        chosen = {name: getattr(hardware, name) for name in NAMES}
        return {"chosen": chosen, "environment": environment(hardware, 1), "instructions": instructions()}
    finally:
        torch.set_num_threads(before)
