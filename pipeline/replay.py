"""Steps that a GPU repeats without Python."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.errors import UserError

WARM_UP = 3
"""Calls before the recording: what PyTorch sets up at first use cannot be recorded."""


class Replay:
    """A call that does the same work on the same tensors each time, as one CUDA graph.

    A step of a small network is some two hundred short kernels, and Python takes longer to start them than the GPU
    to run them. Recorded once, all of them are started together. `work` must not wait for the GPU (no `.item()`), and
    whatever changes from call to call it must find in tensors that stay where they are.
    Raises UserError if it cannot be recorded.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.work, self.calls = work, 0
        self.stream, self.graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()

    def __call__(self) -> None:
        if self.calls < WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.work()
            torch.cuda.current_stream().wait_stream(self.stream)
        else:
            if self.calls == WARM_UP:
                self.record()
            self.graph.replay()
        self.calls += 1

    def record(self) -> None:
        """Note down the kernels of one call; none of them runs."""
        try:
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.work()
        except RuntimeError as error:
            raise UserError(
                f"The training step cannot be recorded for the GPU ({str(error).splitlines()[0]}): a loss must "
                "not read values back (.item(), float(), an `if` on a tensor)."
            ) from error
