"""Name the machine and the versions of a measurement: the head of every benchmark's table."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from pipeline.training.hardware import processor


def header(*packages: str) -> str:
    """Return one line: processor, cores this process may use, Python, numpy, torch, and any further packages."""
    versions = (f"{package} {_version(package)}" for package in ("numpy", "torch", *packages))
    return ", ".join([f"{processor()} x {_cores()}", f"Python {platform.python_version()}", *versions])


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
