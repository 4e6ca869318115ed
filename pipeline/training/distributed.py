"""Train one network in several processes, as `torchrun` starts them; a single process is a group of one.

Every process holds the network and all images, and computes its share of each batch. Everything that depends on the
whole batch still sees all of it: normalisation statistics and the loss are those of the global batch, so the result
equals that of one process except for the order in which sums are rounded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.training.hardware import has_gpu

T = TypeVar("T")

LOCK_WAIT = timedelta(hours=12)
"""How long the other processes wait while the leader waits for the lock of another training."""


@dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process logs and writes; the others only compute."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            dist.barrier()

    def broadcast(self, choose: Callable[[], T]) -> T:
        """Return the result of `choose`, called in the first process only, in all processes; or raise its UserError."""
        box: list[Any] = [None, None]
        if self.is_main:
            try:
                box = [choose(), None]
            except UserError as error:
                box = [None, error]
        if self.world_size > 1:
            dist.broadcast_object_list(box)
        chosen, wrong = box
        if wrong is not None:
            raise wrong
        return cast(T, chosen)

    def shard(self, rows: Tensor) -> Tensor:
        """Return this process's part of a batch of rows, all parts equally long: [B, ...] -> [B / world_size, ...]."""
        return rows.tensor_split(self.world_size)[self.rank]

    def all_gather(self, share: Tensor) -> Tensor:
        """Join every process's part into the whole batch, in order; the gradient reaches this process's part only."""
        if self.world_size == 1:
            return share
        shares = [torch.empty_like(share) for _ in range(self.world_size)]
        dist.all_gather(shares, share.detach().contiguous())
        shares[self.rank] = share
        return torch.cat(shares)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return `network` (changed in place) such that a backward pass leaves the mean gradient in every process."""
        if self.world_size == 1:
            return network
        # Here, as both bring PyTorch's compiler, which takes longer to import than most stages run.
        from torch.nn.parallel import DistributedDataParallel

        # Traced, the sum over the gradients would get lost.
        SyncBatchNorm.total = staticmethod(torch.compiler.disable(_total))
        for module in list(network.modules()):
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SyncBatchNorm  # parameters, statistics and names stay
        # Statistics need no broadcast: they are computed from the global batch everywhere.
        return DistributedDataParallel(network, forward_sync_buffers=False)


@contextmanager
def group() -> Iterator[Group]:
    """Yield the group that `torchrun` put this process in, or a group of one. Closed at the end of the block.

    NCCL between GPUs (each process takes the one of its local rank), Gloo between processors. Raises UserError if there
    are more processes than GPUs.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Group()
        return
    if torch.cuda.is_available():
        processes, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if processes > gpus:
            raise UserError(
                f"torchrun started {processes} processes, but this machine has {gpus} GPU{'s' * (gpus > 1)}: lower "
                "--nproc-per-node, or set CUDA_VISIBLE_DEVICES= to train on the processor."
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    gpu = has_gpu()  # its own one, which is set by now
    dist.init_process_group("nccl" if gpu else "gloo", timeout=LOCK_WAIT)
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def require_equal_shares(batch: int, size: int) -> None:
    """Raise UserError if a batch of this size cannot be cut into `size` equal parts."""
    if batch % size:
        raise UserError(
            f"{size} processes cannot share batches of {batch} images equally: change recipes.<name>.batch_size "
            "or torchrun's --nproc-per-node."
        )


class _Sum(torch.autograd.Function):
    """Sum over all processes; the gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _total(tensor: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(tensor))  # type: ignore[no-untyped-call]


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the batch of all processes (torch.nn.SyncBatchNorm has no CPU version)."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float
    total = staticmethod(_total)
    """The sum over all processes; `Group.wrap` keeps it out of torch.compile."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = dist.get_world_size() * values.numel() // values.shape[1]  # the shares are equal
        # Around the running mean, or the difference of two large sums would lose the variance's digits.
        centred = values - self.running_mean[:, None, None]
        sums = torch.stack([centred.sum((0, 2, 3)), centred.square().sum((0, 2, 3))])
        first, second = (self.total(sums) / count).unbind()
        variance = (second - first.square()).clamp(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(self.running_mean + first, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normal = (centred - first[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        return normal.to(x.dtype)
