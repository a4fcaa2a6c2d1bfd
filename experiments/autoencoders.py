"""The auto-encoder family on one data set: R-DC's comparison (Tables 3 to 5) and its ablation (Table 8), by seed.

    python experiments/autoencoders.py fashion-mnist -k 10 --seeds 0 1 2 --runs runs/autoencoders

Both phases 1 (plain reconstruction `ae`, and `acai`) are trained once a seed; every method of phase 2 goes on from its
own. Every row is a run folder and a record below --runs: the same command goes on where it was stopped, and several of
them may be at work side by side. Labels are read after each run, for the numbers only. `--rows` takes
some rows only. Writes results/autoencoders_<data>.json and .md.
"""

from __future__ import annotations

from typing import Any

from _pages import in_words, markdown, over_seeds
from _rows import Line, Rows
from _runs import command_line, ground, overrides_of, parser, write_records

from coterie.common.outputs import write_atomically

METRICS = ("acc", "f1", "nmi", "ari", "ece", "confidence", "balanced_accuracy")


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
    overrides = overrides_of(given.set, [line.method for line in LINES.values()])
    rows = Rows(data, given.source, ground(given), given.runs, overrides, LINES, METRICS)
    records = rows.records(given.rows, given.seeds)
    command = command_line("autoencoders", given, given.seeds)
    if given.rows != list(LINES):
        command += " --rows " + " ".join(given.rows)
    write_records(f"autoencoders_{data}", command, records, given.results)
    write_atomically(given.results / f"autoencoders_{data}.md", page(records, command))


if __name__ == "__main__":
    main()
