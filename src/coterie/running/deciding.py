"""Resolves `--method auto` and `--encoder`: which encoder embeds the pictures, and which method groups the items.

By what is grouped: photographs, where an encoder is on this computer, are embedded, and embeddings grouped by a
neighbour graph; small grey pictures, glyphs, and photographs without an encoder train a net. docs/frozen_heads.md
gives the reasons.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import torch

from coterie.catalogue import method_class
from coterie.data.addresses import local
from coterie.data.folders import is_table_folder
from coterie.encoders.catalogue import AUTO, NONE
from coterie.encoders.opening import SMALL_GREY, Encode, check_name
from coterie.encoders.resolving import Wanted
from coterie.encoders.weights import preferred
from coterie.methods.spectral import Spectral
from coterie.running import finetuning
from coterie.running.finetuning import check_finetune
from coterie.training.coerce import OPTIONS, settings_of
from coterie.training.plan import RunSettings, method_name
from coterie.types import InputError, Source
from coterie.views.settings import without_effect

METHOD = "cdc"  # what `auto` groups with, where it is not
GRAPH = "spectral"  # for embeddings
SPACES = "turtle"  # for several spaces of them
BY_ITEMS = (METHOD, GRAPH, SPACES)
LEAST = 100  # items of which a neighbour graph says something
OF_BACKBONE = ("init", "weights", "image_size")  # whose value says that a net is to be trained
OF_ENCODER = ("--weights", "--image-size")  # what a named encoder takes for itself


def resolve(settings: RunSettings) -> RunSettings:
    """The settings with a method and an encoder ("auto", "none" or a name). Raises InputError for two beginnings."""
    encoder, method = settings.encoder, method_name(settings.method)
    if encoder is not None:
        check_name(encoder)
    if settings.finetune:
        check_finetune(settings)
        if method not in (AUTO, finetuning.METHOD):
            raise InputError(f"--finetune is done by {finetuning.METHOD}, not by {method}: give --method auto.")
        named = finetuning.METHOD if method == AUTO else settings.method
        return replace(settings, method=named, encoder=NONE)
    trains = _options_of_a_net(settings)
    if encoder not in (None, AUTO, NONE) and (settings.init is not None or settings.pretrained):
        other = "--init" if settings.init is not None else "--pretrained"
        raise InputError(f"--encoder {encoder} and {other} each choose a network for the pictures: leave one out.")
    if encoder is None:
        encoder = AUTO if method == AUTO and not trains else NONE
    if method != AUTO:
        return replace(settings, encoder=_encoder_beside(method, encoder))
    _check_nameless(settings)
    asked = [*trains, *_options_of_training(settings)]
    if encoder not in (AUTO, NONE):  # these are the encoder's
        asked = [option for option in asked if option not in OF_ENCODER]
    open_still = all(_of_pictures(option, settings) for option in asked)
    said = asked if settings.encoder != NONE else []  # who wants no encoder wants a net
    return replace(settings, method=METHOD, encoder=encoder, by_items=open_still, trained_by=tuple(said))


def _encoder_beside(method: str, encoder: str) -> str:
    """The encoder for a method that was named: none where it reads pictures only. Raises InputError for a named one."""
    if encoder == NONE or "embeddings" in method_class(method).card.accepts:
        return encoder
    if encoder == AUTO:
        return NONE
    raise InputError(
        f"Method {method!r} reads the pictures themselves, and --encoder {encoder} makes embeddings of them: leave "
        "--encoder out, or take a method that reads embeddings (coterie methods lists them)."
    )


def by_items(settings: RunSettings, opened: Source) -> tuple[RunSettings, list[str]]:
    """The settings with the method for these items, and a line for the user where it is not `METHOD`.

    Or where it is, by an option without which it would not be.
    """
    asked, decided, spec = settings.trained_by, settings.by_items, opened.items.spec
    if spec.kind == "embeddings":
        asked = tuple(option for option in asked if not _of_pictures(option, settings))
    settings = replace(settings, by_items=False, trained_by=())
    count = len(opened.items) - len(opened.outliers)
    graph = spec.kind == "embeddings" and count >= LEAST
    if asked:
        how = "spectral clustering groups embeddings" if graph else "an encoder embeds photographs, which takes minutes"
        said = f"{' and '.join(asked)}: for a net that is trained, so {METHOD} trains one. Without that {how}."
        return settings, [said] if graph or _embeddable(opened) else []
    if not (decided and graph):
        return settings, []
    drawn = f" of {Spectral.landmarks:,} random items, which the others join" if count > Spectral.landmarks else ""
    said = (
        f"Embeddings of {spec.dim:,} numbers: grouped by spectral clustering of a neighbour graph{drawn} (--method cdc "
        "trains a head instead)."
    )
    return replace(settings, method=GRAPH), [said]


def _embeddable(opened: Source) -> bool:
    """Whether pictures that were decoded would have been embedded, had nobody asked for a net."""
    spec = opened.items.spec
    grey = spec.channels == 1 and max(spec.height, spec.width) <= SMALL_GREY
    photos = spec.kind == "images" and opened.family == "photo" and not grey
    return photos and preferred("cpu", len(opened.items)) != NONE


def _options_of_a_net(settings: RunSettings) -> list[str]:
    """The options given that only make sense for a net that sees the pictures themselves."""
    found = [f"--{name.replace('_', '-')}" for name in OF_BACKBONE if getattr(settings, name) is not None]
    usual = {"backbone": "auto", "preset": "practical", "pretrain": "auto", "pretrained": False}
    found += [f"--{name}" for name, value in usual.items() if getattr(settings, name) != value]
    return found + [f"--set {name}" for name in settings.overrides if name.startswith("moco.") or _of_a_picture(name)]


def _options_of_training(settings: RunSettings) -> list[str]:
    """The other options given that are for a method that trains, or for none that `auto` may come to by itself."""
    found = ["--epochs"] if settings.epochs is not None else []
    free = (f"{GRAPH}.", "calibrate.", "moco.", "views.row_norm")
    others = [name for name in settings.overrides if not (name.startswith(free) or _of_a_picture(name))]
    return found + [f"--set {name}" for name in others if not _of_graph_alone(name)]


def _check_nameless(settings: RunSettings) -> None:
    """Raise InputError for a setting of "method" that is wrong whichever that will be, before pictures are embedded."""
    for path, value in settings.overrides.items():
        part, _, name = path.rpartition(".")
        if part not in ("", "method") or (not part and name in (*OPTIONS, "n_clusters")):
            continue
        graph = _of_graph_alone(path)
        try:
            settings_of(method_class(GRAPH if graph else METHOD), {name: value}, GRAPH if graph else METHOD)
        except InputError as error:
            why = (
                f"for embeddings, so {GRAPH} groups them"
                if graph
                else f"for a net that is trained, so {METHOD} trains one"
            )
            raise InputError(f"{error} --set {path}: {why}.") from error


def _of_graph_alone(name: str) -> bool:
    """Whether a setting of "method", whichever that will be, is one of `GRAPH` and none of `METHOD`."""
    part, _, rest = name.rpartition(".")
    graph, method = ({field.name for field in fields(cast(Any, method_class(one)))} for one in (GRAPH, METHOD))
    return part in ("", "method") and rest in graph - method


def _of_a_picture(name: str) -> bool:
    """Whether a setting is of a view of pictures, and of none of embeddings."""
    part, _, rest = name.partition(".")
    return part == "views" and bool(without_effect([rest], "embeddings", ""))


def _of_pictures(option: str, settings: RunSettings) -> bool:
    """Whether an option of a net changes nothing on embeddings, so that it says nothing about how to group those."""
    if option == "--pretrain":
        return settings.pretrain == NONE
    return option == "--image-size" or _of_a_picture(option.removeprefix("--set "))


def with_encoder(
    settings: RunSettings, source: Any, cache: Path | None, device: torch.device, *, dry: bool
) -> tuple[RunSettings, Encode | None]:
    """The encoder that pictures go through; None for none. The embeddings lie below `cache`.

    Weights and a size beside a named encoder are the encoder's, and the settings come back without them.
    """
    if settings.encoder in (None, NONE):
        return settings, None
    assert settings.encoder is not None
    named = settings.encoder != AUTO
    wanted = Wanted(
        settings.encoder,
        settings.weights if named else None,
        settings.image_size if named else None,
        device=device,
        precision=settings.precision,
    )
    folder = None if cache is None else cache / "features"
    encode = Encode(wanted, folder, place_of(source), dry=dry)
    return (replace(settings, weights=None, image_size=None) if named else settings), encode


def check_used(encode: Encode | None, opened: Source, advice: str = "leave --encoder out") -> None:
    """Raise InputError where the user named an encoder and the source has no pictures to embed."""
    if encode is None or encode.used or (encode.wanted.name == AUTO and not encode.all_kinds):
        return
    holds = "embeddings" if opened.items.spec.kind == "embeddings" else "volumes"
    encoder = "an encoder" if encode.wanted.name == AUTO else f"the encoder {encode.wanted.name}"
    raise InputError(f"{opened.name} holds {holds}, and {encoder} reads pictures: {advice}.")


def place_of(source: Any) -> str:
    """The path of a folder of pictures, "" for any other source."""
    if isinstance(source, str | os.PathLike):
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # what is no path is refused where it is opened
            path = Path(local(os.fsdecode(source))).expanduser()
            return str(path.resolve()) if path.is_dir() and not is_table_folder(path) else ""
    return ""
