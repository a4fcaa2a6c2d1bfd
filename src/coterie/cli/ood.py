"""Out-of-distribution scores on the command line: of new items in `predict`, against a second source in `evaluate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coterie.common.outputs import write_atomically
from coterie.common.words import counted
from coterie.encoders import open_items
from coterie.evaluation import evaluate_separation
from coterie.prediction.model import Model, load_model
from coterie.prediction.ood import DEFAULT, available, check_scores
from coterie.records.metrics import read_foreign
from coterie.training.device import accelerator_for

if TYPE_CHECKING:
    from torch import Tensor

TAIL = 0.05  # share of the fitted items that lie below the threshold that `predict` names
COLUMNS = ("auroc", "fpr95", "fpr95_out_positive", "aupr_in", "aupr_out")


def wanted_scores(model: Model, wanted: str | None) -> tuple[str, ...]:
    """The score that `predict` writes: the one that was asked for, else the default where the model has its bank.

    Raises InputError for one that this model cannot give.
    """
    if wanted is None:
        return (DEFAULT,) if model.bank is not None else ()
    names = () if wanted == "none" else (wanted,)
    check_scores(names, logits=model.gives_logits, bank=model.bank)
    return names


def compare_with_fitted(model: Model, names: Sequence[str], scores: Tensor | None) -> dict[str, Any] | None:
    """How many of the new items score below the lowest 5 % of the fitted ones; None without a score or a bank."""
    if scores is None or model.bank is None:
        return None
    (name,) = names
    threshold = model.scores_of_fitted([name])[name].quantile(TAIL)
    return {"score": name, "threshold": float(threshold), "below": int((scores < threshold).sum())}


def measure_ood(
    run: Path,
    source: str,
    wanted: str | None,
    device: str,
    watch: Callable[[int], Callable[[int], None]],
) -> dict[str, Any]:
    """How well each score tells the fitted items from those of `source`; nothing is written.

    The inside are the items that the model keeps, at most 10,000 drawn with the run's seed; none of them is its own
    nearest neighbour. `watch` takes the number of items and returns a function that is called with each number of
    items done. Raises InputError for a source or a score that cannot be used.
    """
    read_foreign(run / "ood.json")  # what is no such file is refused before the work
    model = load_model(run, accelerator_for(device).device)
    names = available(logits=model.gives_logits, bank=model.bank) if wanted is None else (wanted,)
    inside = model.scores_of_fitted(names)
    opened = open_items(source, like=model.spec, device=device)
    outside = model.predict(opened, ood_scores=names, progress=watch(len(opened.items))).ood_scores
    return {
        "source": source,
        "data": opened.name,
        "n_inside": len(inside[names[0]]),
        "n_outside": len(opened.items),
        "skipped": len(opened.skipped),
        "scores": {name: evaluate_separation(inside[name].numpy(), outside[name].numpy()) for name in names},
    }


def keep_ood(run: Path, found: dict[str, Any]) -> None:
    """Add what `measure_ood` found to the run's `ood.json`, by source. Raises NotWritten."""
    path = run / "ood.json"
    write_atomically(path, json.dumps(read_foreign(path) | {found["source"]: found}, indent=1) + "\n")


def print_ood(found: dict[str, Any], path: Path | None) -> None:
    """A table for a person: a line for each score."""
    print(f"{found['n_inside']:,} fitted items against {found['n_outside']:,} of {found['source']}:")
    print(f"{'score':<12}" + "  ".join(f"{name:>18}" for name in COLUMNS))
    for name, numbers in found["scores"].items():
        print(f"{name:<12}" + "  ".join(f"{numbers[column]:>z18.3f}" for column in COLUMNS))
    if left_out := found["skipped"]:
        print(f"{counted(left_out, 'unreadable image was', 'unreadable images were')} left out.")
    if path is not None:
        print(f"All numbers: {path}")
