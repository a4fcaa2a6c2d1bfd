"""Device, precision and processes of a run, through Accelerate."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Literal

import torch

from coterie.types import InputError, ItemSpec

Precision = Literal["auto", "bf16", "fp32"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc, malloc.h
LARGEST_KEPT = 32 * 2**20  # bytes; glibc takes no more
WORD = 20  # seconds of waiting for other processes, after which it is said
LONGEST_WAIT = 1800  # seconds, as torch waits
PATIENCE = 30  # seconds for the name of the machine to meet at, which a cluster may still be making known
MPI_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # the number of processes, of its launchers
BELOW_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")  # oneDNN's names


@dataclass(frozen=True)
class Place:
    """The device of this process, its rank, and the number of processes."""

    device: torch.device
    process_index: int = 0
    num_processes: int = 1

    @property
    def is_main_process(self) -> bool:
        return self.process_index == 0


def accelerator_for(device: str) -> Place:
    """The place of this process on `auto`, `cpu`, `cuda`, `cuda:1` or `mps`. InputError when the device is not there.

    Accelerate brings several processes together. It keeps one state for the whole Python process, which may be the
    caller's: it is not asked where there is one process, and else put back.
    """
    device = str(device)  # a torch.device, too
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise InputError(f"Unknown device {device!r}: use auto, cpu, cuda or mps.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"Device {device!r} was asked for, but torch sees no CUDA device: use --device cpu or auto.")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise InputError(f"Device {device!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("Device 'mps' was asked for, but torch sees none: use --device cpu or auto.")
    _check_launched()
    place = _one_of_several(kind) if several_processes() else Place(torch.device(_best() if kind == "auto" else device))
    if place.device.type == "cpu":
        keep_freed_memory()
    return place


def _best() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def several_processes() -> bool:
    """Whether a launcher started more processes than this one."""
    if _met():
        return torch.distributed.get_world_size() > 1
    return any(os.environ.get(name, "1") not in ("", "0", "1") for name in ("WORLD_SIZE", *MPI_SIZES))


def _met() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _check_launched() -> None:
    """Raise InputError where `accelerate launch` started one process and was told of several, as it does without cards,
    and where a number of processes stands in the environment without what a launcher sets beside it.

    Its launcher of one process says whether it is for a CPU, and where several, if they are several, would meet.
    """
    if {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys() and not several_processes():
        raise InputError(
            "accelerate launch was told of several processes and started one: without cards it needs --multi_gpu "
            "(coterie then --device cpu), or take torchrun; unset MASTER_ADDR if one process is what you want."
        )
    if _met() or any(name in os.environ for name in MPI_SIZES):
        return
    size = os.environ.get("WORLD_SIZE", "1")
    if size not in ("", "0", "1") and not {"RANK", "MASTER_ADDR"} <= os.environ.keys():
        raise InputError(
            f"WORLD_SIZE is {size[:20]} in the environment, but RANK or MASTER_ADDR is missing, so the processes "
            "cannot meet: start them with torchrun or accelerate launch, or unset WORLD_SIZE if you want one process."
        )
    if size not in ("", "0", "1"):
        _check_address(os.environ["MASTER_ADDR"])
        _check_listening(os.environ["MASTER_ADDR"], os.environ.get("MASTER_PORT", ""), os.environ["RANK"])


def _check_address(host: str) -> None:
    """Raise InputError for a machine that cannot be found: torch looks for it half an hour, and no signal stops it."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except (OSError, UnicodeError) as error:  # UnicodeError: a name too long for any machine
            if time.monotonic() >= end:
                raise InputError(
                    f"The machine where the processes are to meet cannot be found (MASTER_ADDR is {host[:80]!r}: "
                    f"{getattr(error, 'strerror', None) or error}): give them an address that each of them can reach."
                ) from error
        time.sleep(1)


def _check_listening(host: str, port: str, rank: str) -> None:
    """Wait until the first process listens; InputError if it never does. In torch no signal would end the wait."""
    if rank == "0" or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        return
    begun, said = time.monotonic(), False
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            waited = time.monotonic() - begun
            if waited >= LONGEST_WAIT:
                raise InputError(
                    f"Nobody listens where the processes are to meet ({_meeting()}: {error.strerror or error}): start "
                    "the process with RANK 0 on that machine, or set MASTER_ADDR and MASTER_PORT to where it is."
                ) from error
            if waited >= WORD and not said:
                _say_waiting("the process with RANK 0, which does not listen yet")
                said = True
        time.sleep(1)


