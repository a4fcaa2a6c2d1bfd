"""The PICA paper's Tables 2 to 5, its four ablations, on 10,000 images of Fashion-MNIST.

    OMP_NUM_THREADS=1 python experiments/pica_tables.py --seeds 0 1 2 --set pica.epochs=24

The images are drawn by a fixed seed and without a look at labels, which are read after each run, for its record. Every
row and seed is a run folder and a record below --runs: the same command goes on where it was stopped, and several of
them may be at work side by side, one for each core. All tables share the row of plain PICA. Writes
experiments/results/pica_table<N>_<data>.json and .md.

Huang, Gong and Zhu, "Deep Semantic Clustering by Partition Confidence Maximisation", CVPR 2020. The paper's numbers are
those of one seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _pages import write_tables
from _runs import command_for_drawn, ground, overrides_of, parser_for_drawn
from _tables import Row, Study, Table, draw, trained_on

COLUMNS = ("acc", "nmi", "ari", "ece", "pui", "certain")


def row(title: str, paper: dict[str, float], **settings: Any) -> Row:
    return Row(title, settings, paper={name: (acc,) for name, acc in paper.items()}, method="pica")


def table(number: int, title: str, full: dict[str, float], *others: Row) -> Table:
    rows = [row("PICA", full), *others]
    return Table(f"pica_table{number}", f"PICA, Table {number}: {title}", rows, COLUMNS, ("ACC",))


def tables() -> dict[str, Table]:
    cifar10 = {"CIFAR-10": 69.6}
    three = {"CIFAR-10": 69.6, "CIFAR-100": 33.0, "ImageNet-10": 82.9}
    no_entropy = {"CIFAR-10": 24.6, "CIFAR-100": 16.8, "ImageNet-10": 65.0}
    no_perturbation = {"CIFAR-10": 31.0, "CIFAR-100": 14.7, "ImageNet-10": 73.4}
    return {
        "2": table(2, "entropy term", three, row("without", no_entropy, entropy_weight=0.0)),
        "3": table(
            3,
            "over-clustering",
            {"CIFAR-10": 69.6, "STL-10": 68.7},
            row("without", {"CIFAR-10": 58.2, "STL-10": 63.3}, over_clustering=False),
        ),
        "4": table(
            4,
            "perturbation",
            three,
            row("without: an image is its own copy", no_perturbation, perturb="off"),
            row("copies are further draws of the original view", {}, perturb="second-draw"),
        ),
        "5": table(
            5,
            "initialisation",
            cifar10,
            row("Gaussian", {"CIFAR-10": 68.1}, init="gaussian"),
            row("Xavier", {"CIFAR-10": 67.6}, init="xavier"),
            row("Kaiming", {"CIFAR-10": 68.0}, init="kaiming"),
        ),
    }


def main(words: list[str] | None = None) -> None:
    known = tables()
    options = parser_for_drawn(__doc__, Path("runs/pica_tables"))
    options.add_argument("--tables", nargs="+", choices=list(known), default=list(known))
    given = options.parse_args(words)
    overrides = overrides_of(given.set, ("pica",))
    name, file, labels, family = draw(given.source, given.items, given.runs)
    items = trained_on(given.source, given.items, file)
    study = Study(name, items, labels, family, ground(given), given.runs, overrides, given.source, start=None)
    chosen = [known[number] for number in given.tables]
    write_tables(chosen, study, given.seeds, command_for_drawn("pica_tables", given, "tables"), given.results)


if __name__ == "__main__":
    main()
