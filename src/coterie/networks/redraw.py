"""A backbone with the weights of another run, made as if it were new."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from coterie.networks.residual import kaiming_convolutions


@torch.no_grad()
def redraw(trunk: nn.Module, generator: torch.Generator) -> None:
    """Draw all that is trained anew: convolutions normal, of variance 2 / fan out, other layers as PyTorch's begin,
    normalisations as the identity, their running statistics too.

    On the CPU, so that the weights are the same on every device; what is fixed stays as it is.
    """
    fresh = copy.deepcopy(trunk).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for module in fresh.modules():
            own = list(module.parameters(recurse=False))
            statistics = getattr(module, "running_mean", None), getattr(module, "running_var", None)
            if isinstance(statistics[0], Tensor) and isinstance(statistics[1], Tensor):
                statistics[0].zero_()
                statistics[1].fill_(1.0)
                for parameter, value in zip(own, (1.0, 0.0), strict=False):  # weight, bias
                    parameter.fill_(value)
            elif all(parameter.requires_grad for parameter in own):
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
        kaiming_convolutions(fresh)
    trunk.load_state_dict(fresh.state_dict())
