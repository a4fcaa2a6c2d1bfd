"""Two hosts train one run together: two network namespaces of this machine, joined by a virtual cable.

    python benchmarks/two_hosts.py [--epochs 2]

Needs root on Linux (`ip netns`). Each host has a network of its own with one address and sees the other over the cable
alone, as machines of a cluster do; they share the disk, as a cluster's machines share a file system. `torchrun` starts
one process on each, then `accelerate launch` does the same, and both runs are compared with that of one process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _measure import write_results

from coterie.prediction.results import read_result

PORT = 29533
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Host:
    """A network namespace with one end of the cable."""

    name: str
    cable: str
    address: str

    def command(self, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *arguments]

    def sent(self) -> int:
        """Bytes that went out over the cable."""
        path = f"/sys/class/net/{self.cable}/statistics/tx_bytes"
        return int(subprocess.run(self.command("cat", path), check=True, capture_output=True, text=True).stdout)


HOSTS = (Host("coterie-a", "cable-a", "10.77.0.1"), Host("coterie-b", "cable-b", "10.77.0.2"))


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make both, and remove them in the end."""
    first, second = HOSTS
    try:
        for host in HOSTS:
            ip("netns", "add", host.name)
        ip("link", "add", first.cable, "netns", first.name, "type", "veth", "peer", second.cable, "netns", second.name)
        for host in HOSTS:
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.cable)
            for device in ("lo", host.cable):
                ip("-n", host.name, "link", "set", device, "up")
        yield HOSTS
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "delete", host.name], stderr=subprocess.DEVNULL)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def fit(out: Path, epochs: int) -> list[str]:
    quick = ["--backbone", "small-8", "--epochs", str(epochs), "--set", f"moco.epochs={epochs}"]
    same = ["--device", "cpu", "--precision", "fp32", "--set", "moco.batch_size=128", "--set", "cdc.init=kmeans"]
    return ["-m", "coterie", "fit", "digits", "-k", "10", "-o", str(out), "-q", *quick, *same]


def torchrun(rank: int) -> list[str]:
    where = ["--master-addr", HOSTS[0].address, "--master-port", str(PORT)]
    return [str(BIN / "torchrun"), "--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1", *where]


def accelerate(rank: int) -> list[str]:
    where = ["--main_process_ip", HOSTS[0].address, "--main_process_port", str(PORT), "--same_network"]
    count = ["--num_machines", "2", "--num_processes", "2", "--machine_rank", str(rank)]
    others = ["--mixed_precision", "no", "--dynamo_backend", "no"]
    return [str(BIN / "accelerate"), "launch", "--multi_gpu", *count, *where, *others]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


def together(launcher: Callable[[int], list[str]], out: Path, epochs: int) -> dict[str, Any]:
    """One run by both hosts."""
    with two_hosts() as hosts:
        begun = time.monotonic()
        processes = [
            subprocess.Popen(
                host.command(*launcher(rank), *fit(out, epochs)),
                env=environment(GLOO_SOCKET_IFNAME=host.cable, NCCL_SOCKET_IFNAME=host.cable),
                stdout=subprocess.DEVNULL,
            )
            for rank, host in enumerate(hosts)
        ]
        codes = [process.wait() for process in processes]
        assert codes == [0, 0], codes
        seconds = round(time.monotonic() - begun, 1)
        return {"seconds": seconds, "megabytes_sent": [round(host.sent() / 1e6, 1) for host in hosts]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    epochs = parser.parse_args().epochs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.monotonic()
        subprocess.run([sys.executable, *fit(folder / "one", epochs)], check=True, env=environment(),
                       stdout=subprocess.DEVNULL)  # fmt: skip
        results: dict[str, Any] = {"one process": {"seconds": round(time.monotonic() - begun, 1)}}
        one = read_result(folder / "one" / "result.parquet")
        for kind, launcher in (("torchrun", torchrun), ("accelerate launch", accelerate)):
            out = folder / kind.split()[0]
            found = together(launcher, out, epochs)
            two = read_result(out / "result.parquet")
            found["same_labels"] = float(np.mean(one.labels == two.labels))
            found["largest_difference_of_a_probability"] = max(
                float(np.abs(one.heads[head] - two.heads[head]).max()) for head in one.heads
            )
            results[f"two hosts, {kind}"] = found
            print(kind, found)
    print(write_results("two_hosts", f"python benchmarks/two_hosts.py --epochs {epochs}", n=1797, runs=results))


if __name__ == "__main__":
    main()
