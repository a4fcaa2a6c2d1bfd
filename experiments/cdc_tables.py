"""The CDC paper's Tables 2, 5, 6, 8, 9 and Figures 3 and 5 on 10,000 images of Fashion-MNIST, from one MoCo run.

    OMP_NUM_THREADS=1 python experiments/cdc_tables.py --tables 2 8 9 fig3 --seeds 0 1 2 --set cdc.epochs=18
    OMP_NUM_THREADS=1 python experiments/cdc_tables.py --tables 5 6 fig5 --seeds 0 --set cdc.epochs=18

The images are drawn by a fixed seed and without a look at labels, which are read after each run, for its record. Every
row and seed is a run folder and a record below --runs: the same command goes on where it was stopped, and several of
them may be at work side by side, one for each core. Writes experiments/results/<table>_<data>.json and .md.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from _pages import write_tables
from _runs import command_for_drawn, ground, overrides_of, parser_for_drawn, preset_on
from _tables import Study, draw, trained_on
from cdc_tables_rows import tables

from coterie.contract import Facts
from coterie.data import open_source
from coterie.methods.cdc import CDC
from coterie.training.presets import preset_of
from coterie.types import InputError

NAMES = ("2", "5", "6", "fig3", "fig5", "8", "9")


def base_settings(file: Path, k: int, overrides: dict[str, Any], preset: str = "practical") -> dict[str, Any]:
    """The settings of plain CDC on these images: defaults, then those of the preset, then what --set gave."""
    opened = open_source(file)
    spec = opened.items.spec
    facts = Facts(len(opened.items), k, spec.kind, "cpu", max(spec.height, spec.width), spec.dim)
    given = {name.removeprefix("cdc."): value for name, value in overrides.items() if name.startswith("cdc.")}
    return asdict(CDC()) | preset_of("cdc", preset, facts, "", last=True) | given


def main(words: list[str] | None = None) -> None:
    options = parser_for_drawn(__doc__, Path("runs/cdc_tables"))
    options.add_argument("--tables", nargs="+", choices=NAMES, default=list(NAMES))
    options.add_argument("--rows", nargs="+", default=[], help="only rows whose titles begin so, e.g. III")
    given = options.parse_args(words)
    overrides = overrides_of(given.set, ("moco", "cdc"))
    name, file, labels, family = draw(given.source, given.items, given.runs)
    items = trained_on(given.source, given.items, file)
    study = Study(name, items, labels, family, ground(given), given.runs, overrides, given.source)
    known = tables(base_settings(file, given.k, overrides, preset_on(given.preset, "cdc", given.source)), given.k)
    chosen = [known[table] for table in given.tables]
    if given.rows:
        some = tuple(given.rows)
        chosen = [replace(table, rows=[row for row in table.rows if row.title.startswith(some)]) for table in chosen]
        if not all(table.rows for table in chosen):
            raise InputError(f"A table of {', '.join(given.tables)} has no row that begins with {', '.join(some)}.")
    lists = ["tables", "rows"] if given.rows else ["tables"]
    write_tables(chosen, study, given.seeds, command_for_drawn("cdc_tables", given, *lists), given.results)


if __name__ == "__main__":
    main()
