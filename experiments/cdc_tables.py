"""The CDC paper's Tables 2, 5, 6, 8, 9 and Figures 3 and 5 on 10,000 images of Fashion-MNIST, from one MoCo run.

    OMP_NUM_THREADS=1 python experiments/cdc_tables.py --tables 2 8 9 fig3 --seeds 0 1 2 --set cdc.epochs=18
    OMP_NUM_THREADS=1 python experiments/cdc_tables.py --tables 5 6 fig5 --seeds 0 --set cdc.epochs=18

The images are drawn by a fixed seed and without a look at labels, which are read after each run, for its record. Every
row and seed is a run folder and a record below --runs: the same command goes on where it was stopped, and several of
them may be at work side by side, one for each core. Writes experiments/results/<table>_<data>.json and .md.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _pages import write_table
from _tables import Study, draw, work
from cdc_tables_rows import tables

from coterie.cli.settings import read_overrides
from coterie.data import open_source
from coterie.methods.cdc import CDC
from coterie.methods.contract import Facts, practical_settings

RESULTS = Path(__file__).parent / "results"
NAMES = ("2", "5", "6", "fig3", "fig5", "8", "9")


def arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="fashion-mnist", help="a named data set with labels")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--items", type=int, default=10_000, help="images that are drawn; 0: all")
    parser.add_argument("--tables", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of CDC; MoCo has seed 0")
    parser.add_argument("--runs", type=Path, default=Path("runs/cdc_tables"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--set", action="append", default=[], help="as in coterie fit, e.g. cdc.epochs=15")
    return parser.parse_args(words)


def command_line(given: argparse.Namespace) -> str:
    """The command that makes these tables, without the folders of the machine it was run on."""
    words = ["python experiments/cdc_tables.py", given.source, "-k", str(given.k), "--items", str(given.items)]
    words += ["--tables", *given.tables, "--seeds", *map(str, given.seeds)]
    return " ".join([*words, *(f"--set {text}" for text in given.set)])


def base_settings(file: Path, k: int, overrides: dict[str, Any]) -> dict[str, Any]:
    """The settings of plain CDC on these images: defaults, then the practical preset, then what --set gave."""
    opened = open_source(file)
    spec = opened.items.spec
    facts = Facts(len(opened.items), k, spec.kind, "cpu", max(spec.height, spec.width), spec.dim)
    given = {name.removeprefix("cdc."): value for name, value in overrides.items() if name.startswith("cdc.")}
    return asdict(CDC()) | practical_settings("cdc", facts) | given


def main(words: list[str] | None = None) -> None:
    given = arguments(words)
    overrides = read_overrides(given.set)
    name, file, labels, family = draw(given.source, given.items, given.runs)
    study = Study(name, file, labels, family, given.k, given.runs, overrides)
    known = tables(base_settings(file, given.k, overrides), given.k)
    chosen = [known[table] for table in given.tables]
    found = work(study, chosen, given.seeds)
    for table in chosen:
        write_table(table, study, found, given.seeds, command_line(given), given.results)
        print((given.results / f"{table.name}_{study.name}.md").read_text())


if __name__ == "__main__":
    main()
