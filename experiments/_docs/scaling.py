"""The tables of docs/several_machines.md, from benchmarks/results/."""

from __future__ import annotations

from typing import Any

from _docs import BENCHMARKS, Block, records, table


def two_hosts() -> str:
    """One run by two network namespaces beside one process."""
    found = records("two_hosts", BENCHMARKS)
    rows = []
    for name, one in found["runs"].items():
        far, sent = one.get("largest_difference_of_a_probability"), one.get("megabytes_sent")
        rows.append(
            [
                name,
                f"{one['seconds']:.0f}",
                "" if far is None else f"{100 * one['same_labels']:.1f} %",
                "" if far is None else f"{far:.2g}",
                "" if sent is None else " / ".join(f"{part:.0f}" for part in sent),
            ]
        )
    head = ["", "seconds", "labels as of one process", "largest difference of a probability", "MB sent, each host"]
    return table(head, rows, found["command"]).rstrip("\n") + f" ({_machine(found)})\n"


def engines() -> str:
    """The local engine, two workers of Ray, and two workers of which some are killed, on the same items."""
    found = records("ray_engine", BENCHMARKS)
    rows = []
    for kind in ("embeddings", "pictures"):
        one = found[kind]
        for name, seconds in one["seconds"].items():
            killed = name.endswith("kills")
            same = {"local": ""}.get(name, "equal" if one["equal_after_kills" if killed else "equal"] else "not equal")
            rows.append(
                [
                    f"{one['n']:,} {kind}",
                    f"ray, {len(one['killed_after_seconds'])} workers killed" if killed else name,
                    f"{seconds:.0f}",
                    f"{one['peak_megabytes'][name]:,}" if name in one["peak_megabytes"] else "",
                    same,
                ]
            )
    head = ["items", "engine", "seconds", "peak MB of all processes", "table, beside the local one"]
    return table(head, rows, found["command"]).rstrip("\n") + f" ({_machine(found)}, Ray {found['ray']})\n"


def _machine(found: dict[str, Any]) -> str:
    return f"{found['machine']['processor']}, {found['machine']['cores']} cores"


BLOCKS: dict[str, Block] = {"engines": engines, "two-hosts": two_hosts}
