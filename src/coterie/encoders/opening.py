"""Opens sources in place of `data.open_source`: pictures are embedded where the run has an encoder."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coterie.data.parted import Parted, parted
from coterie.data.picture_form import Options
from coterie.data.source import open_source
from coterie.data.spaces import Spaces
from coterie.encoders.catalogue import AUTO, NONE
from coterie.encoders.weights import at_hand_or_refused, preferred
from coterie.types import Encoding, InputError, ItemSpec, Source

if TYPE_CHECKING:
    from coterie.data.pictures import Pictures
    from coterie.data.survey import Survey
    from coterie.encoders.embedding import Spread
    from coterie.encoders.resolving import Wanted

SMALL_GREY = 64  # pixels a side: grey pictures up to here may be glyphs, which no encoder of photographs was shown


@dataclass
class Encode:
    """Called by `data` with pictures before they are decoded: makes embeddings of them, or leaves them (None).

    With the name "auto" photographs are embedded by the best encoder on this computer, and all else is left, or with
    `all_kinds` embedded too; `said` is then one line about what was done.
    """

    wanted: Wanted
    folder: Path | None = None
    path: str = ""
    said: str = ""
    dry: bool = False
    used: bool = False
    seconds: float | None = None  # that the embedding took; None before
    spread: Spread | None = None  # who makes the embeddings, where it is not this process
    all_kinds: bool = False
    lender: Path | None = None  # a run whose embeddings may be taken up

    def __call__(self, pictures: Pictures, survey: Survey, options: Options) -> Source | None:
        from coterie.encoders.embedding import embed_pictures, rehearse

        wanted = self.wanted
        if wanted.name == AUTO and self.all_kinds:
            wanted = replace(wanted, name=at_hand_or_refused(str(wanted.device), int((survey.widths > 0).sum())))
        elif wanted.name == AUTO:
            name, self.said = decide(pictures, survey, str(wanted.device))
            if name == NONE:
                return None
            wanted = replace(wanted, name=name)
        self.used = True
        if self.dry:
            return rehearse(pictures, survey, options, wanted)
        begun = time.monotonic()
        made = embed_pictures(pictures, survey, options, wanted, self.folder, self.path, self.spread, self.lender)
        self.seconds = time.monotonic() - begun
        return made


def decide(pictures: Pictures, survey: Survey, device: str) -> tuple[str, str]:
    """The encoder for these pictures, or "none", and a line that says why (spec of frozen features, section 6)."""
    readable = survey.widths > 0
    if not readable.any():
        return NONE, ""
    grey = bool(survey.grey[readable].all())
    largest = max(int(survey.widths[readable].max()), int(survey.heights[readable].max()))
    if pictures.family == "glyph" or (grey and largest <= SMALL_GREY):
        return NONE, "Small grey pictures and glyphs: a net is trained from scratch."
    name = preferred(device, int(readable.sum()))
    if name == NONE:
        return NONE, (
            "No encoder is on this computer, so a net is trained from scratch, which groups by colour and texture "
            "rather than by objects: pip install 'coterie[encoder]' gives one."
        )
    return (
        name,
        f"Photographs: embedded by {name}, and the embeddings are grouped (--encoder none trains from scratch).",
    )


def open_items(
    source: Any,
    *,
    like: ItemSpec | None = None,
    encode: Encode | None = None,
    device: str = "auto",
    lender: Path | None = None,
    **options: Any,
) -> Source:
    """`data.open_source`, with the pictures for a model that was fitted on embeddings put through its encoder.

    `lender`: a run whose embeddings of the same pictures are taken. Raises InputError where the encoder is not to be
    had, or has other weights by now.
    """
    return open_source(source, like=like, encode=encode or _encode_for(like, device, lender), **options)


def part_items(source: str | Spaces, like: ItemSpec, device: str = "auto", workers: int | None = None) -> Parted:
    """The same by parts (`data.parted`), each decoded by so many threads. Raises InputError."""
    return parted(source, Options(like, workers=workers, encode=_encode_for(like, device)))


def _encode_for(like: ItemSpec | None, device: str, lender: Path | None = None) -> Encode | None:
    """The encoder for new pictures of a model; None for a model that was not fitted on embedded pictures."""
    if like is None or like.kind != "embeddings" or like.encoding is None:
        return None
    return Encode(wanted_by(like.encoding, device), lender=lender)


def wanted_by(encoding: Encoding, device: str = "auto") -> Wanted:
    """The encoder that made such embeddings."""
    from coterie.encoders.resolving import Wanted
    from coterie.training.device import accelerator_for

    weights = encoding.origin if os.path.isfile(encoding.origin) else None
    folder = encoding.origin if os.path.isdir(encoding.origin) else None
    pooling: Any = encoding.pooling
    place = accelerator_for(device).device
    precision: Any = encoding.precision
    return Wanted(encoding.encoder, weights, encoding.size, encoding.squash, pooling, place, precision, folder)


def check_name(name: str) -> None:
    """Raise InputError for a text that cannot be an encoder's name."""
    if not name.strip() or "\0" in name:
        raise InputError("The encoder has no name: `coterie encoders` lists those that there are.")
