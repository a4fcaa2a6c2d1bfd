"""The table of extras, from benchmarks/results/install_size.json; install_size_cpu.json is of torch without CUDA."""

from __future__ import annotations

import json

from _docs import BENCHMARKS

FOR = {
    "": "everything but the lines below",
    "docs": "building this documentation",
    "encoder": "a pretrained encoder with its weights, for photos ([encoders](encoders.md))",
    "heif": "HEIC pictures, as telephones write them",
    "medmnist": "the MedMNIST data sets",
    "neighbours": "approximate nearest neighbours of very many points",
    "ray": "prediction and embedding by many processes and machines",
    "review": "the review app in the browser ([review](review.md))",
}


def sizes() -> str:
    """One row for each extra: what it is for, and what it adds."""
    found = json.loads((BENCHMARKS / "install_size.json").read_text(encoding="utf-8"))
    rows = ["| extra | what it is for | adds, MB | largest |", "|---|---|---|---|"]
    for extra, size in found["extras"].items():
        name = f"`coterie[{extra}]`" if extra else "none"
        largest = ", ".join(f"{part} {of:.0f}" for part, of in list(size["largest"].items())[:3] if of >= 0.5)
        rows.append(f"| {name} | {FOR[extra]} | {size['megabytes']:.0f} | {largest} |")
    cuda = found["torch"]["cuda"]
    build = f"torch {found['torch']['version']}, " + (f"built for CUDA {cuda}" if cuda else "built without CUDA")
    return "\n".join(rows) + f"\n\nOn Linux with {build}: `{found['command']}`\n"


def size_without_cuda() -> str:
    """What coterie itself takes with torch's build for processors."""
    found = json.loads((BENCHMARKS / "install_size_cpu.json").read_text(encoding="utf-8"))
    base = found["extras"][""]
    return (
        f"coterie itself then takes {base['megabytes']:,.0f} MB, of which torch {base['largest']['torch']:.0f}; what "
        f"the extras add is the same (Linux, torch {found['torch']['version']}: `{found['command']}`).\n"
    )


BLOCKS = {"install_sizes": sizes, "install_size_cpu": size_without_cuda}
