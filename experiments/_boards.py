"""Rows of the three papers' tables of rivals, their published numbers, and the orderings that these numbers have.

`cdc13` is CDC as a stage after others, of whose rows it takes the backbone.

`published/<paper>.csv` has the numbers that a paper prints, in percent. A row that nobody can run from public material
stands in `quoted`, with the reason.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from _rows import Line

PUBLISHED = Path(__file__).parent / "published"
Printed = Mapping[str, Mapping[str, float]]  # row -> metric -> percent
# What the papers call the named sets.
SETS = {
    "cifar10": ("CIFAR-10",),
    "cifar20": ("CIFAR-20", "CIFAR-100"),  # PICA's "CIFAR-100" has its 20 classes, too
    "stl10": ("STL-10",),
    "imagenet10": ("ImageNet-10",),
    "imagenet-dogs": ("ImageNet-Dogs",),
    "tiny-imagenet": ("Tiny-ImageNet",),
    "fashion-mnist": ("FMNIST",),
    "cifar10-vgg16fc1": ("CIFAR-10",),
    "pneumoniamnist": ("PneumoniaMNIST",),
    "breastmnist": ("BreastMNIST",),
    "bloodmnist": ("BloodMNIST",),
    "vesselmnist3d": ("VesselMNIST3D",),
}


@dataclass(frozen=True)
class TableLine:
    """A line of the table: the paper's name for it, the row that it is read from, and the head (None: the answer)."""

    title: str
    row: str
    head: str | None = None


