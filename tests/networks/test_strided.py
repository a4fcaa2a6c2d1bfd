"""Strided 1×1 convolutions of few channels: no net may reach the kernel that writes outside its memory."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.networks.strided import avoid_overrun, may_overrun
from coterie.types import ItemSpec

WORKER = Path(__file__).with_name("gradients.py")
ALIKE = 0.05  # relative: rounding moves a ReLU now and then; a wrong kernel is off by 1 and more
LONG = 3600  # seconds, against a hang


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["AVX2", "DEFAULT"])
def test_the_gradients_of_every_net_are_right_on_every_processor_and_thread_count(isa: str) -> None:
    cpu = Path("/proc/cpuinfo")
    if isa == "DEFAULT" and cpu.exists() and "avx512f" not in cpu.read_text():
        pytest.skip("this processor has no AVX-512: the kernels are those of AVX2, which are tried already")
    found = subprocess.run(
        [sys.executable, str(WORKER), "1", "2"],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": isa, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert found.returncode == 0, (found.stdout[-200:], found.stderr[-500:])
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(rows) >= 60
    assert [row for row in rows if not row[2] < ALIKE] == []


class Strided(TorchDispatchMode):
    """Notes each weight gradient of a strided 1×1 convolution of few channels in one group, whoever asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions, self.faulty = 0, list[tuple[int, ...]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            weight, stride, groups = args[2], args[4], args[9]
            self.convolutions += 1
            if tuple(weight.shape[2:]) == (1, 1) and max(stride) > 1 and groups == 1 and weight.shape[1] < 16:
                self.faulty.append(tuple(weight.shape))
        return func(*args, **(kwargs or {}))


def seen(net: nn.Module, items: Tensor) -> Strided:
    with Strided() as mode:
        net.train()(items).square().mean().backward()
    assert mode.convolutions
    return mode


def strided(inside: int = 3, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(inside, 8, 1, **{"stride": 2, **more})


def test_the_watch_sees_such_a_layer() -> None:
    # In rows, where it does no harm.
    assert seen(strided(), torch.randn(2, 3, 6, 6)).faulty == [(8, 3, 1, 1)]


@pytest.mark.parametrize(
    "name",
    ["small-4", "small-8", "small-15", "sobel+small-5", "pica-resnet34", "ae-conv", "sobel+repvgg_a0", "resnet18",
     "resnet26d", "gernet_s", "repvgg_a0", "mobileone_s0", "regnetx_002"],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_no_net_asks_for_the_weight_gradient_of_such_a_layer(name: str, channels: int) -> None:
    spec = ItemSpec("images", channels=channels, height=32, width=32)
    net = Net(build_backbone(name, spec), spec, torch.zeros(channels), torch.ones(channels), half=False)
    net.add({"head": strided()})
    assert seen(net.backbone, torch.randn(2, channels, 32, 32)).faulty == []
    assert seen(net.head, torch.randn(2, 3, 8, 8)).faulty == []
    assert not [layer for layer in net.modules() if isinstance(layer, nn.Conv2d) and may_overrun(layer)]


@pytest.mark.parametrize(
    "layer",
    [strided(), strided(1), strided(15), strided(7, stride=(1, 3)), strided(7, stride=(3, 1)), strided(4, bias=False),
     strided(4, padding="valid"), Conv2dSame(6, 8, 1, stride=2)],
)  # fmt: skip
@pytest.mark.parametrize("size", [(8, 8), (7, 6), (1, 1), (2, 5)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_changed_layer_is_the_same_function(
    layer: nn.Conv2d, size: tuple[int, int], layout: torch.memory_format
) -> None:
    images = torch.randn(3, layer.in_channels, *size, dtype=torch.float64)
    layer = copy.deepcopy(layer).double()
    changed = copy.deepcopy(layer).to(memory_format=layout)
    avoid_overrun(changed)
    avoid_overrun(changed)
    expected, found = layer(images), copy.deepcopy(changed)(images.contiguous(memory_format=layout))
    torch.testing.assert_close(found, expected)
    assert changed.stride == (1, 1)
    assert list(changed.state_dict()) == list(layer.state_dict())


@pytest.mark.parametrize(
    "layer",
    [strided(16), strided(64), strided(3, stride=1), strided(8, groups=8), strided(8, groups=2), strided(3, padding=1),
     nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(3, 8, (1, 3), stride=2)],
)  # fmt: skip
def test_any_other_layer_stays_as_it_is(layer: nn.Conv2d) -> None:
    stride = layer.stride
    avoid_overrun(layer)
    assert layer.stride == stride
    assert not layer._forward_pre_hooks
