"""The auto-encoder family on one data set: R-DC's comparison (Tables 3 to 5) and its ablation (Table 8), by seed.

    python experiments/autoencoders.py fashion-mnist -k 10 --seeds 0 1 2 --runs runs/autoencoders

Both phases 1 (plain reconstruction `ae`, and `acai`) are trained once a seed; every method of phase 2 goes on from its
own. Every row is a run folder and a record below --runs: the same command goes on where it was stopped, and several of
them may be at work side by side. Labels are read after each run, for the numbers only. `--rows` takes
some rows only. Writes results/autoencoders_<data>.json and .md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from _pages import in_words, markdown, over_seeds
from _runs import RESULTS, command_line, ground, kept_once, parser, row, write_records

from coterie.cli.settings import read_overrides
from coterie.outputs import write_atomically
from coterie.training.plan import RunSettings

METRICS = ("acc", "f1", "nmi", "ari", "ece", "confidence", "balanced_accuracy")


@dataclass(frozen=True)
class Line:
    """A row: the method, the row whose run it starts from, the paper's ACC for Fashion-MNIST in percent."""

    title: str
    method: str
    start: str | None = None
    paper: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


LINES = {
    "finch": Line("FINCH", "finch", None, 52.5),
    "ae": Line("AE + k-means", "ae", None, 53.2),
    "deepfinch": Line("Deep FINCH", "deepfinch", "ae"),
    "dec": Line("DEC", "dec", "ae", 51.9),
    "idec": Line("IDEC", "idec", "ae", 53.9),
    "dcn": Line("DCN", "dcn", "ae"),
    "vade": Line("VaDE", "vade", "ae", 59.6),
    "acai": Line("ACAI + k-means (P1)", "acai", None, 55.6),
    "dynae": Line("DynAE", "dynae", "acai", 59.5),
    "adec": Line("ADEC", "adec", "acai"),
    "rdc": Line("R-DC (P1 + P2)", "rdc", "acai", 66.6),
    "p3": Line("P1 + P3: DEC after P1", "dec", "acai", 58.8),
    "p2p3": Line("P1 + P2 + P3: DEC after R-DC", "dec", "rdc", 63.8),
    "published": Line(
        "R-DC, published thresholds",
        "rdc",
        "acai",
        66.6,
        {"rdc.core_ratio": 0.6, "rdc.gap": 0.6, "rdc.gap_scale": "absolute"},
    ),
}


def with_starts(wanted: list[str]) -> list[str]:
    """These rows and all that they start from, in the order of the table."""
    needed = set(wanted)
    for name in reversed(LINES):
        if name in needed and (start := LINES[name].start) is not None:
            needed.add(start)
    return [name for name in LINES if name in needed]


@dataclass(frozen=True)
class Study:
    """What all rows share."""

    data: str
    source: str
    base: RunSettings  # groups, device, backbone, preset
    runs: Path
    overrides: dict[str, Any]

    def out(self, name: str, seed: int) -> Path:
        return self.runs / f"{self.data}-{name}-{seed}"

    def settings(self, name: str, seed: int) -> RunSettings:
        line = LINES[name]
        start = None if line.start is None else str(self.out(line.start, seed))
        mine = {key: value for key, value in self.overrides.items() if key.startswith((f"{line.method}.", "views."))}
        return replace(self.base, method=line.method, seed=seed, init=start, overrides=mine | line.settings)

    def record(self, name: str, seed: int, *, wait: bool) -> dict[str, Any] | None:
        """The record of a row and seed, trained where there is none; None while another process is at it."""
        return kept_once(
            self.runs / "records" / f"{self.data}-{name}-{seed}.json",
            lambda: self.made(name, self.settings(name, seed), self.out(name, seed)),
            wait=wait,
        )

    def made(self, name: str, settings: RunSettings, out: Path) -> dict[str, Any]:
        found = row(self.source, settings, out, METRICS)
        told = found["record"]
        return {
            "data": self.data,
            "row": name,
            "method": settings.method,
            "starts_from": LINES[name].start,
            "n": told["source"]["n"],
            "k": settings.n_clusters,
            "seed": settings.seed,
            "seconds": found["seconds"],
            "skipped": len(told["source"]["skipped"]),
            "metrics": next(iter(found["heads"].values())),
            "heads": found["heads"],
            "settings": told["stages"][-1]["settings"],
            "views": told["views"],
            "backbone": told["backbone"]["name"],
            "precision": told["precision"]["value"],
            "device": told["device"],
            "machine": told["machine"],
        }

    def records(self, names: list[str], seeds: list[int]) -> list[dict[str, Any]]:
        """Every record, by seed and row; first those that no other process is at."""
        jobs = [(name, seed) for seed in seeds for name in names]
        found: dict[tuple[str, int], dict[str, Any]] = {}
        while pending := [job for job in jobs if job not in found]:
            for name, seed in pending:
                start = LINES[name].start
                if start is None or (start, seed) in found:
                    record = self.record(name, seed, wait=False)
                    if record is not None:
                        found[name, seed] = record
            name, seed = pending[0]  # what it starts from comes before it and is there
            if (name, seed) not in found:
                record = self.record(name, seed, wait=True)
                assert record is not None
                found[name, seed] = record
        return [found[job] for job in jobs]


def page(records: list[dict[str, Any]], command: str) -> str:
    """Mean and deviation over seeds, row by row, beside the paper's ACC."""
    columns = {"acc": "ACC", "f1": "macro F1", "nmi": "NMI", "ari": "ARI", "ece": "ECE"}
    lines = []
    for name, line in LINES.items():
        mine = [record for record in records if record["row"] == name]
        if not mine:
            continue
        lines.append([line.title, *over_seeds(mine, columns), "" if line.paper is None else str(line.paper)])
    first = records[0]
    about = (
        f"{first['data']}: {first['n']} images, {first['k']} groups; {in_words(first['machine'])}. "
        "Percent, mean ± standard deviation over seeds; seconds without those of "
        "the run that a row starts from; last epoch. The paper's numbers: Fashion-MNIST, 130,000 iterations of phase 1."
    )
    body = markdown(["", *columns.values(), "seconds", "seeds", "paper, ACC"], lines)
    return f"# The auto-encoder family\n\n{about}\n\n{body}\n\n`{command}`\n"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rows", nargs="+", choices=list(LINES), default=list(LINES))
    given = options.parse_args()
    data = given.name or given.source
    study = Study(data, given.source, ground(given), given.runs, read_overrides(given.set))
    records = study.records(with_starts(given.rows), given.seeds)
    command = command_line("autoencoders", given, given.seeds)
    if given.rows != list(LINES):
        command += " --rows " + " ".join(given.rows)
    write_records(f"autoencoders_{data}", command, records)
    write_atomically(RESULTS / f"autoencoders_{data}.md", page(records, command))


if __name__ == "__main__":
    main()
