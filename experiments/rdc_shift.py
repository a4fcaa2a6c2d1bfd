"""What shifting an item does to its code, beside the distance to the nearest neighbour that R-DC moves it by.

    python experiments/rdc_shift.py fashion-mnist --inits runs/autoencoders/fashion-mnist-acai-{0,1,2}

Codes are of the first phase's net, from clean and from shifted and turned items (`views.shift` and `views.turn` by
default). `slope` is that of the shifted items' codes on the clean ones', both centred on the clean mean: below 1, a
loss that asks shifted items for codes of clean ones asks for codes further out. No labels are read. Writes
results/rdc_shift_<data>.json and .md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from _pages import in_words, markdown
from _runs import RESULTS, write_records
from torch import Tensor

from coterie.algorithms.neighbours import nearest
from coterie.common.outputs import write_atomically
from coterie.data import open_source
from coterie.networks.net import Net
from coterie.prediction.model import load_model
from coterie.training.device import machine
from coterie.views import Draw, ViewSettings, make_views

PART = 1000


@torch.inference_mode()
def codes(net: Net, raw: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Codes of clean and of shifted items."""
    net.eval()
    pairs = []
    for part in raw.split(PART):
        draw = Draw(generator, len(part), None, net.mean.device)
        clean, shifted = make_views(part, ["clean", "shifted"], draw, ViewSettings(), "photo", net.mean, net.std)
        pairs.append((net.backbone(clean), net.backbone(shifted)))
    clean, shifted = (torch.cat(codes) for codes in zip(*pairs, strict=True))
    return clean, shifted


def measured(clean: Tensor, shifted: Tensor) -> dict[str, float]:
    from_mean, moved_from_mean = clean - clean.mean(0), shifted - clean.mean(0)
    return {
        "std": float(clean.std(0).mean()),
        "nearest": float(nearest(clean, 1)[0].mean()),
        "moved": float((shifted - clean).norm(dim=1).mean()),
        "slope": float((from_mean * moved_from_mean).sum() / from_mean.square().sum()),
    }


def page(records: list[dict[str, Any]], command: str) -> str:
    rows = [
        [record["run"], *(f"{record[name]:.2f}" for name in ("std", "nearest", "moved", "slope"))] for record in records
    ]
    names = ["run", "deviation", "to the nearest neighbour", "moved by a shift", "slope"]
    about = f"Codes of {records[0]['n']} images, clean and shifted; {in_words(machine())}."
    return f"# What a shift does to a code\n\n{about}\n\n{markdown(names, rows)}\n\n`{command}`\n"


def main(words: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source")
    options.add_argument("--inits", type=Path, nargs="+", required=True, help="runs of phase 1 (acai, ae) on images")
    options.add_argument("--results", type=Path, default=RESULTS)
    given = options.parse_args(words)
    records = []
    for run in given.inits:
        model = load_model(run)
        source = open_source(given.source, like=model.spec)
        raw = source.items.take(torch.arange(len(source.items)))
        found = measured(*codes(model.net, raw, torch.Generator().manual_seed(0)))
        records.append({"run": run.name, "n": len(raw), **found})
        print(records[-1], flush=True)
    command = f"python experiments/rdc_shift.py {given.source} --inits " + " ".join(
        f"runs/{run.name}" for run in given.inits
    )
    name = f"rdc_shift_{Path(given.source).name}"
    write_records(name, command, records, given.results)
    write_atomically(given.results / f"{name}.md", page(records, command))


if __name__ == "__main__":
    main()
