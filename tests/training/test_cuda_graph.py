"""Recording and replaying, on a stand-in for CUDA; what a real GPU computes is tested in test_training.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from pipeline.training.cuda_graph import WARM_UP, CudaGraphStep


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the stand-in is told to do, in order."""
    told: list[str] = []

    class Graph:
        def replay(self) -> None:
            told.append("replay")

    @contextmanager
    def recording(graph: Graph, stream: Any) -> Iterator[None]:
        told.append("record")
        yield

    def stream() -> SimpleNamespace:
        told.append("stream")
        return SimpleNamespace(wait_stream=lambda other: None)

    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(wait_stream=lambda other: None))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    return told


def test_the_first_calls_are_work_then_it_is_recorded_once_and_replayed(told: list[str]) -> None:
    take = CudaGraphStep().of(lambda: told.append("work"))
    for _ in range(WARM_UP + 3):
        take()
    assert told == ["stream", *["work"] * WARM_UP, "record", "work", *["replay"] * 3]


def test_other_work_is_recorded_anew_on_the_same_stream(told: list[str]) -> None:
    replay = CudaGraphStep()
    for name in ("a", "b"):
        take = replay.of(partial(told.append, name))
        for _ in range(WARM_UP + 1):
            take()
    assert told == ["stream", *["a"] * WARM_UP, "record", "a", "replay", *["b"] * WARM_UP, "record", "b", "replay"]


def test_work_that_cannot_be_recorded_is_told_so_and_too_little_memory_is_not_mistaken_for_it(told: list[str]) -> None:
    def failing(error: Exception) -> CudaGraphStep:
        def work() -> None:
            if len(told) > WARM_UP + 1:  # while it is recorded
                raise error
            told.append("work")

        told.clear()
        told.append("stream")
        return CudaGraphStep().of(work)

    def run(take: CudaGraphStep) -> None:
        for _ in range(WARM_UP + 1):
            take()

    with pytest.raises(UserError, match=r"cannot be recorded for the GPU \(operation not permitted\), most often"):
        run(failing(RuntimeError("operation not permitted\nmore lines")))
    with pytest.raises(torch.OutOfMemoryError):
        run(failing(torch.OutOfMemoryError("out of memory")))
