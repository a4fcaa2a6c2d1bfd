"""What it brings a CPU training to keep freed memory (coterie.training.device.keep_freed_memory).

    python benchmarks/allocator.py

Bare forward and backward passes of two backbones in bfloat16 (float32 where the processor lacks it), in processes of
their own, with and without; they take turns, and the middle of seven pairs counts. Let nothing else run beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import torch
from _measure import seconds, write_results

from coterie.networks.backbones import build_backbone
from coterie.networks.net import HalfPrecision
from coterie.training.device import cpu_has_bf16, keep_freed_memory
from coterie.types import ItemSpec

PAIRS, BATCH = 7, 256
NETS = {"small-16": ItemSpec("images", 1, 28, 28), "small-32": ItemSpec("images", 3, 32, 32)}


def step_seconds(name: str, keep: bool) -> float:
    """Median seconds of a step in this process."""
    if keep and not keep_freed_memory():
        sys.exit("this system's allocator cannot be told (or MALLOC_* is set)")
    spec = NETS[name]
    net = HalfPrecision(build_backbone(name, spec), enabled=cpu_has_bf16()).to(memory_format=torch.channels_last)
    x = torch.randn(BATCH, spec.channels, spec.height, spec.width)

    def step() -> None:
        net(x).square().mean().backward()
        net.zero_grad()

    return seconds([step], repeats=15, warm_up=4)[0]


def measure(name: str, keep: bool) -> float:
    found = subprocess.run([sys.executable, __file__, name, str(int(keep))], capture_output=True, text=True, check=True)
    return float(found.stdout)


def pair(name: str) -> dict[str, Any]:
    pairs = sorted((with_it / without, with_it, without) for with_it, without in _pairs(name))
    ratio, with_it, without = pairs[PAIRS // 2]
    return {
        "batch": BATCH,
        "kept_seconds": round(with_it, 4),
        "plain_seconds": round(without, 4),
        "ratio": round(ratio, 3),
        "ratios": [round(one[0], 3) for one in pairs],
    }


def _pairs(name: str) -> list[tuple[float, float]]:
    return [(measure(name, True), measure(name, False)) for _ in range(PAIRS)]


def main() -> None:
    if any(variable.startswith("MALLOC_") for variable in os.environ):
        sys.exit("MALLOC_* is set: the comparison would show nothing")
    results = {name: pair(name) for name in NETS}
    for name, found in results.items():
        print(name, found)
    print(write_results("allocator", "python benchmarks/allocator.py", **results))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(step_seconds(sys.argv[1], bool(int(sys.argv[2]))))
    else:
        main()
