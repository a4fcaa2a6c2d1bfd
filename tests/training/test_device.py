from __future__ import annotations

import socket

import pytest
import torch

from coterie.training.device import accelerator_for, choose_precision, machine
from coterie.types import InputError, ItemSpec

IMAGES, VECTORS = ItemSpec("images", 3, 32, 32), ItemSpec("embeddings", dim=9)


@pytest.mark.parametrize("device", ["gpu", "cpux", "", "tpu:0"])
def test_an_unknown_device_is_named(device: str) -> None:
    with pytest.raises(InputError, match=f"device '{device}': use auto, cpu, cuda or mps"):
        accelerator_for(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="'cuda' was asked for"):
        accelerator_for("cuda:1")


def test_one_process_after_the_other_may_ask_for_devices() -> None:
    for device in ("cpu", "auto", "cpu"):
        accelerator = accelerator_for(device)
        assert accelerator.num_processes == 1
    assert accelerator.device.type == "cpu"


def test_precision_is_what_was_asked_for_or_a_rule_with_a_reason() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("fp32", IMAGES, cpu).name == "fp32"
    assert choose_precision("bf16", VECTORS, cpu).name == "bf16"
    assert choose_precision("auto", VECTORS, cpu).name == "fp32"
    assert choose_precision("auto", IMAGES, cpu) == choose_precision("auto", IMAGES, cpu)
    assert choose_precision("auto", IMAGES, cpu).why


def test_the_machine_is_described_without_its_name() -> None:
    facts = machine()
    assert facts["threads"] == torch.get_num_threads()
    assert socket.gethostname() not in map(str, facts.values())
