"""Batch normalisation and padding folded into convolutions: the same embeddings with fewer passes over memory."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from coterie.networks.draws import OwnDraws

TOLERANCE = 1e-4  # of the largest number of an embedding


@torch.no_grad()
def folded(net: nn.Module, probe: Float[Tensor, "b 3 h w"]) -> nn.Module:
    """A copy of a net in evaluation mode without the normalisations that follow a convolution; on a CPU its
    convolutions pad by themselves, for items of the form of `probe`.

    Which module follows which is guessed from the order of their names, so the result is checked on `probe`: the net
    itself is returned where there is nothing to fold, or where an embedding of `probe` changes by more than rounding.
    """
    made = copy.deepcopy(net)
    count = sum(_fold(module) for module in list(made.modules()))
    if probe.device.type == "cpu":
        count += _pad_inside(made, probe)
    if not count:
        return net
    before, after = net(probe), made(probe)
    same = before.shape == after.shape and bool((before - after).abs().max() <= TOLERANCE * before.abs().max())
    return made if same else net


def _fold(module: nn.Module) -> int:
    """Fold the normalisations directly in a module; returns how many."""
    names, count = list(module._modules), 0
    for name, following in pairwise(names):
        convolution, norm = module._modules[name], module._modules[following]
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        if norm.num_features != convolution.out_channels or norm.running_mean is None:
            continue
        setattr(module, name, fuse_conv_bn_eval(convolution, norm))
        # timm's normalisations hold the activation that comes after them.
        setattr(module, following, getattr(norm, "act", nn.Identity()))
        count += 1
    return count


def _pad_inside(net: nn.Module, probe: Float[Tensor, "b 3 h w"]) -> int:
    """Let convolutions with TensorFlow's padding pad by themselves, where timm copies all pixels; returns how many.

    A side that gets one row less than the other is evened out by a row of zeros before the kernel.
    """
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.padding import pad_same_arg

    def note(own: nn.Module, given: tuple[Tensor, ...]) -> None:
        sizes[own] = list(given[0].shape[-2:])

    sizes: dict[nn.Module, list[int]] = {}
    places = [
        (module, name, part)
        for module in net.modules()
        for name, part in module._modules.items()
        if isinstance(part, Conv2dSame)
    ]
    if not places:
        return 0
    hooks = [part.register_forward_pre_hook(note) for _, _, part in places]
    net(probe)
    for hook in hooks:
        hook.remove()
    count = 0
    for module, name, old in places:
        if old not in sizes or old.dilation != (1, 1):
            continue
        left, right, above, below = pad_same_arg(sizes[old], list(old.kernel_size), list(old.stride))
        form: dict[str, Any] = {"padding": (below, right), "groups": old.groups, "bias": old.bias is not None}
        with OwnDraws():
            made = nn.Conv2d(old.in_channels, old.out_channels, old.kernel_size, old.stride, **form)  # type: ignore[arg-type]
        made.weight = nn.Parameter(functional.pad(old.weight, (right - left, 0, below - above, 0)))
        made.bias = old.bias
        setattr(module, name, made)
        count += 1
    return count
