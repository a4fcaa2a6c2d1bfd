"""`coterie supervised`: the yardstick with labels, as a table or an object."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coterie.cli.labels import find_labels
from coterie.cli.output import METRICS, print_object
from coterie.cli.settings import check_seed
from coterie.cli.speech import Speech
from coterie.common.words import limit
from coterie.data import Labels, open_source
from coterie.types import InputError
from coterie.yardstick import Yardstick, check_options, share_apart, supervised

OWN = "source"  # the labels that come with the source


@dataclass(frozen=True)
class YardstickRequest:
    """What `coterie supervised` was asked for."""

    source: str
    labels: str | None
    label_column: str | None
    test: str | None
    test_labels: str | None
    held_out: float | None
    init: Path | None
    backbone: str
    image_size: int | None
    epochs: int | None
    seed: int
    device: str
    as_json: bool = False
    speech: Speech = field(default_factory=Speech)


def teach(asked: YardstickRequest) -> None:
    """Train with the labels, score, print. Raises InputError."""
    check_seed(asked.seed)
    if asked.labels is None and asked.label_column is None:
        raise InputError(
            "supervised learns from labels: say which with --labels FILE, --labels folders, or --labels source for "
            "those that come with the source."
        )
    if asked.test is None and asked.test_labels is not None:
        raise InputError("--test-labels are those of a second source: give it with --test.")
    if asked.test is not None and asked.held_out is not None:
        raise InputError("--held-out is a share of the source, and with --test that is scored: leave one of them out.")
    settings = {} if asked.epochs is None else {"epochs": asked.epochs}
    share_apart(asked.held_out, asked.test, asked.test_labels)
    check_options(asked.image_size, settings, asked.device)
    labels = _labels(asked.source, None if asked.labels == OWN else asked.labels, asked.label_column, "--labels")
    test_labels = None
    if asked.test is not None:
        test_labels = _labels(asked.test, asked.test_labels, asked.label_column, "--test-labels")
    with asked.speech.bar() as bar:
        found = supervised(
            asked.source,
            labels,
            held_out=asked.held_out,
            init=asked.init,
            test=asked.test,
            test_labels=test_labels,
            backbone=asked.backbone,
            image_size=asked.image_size,
            random_state=asked.seed,
            settings=settings,
            device=asked.device,
            progress=bar,
        )
    answer = describe(asked, found)
    if asked.as_json:
        print_object(answer)
        return
    print("  ".join(f"{name:>10}" for name in answer["metrics"]))
    print("  ".join(f"{limit(value, 3, (1.0,)):>10}" for value in answer["metrics"].values()))
    count = len(found.labels)
    scored = f"{count:,} other items" if found.held_out else f"the same {count:,} items"
    print(f"Taught with {found.labels_used:,} labels, scored on {scored}. This is no result of clustering.")
    for note in found.notes:
        print(f"Note: {note}")
    asked.speech.suggest((("fit", asked.source, "-k", len(found.classes)), "what the same net finds without labels"))


def describe(asked: YardstickRequest, found: Yardstick) -> dict[str, Any]:
    """The object of --json."""
    metrics = found.metrics()
    return {
        "source": asked.source,
        "test": asked.test,
        "labels_used": found.labels_used,
        "scored": len(found.labels),
        "held_out": found.held_out,
        "init": None if asked.init is None else str(asked.init),
        "backbone": found.backbone,
        "epochs": found.settings.epochs,
        "seconds": found.seconds,
        "notes": list(found.notes),
        "metrics": {name: metrics[name] for name in ("accuracy", *METRICS)},
    }


def _labels(source: str, wanted: str | None, column: str | None, option: str) -> Labels:
    """The labels that were asked for. Raises InputError where there are none."""
    opened = open_source(source)
    own = column if wanted != "folders" else None
    found = find_labels(source, wanted, own, opened.ids, opened.skipped)
    if found is None:
        raise InputError(f"{opened.name} carries no labels: give them with {option} FILE or {option} folders.")
    return found
