"""Record a training step as a CUDA graph, so that a GPU repeats it without Python."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.errors import UserError, first_line

WARM_UP = 3
"""Calls from Python before the recording: PyTorch's first-use set-up cannot be recorded."""


class CudaGraphStep:
    """A call that does the same work on the same tensors each time, as one CUDA graph.

    A step of a small network is some two hundred short kernels, and Python takes longer to start them than the GPU to
    run them. Recorded once, they are all started together. `work` must not wait for the GPU (no `.item()`), and
    whatever changes from call to call must be in tensors that keep their place in memory: anything that it counts or
    draws in Python is frozen at its value during the recording. Raises UserError if it cannot be recorded.
    """

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()  # one for all recordings: each further one would keep memory of its own

    def of(self, work: Callable[[], None]) -> CudaGraphStep:
        """Use this recording object for other work; the previous recording is dropped."""
        self.work, self.calls, self.graph = work, 0, torch.cuda.CUDAGraph()
        return self

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
        """Record the kernels of one call without running them."""
        try:
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            cause = first_line(error.__context__ or error)  # the end of the recording fails, too
            raise UserError(
                f"The training step cannot be recorded for the GPU ({cause}), most often because the loss reads values "
                "back: remove .item(), float() and any `if` on a tensor."
            ) from error
