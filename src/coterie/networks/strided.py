"""Strided 1×1 convolutions of few channels, computed another way: oneDNN's kernel for them writes past its memory."""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

FEW = 16  # floats in the longest register; with fewer input channels the kernel's rows overlap and run past its end


def avoid_overrun(net: nn.Module) -> None:
    """Let each strided 1×1 convolution of fewer than 16 channels take every s-th pixel first and have unit stride.

    It is the same sum over the same pixels. oneDNN's weight gradient of such a layer in channels-last aborts, hangs or
    is wrong (uxlfoundation/oneDNN#6035): on AVX2 below 8 input channels, on AVX-512 below 16. With unit stride it needs
    no buffer for the reduced image, which is what it runs past. Weights, their names and all other layers stay as they
    are, and a second call changes nothing.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and may_overrun(layer):
            layer.register_forward_pre_hook(partial(_every, layer.stride))
            layer.stride = (1, 1)


def may_overrun(layer: nn.Conv2d) -> bool:
    """Whether oneDNN, on any processor, may compute this layer's weight gradient with the faulty kernel."""
    plain = max(layer.kernel_size) == 1 and layer.groups == 1 and layer.padding in ((0, 0), "valid")
    return plain and max(layer.stride) > 1 and layer.in_channels < FEW


def _every(
    stride: tuple[int, ...], layer: nn.Module, inputs: tuple[Float[Tensor, "b c h w"], ...]
) -> tuple[Float[Tensor, "b c y x"], ...]:
    return (inputs[0][:, :, :: stride[0], :: stride[1]], *inputs[1:])
