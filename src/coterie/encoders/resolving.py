"""Which encoder a name means, where its weights are, and how its pictures are prepared."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from coterie.encoders.catalogue import BY_MODEL, BY_NAME, IMAGENET, Entry, is_timms
from coterie.encoders.weights import FILES, WeightFile, fetched, find, local_file
from coterie.training.device import Precision
from coterie.types import InputError

Pooling = Literal["own", "cls", "mean", "cls+mean"]
BY_LABELS = ("in1k", "in12k", "in21k", "in22k", "in22ft1k")  # parts of timm's tags: taught with ImageNet's labels
CONFIG = "config.json"

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Wanted:
    """Which encoder, and how it is to be used."""

    name: str
    weights: str | None = None  # a local file
    size: int | None = None  # pixels; None: the encoder's own
    squash: bool = False
    pooling: Pooling = "own"
    device: torch.device = CPU
    precision: Precision = "auto"  # auto: fp32, for embeddings should not depend on the machine
    folder: str | None = None  # where the encoder lies whose name is a folder's, which may be relative to another one


def resolve(wanted: Wanted) -> tuple[Entry, WeightFile, dict[str, Any]]:
    """The encoder's catalogue entry, its weight file, and, of a folder, the configuration beside it."""
    name = wanted.name
    entry = BY_NAME.get(name) or BY_MODEL.get(name)
    if entry is None and not is_timms(name):
        return _of_folder(name, wanted)
    if entry is None:
        entry = _of_timm(name)
    if wanted.weights is not None:
        return entry, local_file(wanted.weights), {}
    return entry, find(entry), {}


def _of_timm(name: str) -> Entry:
    """A model of timm's that has no short name here. Raises InputError for an unknown one."""
    import timm

    bare, _, tag = name.partition(".")
    if bare not in timm.list_models():
        known = [*BY_NAME, *timm.list_models()]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`coterie encoders` lists those that are known by name."
        raise InputError(f"Unknown encoder {name!r}; {hint}")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag that the model does not have
        tags = ", ".join(timm.list_pretrained(f"{bare}.*")[:6])
        raise InputError(f"Encoder {bare!r} has no weights called {tag!r}; there are {tags or 'none'}.") from error
    tag = (config.tag if config is not None else None) or tag
    if "clip" in bare and "quickgelu" not in bare and "openai" in tag:
        own = bare.replace("_clip_", "_clip_quickgelu_")
        raise InputError(
            f"Encoder {name!r} runs OpenAI's weights with another activation than they were taught with: take "
            f"{own}.openai."
        )
    licence = str((config.license if config is not None else None) or "not stated")
    taught = IMAGENET if any(part in BY_LABELS for part in tag.split("_")) else "not stated, see its model card"
    repository = str((config.hf_hub_id if config is not None else None) or "")
    head = config.num_classes if config is not None and config.num_classes and "clip" in name else 0
    if licence == "dinov3-license":
        like = BY_NAME["dinov3-small"]
        pooled = like.settings if bare.startswith("vit") else {}
        return Entry(name, name, like.licence, like.taught, 0, 0, repository, settings=dict(pooled))
    return Entry(name, name, licence, taught, 0, 0, repository, head=head)


def _of_folder(name: str, wanted: Wanted) -> tuple[Entry, WeightFile, dict[str, Any]]:
    """A folder with config.json and the weights, as Hugging Face keeps timm's models, or `hf-hub:OWNER/NAME`."""
    if wanted.weights is not None:
        raise InputError(f"--weights are for an encoder by name, and {name} has its own: leave one of them out.")
    source, _, rest = name.partition(":")
    if source in ("hf-hub", "hf_hub"):
        found = fetched(name, rest)
        folder = fetched(name, rest, (CONFIG,)).path.parent
    else:
        folder = Path(wanted.folder or os.path.expanduser(rest if source == "local-dir" else name))
        if not folder.is_dir():
            hint = f" For Hugging Face's write hf-hub:{name}." if name.count("/") == 1 else ""
            raise InputError(f"The encoder {name} is no folder and no name that is known.{hint}")
        path = next((folder / file for file in FILES if (folder / file).is_file()), None)
        if path is None or not (folder / CONFIG).is_file():
            raise InputError(f"The folder {folder} holds no encoder: it needs {CONFIG} and {' or '.join(FILES[:2])}.")
        found = WeightFile(path, os.path.abspath(folder))  # new pictures may be embedded from another folder
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config = {**config, **config.pop("pretrained_cfg", {})} if "pretrained_cfg" in config else dict(config)
        architecture = str(config["architecture"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / CONFIG} is not the configuration of one of timm's models ({error!r}): give such a folder, or "
            "the model's name and its file with --weights."
        ) from error
    entry = _of_timm(architecture)
    licence = str(config.get("license") or entry.licence)
    return replace(entry, name=name, model=architecture, licence=licence, taught="not stated"), found, config
