"""Pipelines as users run them: real `dvc` and `mlflow` in a git clone of this repository, made small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tests.clone import SMALL, Clone, clone_of_working_tree


@pytest.fixture(scope="session")
def make_clone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Clone]:
    """Clone this repository as it is in the working tree, with the small configuration, committed."""

    def make(changes: dict[str, Any] | None = None) -> Clone:
        return clone_of_working_tree(tmp_path_factory.mktemp("clone") / "fer", SMALL | (changes or {}))

    return make


@pytest.fixture(scope="session")
def finished(make_clone: Callable[..., Clone]) -> Clone:
    """A clone after its first `dvc repro`. Shared: tests that change something work on a copy."""
    clone = make_clone()
    clone.dvc("repro")
    clone.commit("The first run")
    return clone


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch may use one thread: on tiny tensors more only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
