"""Weights that a backbone begins with: timm's, or those of a local file. They are loaded whole, or refused."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coterie.common.words import capital, in_a_line
from coterie.networks.sobel import WithSobel
from coterie.records.files import utf8_path
from coterie.types import InputError

FILES = ("model.safetensors", "pytorch_model.bin")  # in which a repository of Hugging Face keeps timm's weights
HEADS = frozenset(("head", "heads", "head_dist", "fc", "classifier", "last_linear", "logits", "pre_logits"))
# Buffers that some versions of a net save and others compute.
TABLES = frozenset(("num_batches_tracked", "attn_mask", "relative_position_index", "relative_coords_table"))
OTHER_BACKBONE = "name the backbone that the weights are of with --backbone, the size of its images with --image-size."
OTHER_START = "the source holds embeddings, so leave --weights out, or give another run on them with --init."
PATIENCE = 10.0  # seconds that a server has to answer


def read_weights(path: Path) -> dict[str, Tensor]:
    """The entries of a local safetensors or .pth file; never unpickles objects. Raises InputError."""
    if not path.is_file():
        raise InputError(f"The weights file {path} {'is no regular file' if path.exists() else 'does not exist'}.")
    state: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            with utf8_path(path) as opened:
                state = load_file(opened)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own errors; the user needs the file's name
        raise InputError(f"The weights file {path} cannot be read: {_why(error)}.") from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    given = dict(state) if isinstance(state, dict) else {}
    return {str(name): value for name, value in given.items() if isinstance(value, Tensor)}


def _why(error: Exception) -> str:
    """The reason in a few words. torch's message for a pickle ends in advice to run whatever is in the file."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is damaged, no file of weights, or holds Python objects; save model.state_dict() with safetensors"
    return in_a_line(error, 160).rstrip(".")


def load_weights(net: nn.Module, path: Path) -> None:
    """Load a backbone's weights from a local file, all of them.

    Raises InputError when the file is missing, is no weight file, or misses a parameter of the backbone.
    """
    put(net, read_weights(path), path)


def put(
    net: nn.Module, given: Mapping[str, Tensor], path: Path, name: str = "", *, embeddings: bool = False
) -> list[str]:
    """Copy the entries of the file `path` into the net; a note where colours were summed for grey images, as timm does.

    Raises InputError for a net without weights and for one that is not filled, with what helps a source of
    `embeddings` or of images.
    """
    net = net.trunk if isinstance(net, WithSobel) else net
    wanted, notes = net.state_dict(), []
    given = dict(given)
    for entry, value in wanted.items():
        if (
            entry in given
            and value.ndim == given[entry].ndim == 4
            and value.shape[1] == 1
            and given[entry].shape[1] == 3
        ):
            given[entry] = given[entry].sum(1, keepdim=True)
            notes.append(f"The weights in {path} are of colour images: {entry} was summed over the colours.")
    called = f"backbone {name!r}" if name else "the backbone"
    if not wanted:
        helps = OTHER_START if embeddings else "give --backbone NAME."
        raise InputError(f"{capital(called)} has no weights to load {path} into: {helps}")
    fitting = {entry: given[entry] for entry in wanted if entry in given and given[entry].shape == wanted[entry].shape}
    missing = [entry for entry in wanted if entry not in fitting and not entry.endswith("num_batches_tracked")]
    if missing:
        first = missing[0]
        found = f"of shape {tuple(given[first].shape)} in the file" if first in given else "not in the file"
        raise InputError(
            f"The weights file {path} does not fit {called}: {len(missing)} of {len(wanted)} entries do not fit, "
            f"first {first!r}, which is {found} and has to be {tuple(wanted[first].shape)}: "
            f"{OTHER_START if embeddings else OTHER_BACKBONE}"
        )
    if more := [entry for entry in given if entry not in wanted and of_trunk(entry, wanted)]:
        raise InputError(
            f"The weights file {path} is of a larger net than {called}, which has no {more[0]!r} ({len(more)} such "
            "entries): name the backbone that the weights are of with --backbone."
        )
    if bad := next((entry for entry, value in fitting.items() if not bool(torch.isfinite(value).all())), None):
        raise InputError(f"The weights file {path} holds values that are not finite, first in {bad!r}.")
    net.load_state_dict(fitting, strict=False)
    return notes


def of_trunk(entry: str, wanted: Mapping[str, Tensor]) -> bool:
    """Whether an entry that the net lacks belongs to the trunk, not to a classifier or a fixed table."""
    parts = entry.split(".")
    inside = any(other.startswith(f"{parts[0]}.") for other in wanted)
    return inside and HEADS.isdisjoint(parts) and parts[-1] not in TABLES


def check_pretrained(name: str, why: str) -> None:
    """Raise InputError for a backbone for which timm has no weights."""
    import timm

    try:
        found = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a tag that the model does not have
        found = None
    if found is None or not found.has_weights:
        raise InputError(
            f"Backbone {name!r} ({why}) has no pretrained weights: name one of timm's that has, such as --backbone "
            "resnet18, load a file with --weights FILE, or leave --pretrained out."
        )


def fetch(name: str, **settings: Any) -> nn.Module:
    """A timm model with its pretrained weights, from the cache of Hugging Face or over the network.

    Raises InputError, within seconds, where they cannot be fetched, and where a part of them was not loaded.
    """
    import timm

    _check_reachable(name, timm.get_pretrained_cfg(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            net: nn.Module = timm.create_model(name, pretrained=True, **settings)
        except Exception as error:  # of httpx, of urllib, of timm
            raise not_fetched(name, error) from error
        # timm loads what fits and leaves the rest as it was drawn, without an error.
        torch.manual_seed(0)
        drawn = timm.create_model(name, pretrained=False, **settings).state_dict()
    for entry, value in net.named_parameters():
        if value.ndim > 1 and torch.equal(value, drawn[entry]) and bool((value != value.flatten()[0]).any()):
            raise InputError(
                f"The pretrained weights of {name!r} do not fill it ({entry} stays random): use another backbone."
            )
    return net


def _check_reachable(name: str, found: Any) -> None:
    """Ask once, without the long retries of a download, whether the weights are there. Raises InputError."""
    if not found.hf_hub_id or found.file or found.state_dict:
        return
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = found.hf_hub_id.partition("@")
    files = (found.hf_hub_filename,) if found.hf_hub_filename else FILES
    if any(isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str) for file in files):
        return
    try:
        get_hf_file_metadata(hf_hub_url(repository, files[0], revision=revision or None), timeout=PATIENCE)
    except EntryNotFoundError:
        return  # the server answers; the weights may be in another file
    except Exception as error:
        raise not_fetched(name, error) from error


def not_fetched(name: str, error: Exception) -> InputError:
    """What to do without the network."""
    reason = in_a_line(error, 120)
    return InputError(
        f"The pretrained weights of {name!r} cannot be fetched ({reason}): download them elsewhere and give their "
        f"file with --backbone {name} --weights FILE."
    )
