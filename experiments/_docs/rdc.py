"""The generated parts of R-DC's page and of those of the auto-encoder family."""

from __future__ import annotations

import functools
import statistics
from typing import Any

import autoencoders
import rdc_claim
import rdc_contraction
import rdc_search
import rdc_shift
from _pages import mean_and_deviation

from _docs import Block, percent, records, score_cells, table, table_of

FAMILY = ("finch", "ae", "deepfinch", "dec", "idec", "dcn", "vade", "acai", "dynae", "adec")


def family(name: str) -> str:
    found = records(f"autoencoders_{name}")
    return table_of(autoencoders.page(found["records"], ""), found["command"])


def of_method(row: str) -> str:
    """One row of the family's table, as a sentence."""
    found = records("autoencoders_fashion-mnist")
    metrics = {"acc": "ACC", "f1": "macro F1", "nmi": "NMI", "ari": "ARI", "ece": "ECE"}
    mine = [one["metrics"] for one in found["records"] if one["row"] == row]
    cells = score_cells(mine, metrics)
    numbers = ", ".join(f"{name} {cell}" for name, cell in zip(metrics.values(), cells, strict=True))
    return f"{numbers}.\n`{found['command']}`\n"


def search() -> str:
    found = records("rdc_search_fashion-mnist")
    first = [one for one in found["records"] if "title" not in one]
    rows = [one for one in found["records"] if "title" in one]
    return table_of(rdc_search.page(first, rows, ""), found["command"])


def contraction() -> str:
    found = records("rdc_contraction_fashion-mnist")
    return table_of(rdc_contraction.page(found["records"], "", 0), found["command"])


def claim() -> str:
    """The claim's table, and the rows that have no run, with the command that makes them."""
    found = records("rdc_claim_fashion-mnist")
    there = {one["title"] for one in found["records"]}
    missing = [title for title in rdc_claim.ROWS if title not in there]
    text = table_of(rdc_claim.page(found["records"], ""), found["command"])
    if missing:
        command = f"{found['command']} --rows " + " ".join(f'"{title}"' for title in missing)
        text += f"\nNot run: {'; '.join(missing)}. `{command}`\n"
    return text


def noise() -> str:
    """By sigma, means over seeds."""
    found = records("noise")
    sigmas = sorted({one["sigma"] for one in found["records"]})

    def line(title: str, method: str, key: str) -> list[str]:
        by = [[one["methods"][method][key] for one in found["records"] if one["sigma"] == sigma] for sigma in sigmas]
        return [title, *(mean_and_deviation(values) for values in by)]

    rows = [
        line(f"{name} {who}", method, key)
        for key, name in (("acc", "ACC"), ("nmi", "NMI"))
        for method, who in (("acai", "after phase 1"), ("rdc", "of R-DC"))
    ]
    return table(["sigma", *(f"{sigma:g}" for sigma in sigmas)], rows, found["command"])


def toy() -> str:
    found = records("toy_arcs")
    keys = ("true_neighbours", "silhouette", "singular_ratio", "acc")
    rows = []
    for net, title in (("linear", "linear"), ("relu", "ReLU, 64 wide")):
        for stage, name in (("reconstruction", "reconstruction"), ("dec", "DEC"), ("rdc", "R-DC")):
            mine = [one["stages"][stage] for one in found["records"] if one["net"] == net]
            rows.append(
                [title if stage == "reconstruction" else "", name, *(plain([m[key] for m in mine]) for key in keys)]
            )
    head = ["net", "after", "true among 5 neighbours", "silhouette by true arc", "ratio of singular values"]
    return table([*head, "ACC of K-means"], rows, found["command"])


def plain(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def shift() -> str:
    """How far a shift moves a code, by phase 1."""
    found = records("rdc_shift_fashion-mnist")
    return table_of(rdc_shift.page(found["records"], ""), found["command"])


def geometry() -> str:
    """Figures 14 and 15 by both definitions, on the codes of the claim's runs."""
    found = records("rdc_geometry_fashion-mnist")
    rows = [geometry_row(title, found["records"]) for title in dict.fromkeys(one["title"] for one in found["records"])]
    head = [
        "code after",
        "deviations along the first two directions",
        "ID, LID: classes",
        "ID, LID: K-means groups",
        "LID as theirs: classes, groups",
        "true neighbours of core items, before and after the filter",
        "the same as theirs, the item counted",
        "seeds",
    ]
    return table(head, rows, found["command"])


def geometry_row(title: str, every: list[dict[str, Any]]) -> list[str]:
    mine = [one for one in every if one["title"] == title]

    def mean(part: str, key: str) -> float:
        return statistics.mean(one[part][key] for one in mine)

    def dimensions(groups: str) -> str:
        return f"{mean(groups, 'intrinsic'):.1f}, {mean(groups, 'linear'):.1f}"

    def neighbours(which: str) -> str:
        found = [[one["neighbours"][f"{which}_{when}"] for one in mine] for when in ("before", "after")]
        return ", ".join("–" if None in values else percent(statistics.mean(values)) for values in found)

    def deviations() -> str:
        first, second = (statistics.mean(one["deviations"][i] for one in mine) for i in (0, 1))
        return f"{first:.2f}, {second:.2f}"

    return [
        title,
        deviations(),
        dimensions("classes"),
        dimensions("kmeans"),
        f"{mean('classes', 'linear_theirs'):.1f}, {mean('kmeans', 'linear_theirs'):.1f}",
        neighbours("true"),
        neighbours("theirs"),
        ", ".join(str(one["seed"]) for one in mine),
    ]


BLOCKS: dict[str, Block] = {
    **{f"family-{name}": functools.partial(family, name) for name in ("fashion-mnist", "fashion-mnist-two-cores")},
    **{f"family-{row}": functools.partial(of_method, row) for row in FAMILY},
    "rdc-search": search,
    "rdc-contraction": contraction,
    "rdc-claim": claim,
    "rdc-noise": noise,
    "rdc-toy": toy,
    "rdc-shift": shift,
    "rdc-geometry": geometry,
}