@dataclass(frozen=True)
class Order:
    """What may be read in a paper's table: every one of `lower` has less of `metric` than every one of `higher`."""

    text: str
    metric: str
    lower: tuple[str, ...]
    higher: tuple[str, ...]

    def stated(self, printed: Printed) -> bool:
        """Whether the paper's own numbers have this order; True where it prints those of one side nowhere."""
        name = {"f1": "F1_macro"}.get(self.metric, self.metric.upper())
        low, high = ([printed[row][name] for row in rows if name in printed.get(row, {})] for rows in self.sides)
        return not low or not high or max(low) < min(high)

    @property
    def sides(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.lower, self.higher


@dataclass(frozen=True)
class Board:
    paper: str
    title: str
    data: str  # the paper's data set whose numbers stand beside ours where it has none of the same set
    printed: tuple[str, ...]  # its metrics
    lines: Mapping[str, Line]
    shown: tuple[TableLine, ...]
    orders: tuple[Order, ...]
    quoted: Mapping[str, str] = field(default_factory=dict)

    def beside(self, data: str) -> tuple[str, dict[str, dict[str, float]]]:
        """The paper's data set whose numbers stand beside ours on `data` (a name, of a part with its size), and these.

        row -> metric -> percent.
        """
        found: dict[str, dict[str, dict[str, float]]] = {}
        with open(PUBLISHED / f"{self.paper}.csv", encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                row = found.setdefault(line["data"], {}).setdefault(line["row"], {})
                row[line["metric"]] = float(line["percent"])
        same = [name for name in SETS.get(re.sub(r"-\d+$", "", data), ()) if name in found]
        name = same[0] if same else self.data
        return name, found[name]


def _board(
    paper: str,
    title: str,
    data: str,
    printed: tuple[str, ...],
    rows: Mapping[str, tuple[str, Line]],
    orders: tuple[Order, ...],
    quoted: Mapping[str, str] | None = None,
    heads: Mapping[str, TableLine] | None = None,
) -> Board:
    """A board whose table has its rows in this order under the paper's names; `heads` are further lines of a row."""
    shown = [TableLine(name, row) for row, (name, _) in rows.items()] + list((heads or {}).values())
    return Board(
        paper, title, data, printed, {row: line for row, (_, line) in rows.items()}, tuple(shown), orders, quoted or {}
    )


def _either(one: str, other: str, metric: str, by: str = "") -> tuple[Order, Order]:
    """Both orders of two rows: the papers' sets differ in which of them they have."""
    return (
        Order(f"{one} below {other}{by}", metric, (one,), (other,)),
        Order(f"{other} below {one}{by}", metric, (other,), (one,)),
    )


def _line(method: str, start: str | None = None, **settings: object) -> Line:
    return Line(method, method, start, settings={f"{method}.{name}": value for name, value in settings.items()})


SUPERVISED, FINE_TUNED = "supervised", "supervised-moco"  # no method: coterie.yardstick
CDC = _board(
    "cdc",
    "CDC's Tables 1 and 4",
    "CIFAR-10",
    ("ACC", "NMI", "ARI", "ECE"),
    {
        "kmeans": ("K-means", _line("kmeans")),
        "moco": ("MoCo-v2", _line("moco")),
        "simsiam": ("Simsiam", _line("simsiam")),
        "byol": ("BYOL", _line("byol")),
        "dmicc": ("DMICC", _line("dmicc")),
        "propos": ("ProPos", _line("propos")),
        "conr": ("CoNR", _line("conr")),
        "divclust": ("DivClust", _line("divclust")),
        "cc": ("CC", _line("cc")),
        "tcc": ("TCC", _line("tcc")),
        "tcl": ("TCL", _line("tcl")),
        "secu-size": ("SeCu-Size", _line("secu", constraint="size")),
        "secu": ("SeCu", _line("secu", constraint="entropy")),
        "scan": ("SCAN-2", _line("scan", "moco")),
        "scan3": ("SCAN-3", _line("scan3", "scan")),
        "spice": ("SPICE-2", _line("spice", "moco")),
        "spice3": ("SPICE-3", _line("spice3", "spice")),
        "cdc": ("CDC-Cal", _line("cdc", "moco")),
        SUPERVISED: ("Supervised", Line("Supervised", SUPERVISED)),
        FINE_TUNED: ("Supervised+MoCo-v2", Line("Supervised after MoCo-v2", SUPERVISED, "moco")),
    },
    (
        Order("Features and K-means stay below CC", "acc", ("MoCo-v2", "Simsiam", "BYOL"), ("CC",)),
        *_either("CC", "SCAN-2", "acc"),
        *_either("SCAN-2", "SCAN-3", "acc"),
        *_either("SCAN-2", "SCAN-3", "ece", " by ECE"),
        *_either("SPICE-2", "SPICE-3", "ece", " by ECE"),
        Order(
            "CDC-Cal has the lowest ECE of those with a head of their own",
            "ece",
            ("CDC-Cal",),
            ("CDC-Clu", "CC", "TCC", "TCL", "SeCu-Size", "SeCu", "SCAN-2", "SCAN-3", "SPICE-2", "SPICE-3"),
        ),
        Order("CDC above SCAN-3 and SPICE-3", "acc", ("SCAN-3", "SPICE-3"), ("CDC-Cal",)),
        *_either("Supervised+MoCo-v2", "CDC-Cal", "acc"),
    ),
    heads={"cdc": TableLine("CDC-Clu", "cdc", "clu")},
)
STAGE = _board(
    "cdc13",
    "CDC's Table 13",
    "CIFAR-10",
    ("ΔACC", "ΔNMI", "ΔARI", "ΔECE"),  # the paper prints what CDC changes
    {
        "moco": ("MoCo-v2", _line("moco")),
        "scan": ("SCAN-2", _line("scan", "moco")),
        "scan-cdc": ("SCAN-2, then CDC", _line("cdc", "scan")),
        "scan3": ("SCAN-3", _line("scan3", "scan")),
        "scan3-cdc": ("SCAN-3, then CDC", _line("cdc", "scan3")),
        "secu-size": ("SeCu-Size", _line("secu", constraint="size")),
        "secu-size-cdc": ("SeCu-Size, then CDC", _line("cdc", "secu-size")),
        "secu": ("SeCu", _line("secu", constraint="entropy")),
        "secu-cdc": ("SeCu, then CDC", _line("cdc", "secu")),
        "cc": ("CC", _line("cc")),
        "cc-cdc": ("CC, then CDC", _line("cdc", "cc")),
    },
    tuple(
        order
        for base in ("SCAN-2", "SCAN-3", "SeCu-Size", "SeCu")
        for order in (
            Order(f"CDC raises the accuracy of {base}", "acc", (base,), (f"{base}, then CDC",)),
            Order(f"and lowers its ECE ({base})", "ece", (f"{base}, then CDC",), (base,)),
        )
    ),
)
PICA = _board(
    "pica",
    "PICA's Table 1",
    "CIFAR-10",
    ("ACC", "NMI", "ARI"),
    {
        "kmeans": ("K-means", _line("kmeans")),
        "spectral": ("SC", _line("spectral")),
        "agglomerative": ("AC", _line("agglomerative")),
        "nmf": ("NMF", _line("nmf")),
        "ae": ("AE", _line("ae")),
        "dae": ("DAE", _line("dae")),
        "dcgan": ("DCGAN", _line("dcgan")),
        "decnn": ("DeCNN", _line("decnn")),
        "vae": ("VAE", _line("vae")),
        "jule": ("JULE", _line("jule")),
        "dec": ("DEC", _line("dec", "ae")),
        "dac": ("DAC", _line("dac")),
        "adc": ("ADC", _line("adc")),
        "dccm": ("DCCM", _line("dccm")),
        "iic": ("IIC", _line("iic")),
        "pica": ("PICA (mean)", _line("pica")),
    },
    (
        Order("Without training below the joint methods", "acc", ("K-means", "SC", "AC", "NMF"), ("DCCM", "IIC")),
        Order("DEC below DAC", "acc", ("DEC",), ("DAC",)),
        Order("DAC below DCCM", "acc", ("DAC",), ("DCCM",)),
        Order(
            "PICA above all",
            "acc",
            (
                "K-means",
                "SC",
                "AC",
                "NMF",
                "AE",
                "DAE",
                "DCGAN",
                "DeCNN",
                "VAE",
                "JULE",
                "DEC",
                "DAC",
                "ADC",
                "DCCM",
                "IIC",
            ),
            ("PICA (mean)",),
        ),
    ),
    {"DDC": "no formulas of it are public"},
)
RDC = _board(
    "rdc",
    "R-DC's Tables 3 to 5",
    "FMNIST",
    ("ACC", "F1_macro"),
    {
        "finch": ("FINCH", _line("finch")),
        "ae": ("AE+K-means", _line("ae")),
        "dec": ("DEC", _line("dec", "ae")),
        "idec": ("IDEC", _line("idec", "ae")),
        "vade": ("VaDE", _line("vade", "ae")),
        "pssc": ("PSSC", _line("pssc", "ae")),
        "cc": ("CC", _line("cc")),
        "ddc_uco": ("DDC-UCO", _line("ddc_uco")),
        "acai": ("ACAI + K-means (phase 1)", _line("acai")),
        "dynae": ("DynAE", _line("dynae", "acai")),
        "rdc": ("R-DC", _line("rdc", "acai")),
    },
    (
        Order("DEC below IDEC", "acc", ("DEC",), ("IDEC",)),
        Order("AE and K-means below VaDE", "acc", ("AE+K-means",), ("VaDE",)),
        Order("Phase 2 above phase 1", "acc", ("ACAI + K-means (phase 1)",), ("R-DC",)),
        Order(
            "R-DC above all",
            "acc",
            ("FINCH", "AE+K-means", "DEC", "IDEC", "VaDE", "PSSC", "CC", "DDC-UCO", "DynAE"),
            ("R-DC",),
        ),
    ),
)
BOARDS = {board.paper: board for board in (CDC, STAGE, PICA, RDC)}
