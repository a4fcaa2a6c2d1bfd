"""The table of docs/several_machines.md, from benchmarks/results/."""

from __future__ import annotations

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
    said = f"{found['machine']['processor']}, {found['machine']['cores']} cores"
    return table(head, rows, found["command"]).rstrip("\n") + f" ({said})\n"


BLOCKS: dict[str, Block] = {"two-hosts": two_hosts}
