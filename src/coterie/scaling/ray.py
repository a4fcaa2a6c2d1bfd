"""The engine of Ray: workers with one model each, and Ray Data, which hands out the parts.

Ray starts a worker that died again and gives it the part that it had. A part is written whole or not at all, so that
no row is lost and none is there twice.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from coterie.common.callers import as_written
from coterie.common.extras import imported
from coterie.scaling.engines import Task
from coterie.types import InputError, RunFailed

ADDRESS = "RAY_ADDRESS"  # of a cluster, as Ray itself reads it; without it Ray is started on this machine
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}  # else Ray reports its use over the network
STORE = 128 << 20  # bytes of Ray's own store here, through which go numbers of parts alone
PATIENCE = 20.0  # seconds for a cluster to answer
AHEAD = 2  # parts that a worker has been given, so that it never waits


@dataclass(frozen=True)
class OnRay:
    """Runs a task on `workers` workers; None: as many as the machines have room for."""

    workers: int | None = None

    def __call__(self, task: Task, numbers: Sequence[int]) -> Iterator[str]:
        """Yield each answer. Raises InputError of a worker or for want of Ray, RunFailed where Ray gives up."""
        card = task.device.startswith("cuda")
        with running() as ray:
            most = room(ray, task.threads, card=card)
            workers = min(self.workers or most, most, len(numbers))
            data = ray.data
            context = data.DataContext.get_current()
            context.enable_progress_bars = False
            tasks = data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
            answers = tasks.map_batches(
                Actor,
                fn_constructor_args=[task],
                batch_size=1,
                batch_format="numpy",
                compute=data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=AHEAD),
                num_cpus=0 if card else task.threads,
                num_gpus=1 if card else 0,
                runtime_env={"env_vars": {"OMP_NUM_THREADS": str(task.threads)}},
            )
            try:
                for row in answers.iter_rows():
                    answer = json.loads(str(row["answer"]))
                    if answer["refused"]:
                        raise InputError(answer["refused"])
                    yield answer["said"]
            except ray.exceptions.RayError as error:
                lines = [line for line in str(error).splitlines() if line.strip()]
                raise RunFailed(
                    f"Ray gave up ({lines[-1].strip()[:200] if lines else type(error).__name__}).",
                    "The parts that are done are kept: the same command goes on with the others.",
                ) from error


class Actor:
    """A task in one of Ray's processes."""

    def __init__(self, task: Task) -> None:
        import torch

        torch.set_num_threads(task.threads)
        self.task = task

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Work on one part. An InputError is returned, not raised: Ray would retry what cannot succeed."""
        answer = {"refused": "", "said": ""}
        try:
            with as_written():  # the process that asked puts messages into its caller's words
                answer["said"] = self.task(int(batch["number"][0]))
        except InputError as error:
            answer["refused"] = str(error)
        return {"answer": [json.dumps(answer)]}


@contextmanager
def running() -> Iterator[Any]:
    """Ray, for the block: the caller's, the cluster's at `RAY_ADDRESS`, or a local one that ends with it."""
    unset = {name: value for name, value in QUIET.items() if name not in os.environ}
    os.environ.update(unset)
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    ours = False
    try:
        ray = _imported()
        if not ray.is_initialized():
            ours = True
            _start(ray, os.environ.get(ADDRESS))
            if main:
                signal.signal(signal.SIGTERM, before)  # Ray takes it for itself
        yield ray
    finally:
        for name in unset:
            os.environ.pop(name, None)
        if ours:
            ray.shutdown()
            if main:
                signal.signal(signal.SIGTERM, before)


def _imported() -> Any:
    absent = "--engine ray needs its extra: pip install 'coterie[ray]'."
    ray = imported("ray", absent)
    imported("ray.data", absent)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it would tell its plans
    return ray


def _start(ray: Any, address: str | None) -> None:
    """Connect to Ray at the address, or start it here. Raises InputError where there is none."""
    how: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if not address:
        how |= {"num_cpus": processors(), "object_store_memory": STORE, "include_dashboard": False}
    try:
        if address:
            _knock(address)
        ray.init(address=address or "local", **how)
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        where = f"at {address} ({ADDRESS})" if address else "on this machine"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"There is no Ray {where}: {reason.rstrip('.')}; or leave --engine ray out.") from error


def _knock(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def room(ray: Any, threads: int, *, card: bool) -> int:
    """How many workers all machines together have room for. Raises InputError where none has room for one."""
    what, each = ("GPU", 1) if card else ("CPU", threads)
    nodes = [node["Resources"].get(what, 0) for node in ray.nodes() if node["Alive"]]
    places = sum(int(has // each) for has in nodes)
    if places == 0:
        most = int(max(nodes, default=0))
        if card:
            raise InputError("--device cuda needs a card for each worker, and Ray knows of none.")
        raise InputError(
            f"A worker has {threads} threads, as this process, and no machine of Ray's has more than {most} "
            f"processors: set OMP_NUM_THREADS={max(1, most)}."
        )
    return places
