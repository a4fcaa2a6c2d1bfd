"""How a batch is shared among processes, so that two processes give the same result as one.

The rule for methods: compute features on your own rows, `batch.gather` what a loss needs, and write the loss over the
global batch. Every process then holds the same loss, and the mean of the gradients over processes is the gradient that
one process would have had.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from coterie.types import OneProcess, Share


def deal(size: int, part: int, rank: int, processes: int) -> Tensor:
    """The rows of a global batch that process `rank` holds: an equal, contiguous piece of every sub-batch.

    size=8, part=4, two processes: process 0 holds 0 1 4 5. Then sub-batch j of all processes together is sub-batch j
    of a single process. The rows of a batch that cannot be dealt equally are left out.
    """
    rows: list[int] = []
    for begin in range(0, size, part):
        end = min(begin + part, size)
        each = (end - begin) // processes
        rows += range(begin + rank * each, begin + (rank + 1) * each)
    return torch.tensor(rows)


class _GatherWithGradient(torch.autograd.Function):
    """All processes' rows; backwards, each process takes its own rows of the summed gradient."""

    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        pieces = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(pieces, local.contiguous())
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


class Processes:
    """The share of one of several processes."""

    def __init__(self, size: int, part: int) -> None:
        self.processes, self.rank = dist.get_world_size(), dist.get_rank()
        self.size = size
        self.part = part
        everyone = torch.cat([deal(size, part, rank, self.processes) for rank in range(self.processes)])
        self.in_order = everyone.argsort()  # from the order of processes to the order of the global batch
        self.own = everyone.argsort().argsort().chunk(self.processes)[self.rank]

    def gather(self, local: Tensor) -> Tensor:
        """Rows of the whole batch come in the global batch's order, rows of a sub-batch in the sub-batch's."""
        everyone = _GatherWithGradient.apply(local) if local.dtype.is_floating_point else self._plain(local)
        return everyone[self.in_order.to(local.device)] if len(everyone) == len(self.in_order) else everyone

    def mine(self, everyone: Tensor) -> Tensor:
        return everyone[self.own.to(everyone.device)]

    def _plain(self, local: Tensor) -> Tensor:
        pieces = [torch.empty_like(local) for _ in range(self.processes)]
        dist.all_gather(pieces, local.contiguous())
        return torch.cat(pieces)


def share_of(size: int, part: int) -> Share:
    """The share for a batch of `size` items in sub-batches of `part`."""
    return Processes(size, part) if _several() else OneProcess()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over processes, in one message."""
    if not _several():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))


def share_batch_norm(net: nn.Module) -> None:
    """Let every batch normalisation see the global batch (torch's own SyncBatchNorm works on CUDA only)."""
    if not _several():
        return
    for name, child in list(net.named_children()):
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(net, name, SharedBatchNorm(child))
        else:
            share_batch_norm(child)


def any_process(here: bool, device: torch.device) -> bool:
    """Whether `here` is true in any process; all processes must call this."""
    if not _several():
        return here
    flag = torch.tensor(float(here), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if _several():
        dist.barrier()


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(nn.Module):
    """Batch normalisation over all processes' rows, on any device, with the parameters of the one it replaces.

    As with torch's own, weight and bias are None without `affine`, the running statistics without
    `track_running_stats`; with momentum None they are means over all batches.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.momentum = norm.weight, norm.bias, norm.eps, norm.momentum
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        # Some of timm's normalisations carry the activation that follows.
        self.after = nn.Sequential(*(getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)))

    def forward(self, x: Tensor) -> Tensor:
        alone = not self.training and self.running_mean is not None
        return self.after(self._as_alone(x) if alone else self._over_all(x))

    def _as_alone(self, x: Tensor) -> Tensor:
        # The same call as nn.BatchNorm's, so that a model which is loaded later predicts bit for bit the same.
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def _over_all(self, x: Tensor) -> Tensor:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        values = x.float()
        count = values.numel() / values.shape[1] * dist.get_world_size()
        mean = _SumOverProcesses.apply(values.sum(axes)) / count
        variance = _SumOverProcesses.apply((values - mean.view(shape)).square().sum(axes)) / count
        if self.training:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt() if self.weight is None else self.weight / (variance + self.eps).sqrt()
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return (values * scale.view(shape) + shift.view(shape)).to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of this batch."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
