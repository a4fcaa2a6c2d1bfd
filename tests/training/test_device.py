from __future__ import annotations

import os
import socket

import pytest
import torch

from coterie.training.device import accelerator_for, choose_precision, cpu_has_bf16, machine
from coterie.types import InputError, ItemSpec
from helpers import forked

IMAGES, VECTORS = ItemSpec("images", 3, 32, 32), ItemSpec("embeddings", dim=9)


@pytest.mark.parametrize("device", ["gpu", "cpux", "", "tpu:0"])
def test_an_unknown_device_is_named(device: str) -> None:
    with pytest.raises(InputError, match=f"device '{device}': use auto, cpu, cuda or mps"):
        accelerator_for(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="'cuda:1' was asked for"):
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


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize("most", ["AVX2", "avx2", "SSE41", "AVX512_CORE", "AVX512_CORE_VNNI"])
def test_a_processor_that_is_to_do_without_bfloat16_trains_in_float32(
    name: str, most: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, most)
    assert choose_precision("auto", IMAGES, torch.device("cpu")).name == "fp32"


@pytest.mark.parametrize("most", ["", "DEFAULT", "ALL", "AVX512_CORE_BF16", "AVX512_CORE_AMX"])
def test_any_other_setting_of_onednn_leaves_it_to_the_processor(most: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    natively = cpu_has_bf16()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", most)
    assert cpu_has_bf16() == natively


def test_the_machine_is_described_without_its_name() -> None:
    facts = machine()
    assert facts["threads"] == torch.get_num_threads()
    assert socket.gethostname() not in map(str, facts.values())


def test_the_machine_says_what_its_processor_computes_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert machine()["instructions"] == torch.backends.cpu.get_cpu_capability()  # no ", bfloat16"
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True, raising=False)
    assert str(machine()["instructions"]).endswith(", bfloat16")


FAULTS = """
import ctypes, resource, torch
from coterie.training.device import M_MMAP_THRESHOLD, keep_freed_memory
def touch(): [torch.ones(2**20) for _ in range(40)]  # as the activations of a step: 40 times 4 MiB, freed together
def faults():
    for _ in range(2): touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10): touch()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**17)  # glibc's start; it would move by itself, and with luck far enough
print(faults(), keep_freed_memory(), faults())
"""


def page_faults(**environment: str) -> tuple[int, str, int]:
    """Before, what `keep_freed_memory` said, and after it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | environment
    found = forked.run(FAULTS, env=clean)
    assert found.returncode == 0, found.stderr
    before, told, after = found.stdout.decode().split()
    return int(before), told, int(after)


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="glibc"
)
def test_freed_memory_is_kept_for_the_next_step_unless_the_environment_says_otherwise() -> None:
    before, told, after = page_faults()
    assert told == "True"
    assert before >= 400  # 10 times 40 blocks, and at least one page of each
    assert after < before / 4
    before, told, after = page_faults(MALLOC_ARENA_MAX="4")
    assert told == "False"
    assert after > before / 2