def _meeting() -> str:
    return f"{os.environ.get('MASTER_ADDR', '?')[:80]}, port {os.environ.get('MASTER_PORT', '?')[:10]}"


def _say_waiting(whom: str) -> None:
    if sys.stderr is not None:
        print(f"coterie: waiting at {_meeting()} for {whom}.", file=sys.stderr, flush=True)


def _one_of_several(kind: str) -> Place:
    """The place among processes that a launcher started; Accelerate's own state is left as it was."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    states = [(state._shared_state, dict(state._shared_state)) for state in (AcceleratorState, GradientState)]
    for shared, _ in states:
        shared.clear()
    told = ", ".join(name for name in ("WORLD_SIZE", *MPI_SIZES) if name in os.environ)  # before Accelerate adds to it
    word = threading.Timer(WORD, _say_waiting, ["all processes that were announced"])
    word.daemon = True
    word.start()
    try:
        # Accelerate shares the work among processes on CPUs only when it is told that there is nothing else.
        accelerator = Accelerator(cpu=kind == "cpu" or (kind == "auto" and _best() == "cpu"), mixed_precision="no")
        return Place(accelerator.device, accelerator.process_index, accelerator.num_processes)
    except ValueError as error:  # of the environment: no address to meet at, or a number that is none
        raise InputError(
            f"Several processes were started, by {told} in the environment, and cannot meet ({error}): give them "
            "MASTER_ADDR, start them with torchrun, or unset that if you want one process."
        ) from error
    finally:
        word.cancel()
        for shared, before in states:
            shared.clear()
            shared.update(before)


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed, at most 2 GiB, for the next step; False where it cannot be told.

    Without it every activation above some size comes from the system and goes back to it, page by page, in every step,
    which costs a CPU training much of its time (benchmarks/allocator.py). Settings of the environment come first.
    """
    if any(name.startswith("MALLOC_") or name == "LD_PRELOAD" for name in os.environ):
        return False
    try:
        tune = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(tune(M_MMAP_THRESHOLD, LARGEST_KEPT) and tune(M_TRIM_THRESHOLD, 2**31 - 1))


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision that a backbone is trained in, and the reason, for the record."""

    name: Literal["bf16", "fp32"]
    why: str


def choose_precision(asked: Precision, spec: ItemSpec, device: torch.device) -> PrecisionChoice:
    """A rule, not a probe, so that the same settings on the same machine always train in the same precision.

    bfloat16 for convolutional backbones where the hardware multiplies it natively (AVX-512 BF16 or AMX on a CPU, or a
    CUDA card of compute capability 8 on); float32 for embeddings, whose nets are too small to gain.
    Raises InputError for an unknown precision.
    """
    if asked not in ("auto", "bf16", "fp32"):
        raise InputError(f"Unknown precision {asked!r}: use auto, bf16 or fp32.")
    if asked != "auto":
        return PrecisionChoice(asked, "asked for")
    if spec.kind == "embeddings":
        return PrecisionChoice("fp32", "embeddings")
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device)[0] >= 8
        return PrecisionChoice(
            "bf16" if native else "fp32", f"this card {'has' if native else 'lacks'} native bfloat16"
        )
    if device.type == "cpu":
        native = cpu_has_bf16()
        return PrecisionChoice(
            "bf16" if native else "fp32", f"this processor {'has' if native else 'lacks'} native bfloat16"
        )
    return PrecisionChoice("fp32", f"device {device.type}")


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively (AVX-512 BF16 or AMX) and oneDNN may use it."""
    most = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT"
    if most.upper() in BELOW_BF16:
        return False
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check()) if check is not None else False


def machine() -> dict[str, str | int]:
    """The machine, for whoever reads a measured number; no host name, no path."""
    facts: dict[str, str | int] = {
        "system": platform.system(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability() + (", bfloat16" if cpu_has_bf16() else ""),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
