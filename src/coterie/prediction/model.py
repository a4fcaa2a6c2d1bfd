"""A fitted model: predict with it, save it as safetensors with a JSON manifest, load it without a pickle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from coterie.methods.contract import Method, method_class, name_of
from coterie.networks.backbones import build_backbone
from coterie.networks.features import stream
from coterie.networks.net import Net
from coterie.training.checkpoints import write_atomically
from coterie.training.plan import coerce, resolved
from coterie.types import Assignments, InputError, ItemSpec, Source

FORMAT = 1
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib"}


@dataclass(frozen=True)
class Manifest:
    """What stands beside the weights: all that is needed to build the net again."""

    format: int
    method: str
    settings: dict[str, Any]
    n_clusters: int
    backbone: str
    spec: ItemSpec
    family: str


@dataclass
class Model:
    """A trained net with the method that reads it."""

    net: Net
    method: Method
    k: int
    backbone: str
    spec: ItemSpec
    family: str

    def predict(
        self, source: Source, *, embedding: bool = False, progress: Callable[[int], None] | None = None
    ) -> Assignments:
        """Probabilities of every item, head by head; 4·k bytes an item and head, and 4·d with `embedding`."""
        names: list[str] = []

        def compute(view: Tensor) -> Tensor:
            features = self.net.backbone(view)
            heads = self.method.predict(self.net, features)
            names[:] = list(heads)
            return torch.cat([*heads.values(), features] if embedding else list(heads.values()), dim=1)

        n, at = len(source.items), 0
        out = torch.empty(0)
        for chunk in stream(self.net, source.items, compute, progress=progress):
            if at == 0:
                out = torch.empty(n, chunk.shape[1])
            out[at : at + len(chunk)] = chunk
            at += len(chunk)
        parts = out.split([self.k] * len(names) + ([self.net.width] if embedding else []), dim=1)
        heads = dict(zip(names, parts, strict=False))
        return Assignments(source.ids, heads[names[0]], heads, parts[-1] if embedding else None)

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `manifest.json`, each whole or not at all."""
        from safetensors.torch import save

        answers = self.method.card.answers or tuple(self.net.head_names)
        unneeded = tuple(f"{name}." for name in self.net.head_names if name not in answers)
        state = {
            key: v.detach().cpu().contiguous()
            for key, v in self.net.state_dict().items()
            if not key.startswith(unneeded)
        }
        write_atomically(folder / "weights.safetensors", save(state))
        settings = resolved(self.method)
        manifest = Manifest(FORMAT, name_of(self.method), settings, self.k, self.backbone, self.spec, self.family)
        write_atomically(folder / "manifest.json", json.dumps(asdict(manifest), indent=2) + "\n")


def load_model(folder: Path, device: torch.device | str = "cpu") -> Model:
    """Load what `Model.save` wrote, from the model folder or from a run folder that has one.

    Raises InputError when there is no model, when it is of another format version or does not fit, and when the folder
    holds a pickle, which could run code.
    """
    if (folder / "model").is_dir():
        folder = folder / "model"
    manifest = _read_manifest(folder)
    spec, k = manifest.spec, manifest.n_clusters
    method = coerce(method_class(manifest.method), manifest.settings, manifest.method)
    size = spec.channels if spec.kind == "images" else spec.dim
    trunk = build_backbone(manifest.backbone, spec)
    net = Net(trunk, spec, torch.zeros(size), torch.ones(size), half=False)
    heads = method.heads(net, k)
    net.add({name: head for name, head in heads.items() if name in (method.card.answers or heads)})
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        net.load_state_dict(load_file(folder / "weights.safetensors"))
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"The weights in {folder} do not fit their manifest ({reason}): fit the model again."
        ) from error
    net.to(device).eval()
    return Model(net, method, k, manifest.backbone, spec, manifest.family)


def _read_manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise InputError(f"There is no model at {folder}: give a run folder or a folder that Clusterer.save wrote.")
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles:
        raise InputError(
            f"{folder} holds {pickles[0]}, a pickle, which could run code: coterie does not load such folders."
        )
    try:
        content = json.loads((folder / "manifest.json").read_text())
        if content["format"] != FORMAT:
            raise InputError(
                f"The model in {folder} has format {content['format']}, this version of coterie reads {FORMAT}: "
                "fit it again."
            )
        return TypeAdapter(Manifest).validate_python(content)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"There is no model in {folder}: its manifest.json is missing or damaged.") from error
