"""The generated parts of the page on methods that group the embeddings of an encoder."""

from __future__ import annotations

from typing import Any

from _docs import RESULTS, Block, records, score_cells, table

NAMES = {"sklearn": "K-means (scikit-learn)"}


def frozen_heads() -> str:
    """A table for each source that has run."""
    found = [records(path.stem) for path in sorted(RESULTS.glob("frozen_heads_*.json"))]
    return "\n".join(f"### {one['data']}\n\n{said(one)}\n{of_source(one)}" for one in found)


def said(one: dict[str, Any]) -> str:
    """What was embedded, by what, and how long it took."""
    times = one["embedding"]
    took = f", embedded in {times['processor_seconds']:,.0f} s of processor" if times else ""
    bounds = ", ".join(f"{name} {100 * bound:.1f}" for name, bound in one["bounds"].items())
    allowed = f" Mean accuracy that the runs' disagreement allows, without labels, percent: {bounds}." if bounds else ""
    return f"{one['n']:,} pictures{took}. Features {one['features']} ({one['encoding']['encoder']}).{allowed}\n"


def of_source(one: dict[str, Any]) -> str:
    rows = []
    for method in dict.fromkeys(run["method"] for run in one["runs"]):
        runs = [run for run in one["runs"] if run["method"] == method]
        metrics = [run["metrics"] for run in runs]
        sure = score_cells(metrics, ("ece", "confidence")) if "ece" in metrics[0] else ["", ""]
        times = [f"{sum(run[key] for run in runs) / len(runs):.0f}" for key in ("seconds", "processor_seconds")]
        name = NAMES.get(method, method) + (f" ({runs[0]['stages'][-1]})" if method == "auto" else "")
        rows.append([name, str(len(runs)), *score_cells(metrics, ("acc", "nmi", "ari")), *sure, *times])
    head = ["method", "seeds", "ACC", "NMI", "ARI", "ECE", "confidence", "seconds", "of processor"]
    return table(head, rows, one["command"])


def graph_choice() -> str:
    """What speaks for the components and the graph, without labels."""
    found = records("graph_choice")
    rows = []
    for one in found["records"]:
        plain, reduced = one["as they are"], one["components"]
        pairs = [f"{plain[key]:.{digits}f}, {reduced[key]:.{digits}f}" for key, digits in (("hubs", 2), ("mutual", 2))]
        agreed = [f"{value:.3f}" for value in (plain["kmeans"], reduced["kmeans"], one["spectral"])]
        rows.append([one["data"], f"{one['n']:,}", *pairs, *agreed])
    head = ["data", "items", "hubs: as they are, components", "mutual: as they are, components"]
    return table([*head, "κ of K-means", "κ of K-means on components", "κ of `spectral`"], rows, found["command"])


BLOCKS: dict[str, Block] = {"frozen-heads": frozen_heads, "graph-choice": graph_choice}
