"""What PICA's evaluation view changes: the same finished runs, judged by whole images and by the middle of larger ones.

    python experiments/pica_view.py fashion-mnist fashion-mnist-pica-0 fashion-mnist-pica-1 fashion-mnist-pica-2

The runs are folders of `pica_reference.py`. Trains nothing. The middle is that of images made larger by the run's own
`views.enlarge`, as its training saw them. Labels are read by this script only. Writes results/pica_view_<data>.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from _runs import METRICS, RESULTS, label_free, write_records

from coterie.data import labels_of, open_source
from coterie.evaluation import evaluate
from coterie.networks.features import extract_features
from coterie.prediction.model import Model, load_model
from coterie.types import Items


@torch.inference_mode()
def scores(model: Model, items: Items, enlarge: float, truth: Any) -> dict[str, float]:
    """Of the method's own answer, with images made so many times larger."""
    model.net.enlarge = enlarge
    p = model.heads_of(extract_features(model.net, items))["primary"]
    found = evaluate(truth.codes, p.numpy(), class_names=truth.names, resamples=0)
    return {key: found[key] for key in METRICS}


def record_of(source: str, folder: Path) -> dict[str, Any]:
    model, told = load_model(folder), label_free(folder)
    opened = open_source(source, like=model.spec)
    truth = labels_of(source, opened.ids)
    assert truth is not None, f"{source} carries no labels"
    factor = float(told["views"]["enlarge"])
    return {
        "data": Path(source).name,
        "run": folder.name,
        "seed": told["seed"],
        "n": len(opened.items),
        "enlarge": factor,
        "whole": scores(model, opened.items, 1.0, truth),
        "centre": scores(model, opened.items, factor, truth),
    }


def main(words: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source")
    options.add_argument("runs", type=Path, nargs="+")
    options.add_argument("--results", type=Path, default=RESULTS)
    given = options.parse_args(words)
    records = []
    for folder in given.runs:
        records.append(record_of(given.source, folder))
        print(records[-1], flush=True)
    data = Path(given.source).name
    command = " ".join(["python experiments/pica_view.py", data, *(folder.name for folder in given.runs)])
    write_records(f"pica_view_{data}", command, records, given.results)


if __name__ == "__main__":
    main()
