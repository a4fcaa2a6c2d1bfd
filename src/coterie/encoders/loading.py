"""Loads an encoder with all of its weights, or raises InputError: no part may keep its random weights."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from coterie.common.words import in_a_line
from coterie.data.fingerprint import file_digest
from coterie.encoders.catalogue import Entry, is_timms
from coterie.encoders.folding import folded
from coterie.encoders.resolving import Wanted, resolve
from coterie.encoders.weights import WeightFile
from coterie.networks.draws import OwnDraws
from coterie.networks.weights import of_trunk, read_weights
from coterie.types import Encoding, InputError


@dataclass
class Encoder:
    """A net that turns pictures into embeddings. It is called with pixels of the size that `encoding` says."""

    net: nn.Module
    encoding: Encoding
    width: int
    tokens: int  # that stand before those of the patches
    device: torch.device

    @torch.inference_mode()
    def __call__(self, pixels: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        mean = torch.tensor(self.encoding.mean, device=self.device)[:, None, None]
        std = torch.tensor(self.encoding.std, device=self.device)[:, None, None]
        images = (pixels.to(self.device).float() / 255 - mean) / std
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.encoding.precision == "bf16"):
            found = self._pooled(images)
        return found.float().cpu()

    def _pooled(self, images: Tensor) -> Tensor:
        pooling = self.encoding.pooling
        if pooling == "own":
            return self.net(images)
        tokens: Tensor = self.net.forward_features(images)  # type: ignore[operator]
        mean = tokens[:, self.tokens :].mean(1)
        if pooling == "mean":
            return mean
        first = tokens[:, 0]
        return first if pooling == "cls" else torch.cat([F.normalize(first, dim=1), F.normalize(mean, dim=1)], 1)


def whole_net(wanted: Wanted) -> tuple[nn.Module, Encoding]:
    """Build the encoder's net and fill it. Raises InputError where its weights cannot be found or do not fit."""
    entry, found, config = resolve(wanted)
    with OwnDraws():
        net = _build(entry, wanted, config)
    given = read_weights(found.path)
    digest = file_digest(found.path)
    fill(
        net,
        _in_order(net, given, digest, entry, found.path) if _ordered(entry, wanted) else given,
        found.path,
        entry.name,
    )
    return net, _encoding(entry, net, wanted, found, digest)


def load_encoder(wanted: Wanted) -> Encoder:
    """The encoder, ready for pictures. Raises InputError as `whole_net`, and for a pooling of tokens that it lacks."""
    net, encoding = whole_net(wanted)
    net = net.to(wanted.device).eval()
    if wanted.pooling == "own":
        probe = torch.linspace(-1, 1, 3 * encoding.size**2, device=wanted.device)
        net = folded(net, probe.reshape(1, 3, encoding.size, encoding.size))
    net = net.to(memory_format=torch.channels_last)
    encoder = Encoder(net, encoding, 0, int(getattr(net, "num_prefix_tokens", 0)), wanted.device)
    _check_tokens(encoder)
    encoder.width = encoder(torch.zeros(1, 3, encoding.size, encoding.size, dtype=torch.uint8)).shape[1]
    return encoder


def _ordered(entry: Entry, wanted: Wanted) -> bool:
    return bool(entry.ordered) and wanted.weights is None


def _build(entry: Entry, wanted: Wanted, config: Mapping[str, Any]) -> nn.Module:
    """The net without its classifier, with random weights. Raises InputError for a size that it cannot take."""
    import timm

    known = config.get("pretrained_cfg") or {key: value for key, value in config.items() if key in CONFIGURED}
    settings: dict[str, Any] = {**entry.settings, **config.get("model_args", {}), "num_classes": entry.head}
    own = timm.get_pretrained_cfg(entry.model) if not known else None
    plain = entry.size or (own.input_size[-1] if own is not None else 0)
    # Who is not told of a size cannot refuse to hear of one: FastViT's models know no img_size.
    size = (wanted.size or entry.size) if entry.resized or wanted.size not in (None, plain) else None
    if known:
        settings["pretrained_cfg_overlay"] = known
    try:
        if size is None:
            net: nn.Module = timm.create_model(entry.model, pretrained=False, **settings)
        else:
            net = _of_size(entry, size, settings)
    except InputError:
        raise
    except Exception as error:  # whatever timm's models say to settings that do not fit them
        reason = in_a_line(error, 160)
        raise InputError(f"Encoder {entry.name!r} cannot be built: {reason}.") from error
    return net


CONFIGURED = frozenset(("mean", "std", "crop_pct", "crop_mode", "interpolation", "input_size"))


def _of_size(entry: Entry, size: int, settings: Mapping[str, Any]) -> nn.Module:
    """The net for pictures of another size: transformers take it as an argument, convolutional nets need none."""
    import timm

    with contextlib.suppress(TypeError):
        net: nn.Module = timm.create_model(entry.model, pretrained=False, img_size=size, **settings)
        patch = getattr(getattr(net, "patch_embed", None), "patch_size", (1, 1))
        if size % int(patch[0]):
            raise InputError(f"Encoder {entry.name!r} has patches of {patch[0]} pixels: give a multiple as its size.")
        return net
    made: nn.Module = timm.create_model(entry.model, pretrained=False, **settings)
    return made


def fill(net: nn.Module, given: Mapping[str, Tensor], path: Path, name: str) -> None:
    """Copy a file's tensors into the net. Raises InputError unless each of the net's is there, of its shape and finite.

    timm itself would leave missing tensors at their random values without a word.
    """
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            given = convert(dict(given), net)
        except Exception as error:  # a file of another net
            raise InputError(f"{path} does not fit {name}: these are not its weights. Give its own file.") from error
    wanted = {entry: value for entry, value in net.state_dict().items() if not entry.endswith("num_batches_tracked")}
    fitting = {entry: given[entry] for entry in wanted if entry in given and given[entry].shape == wanted[entry].shape}
    if len(fitting) < len(wanted):
        missing = next(entry for entry in wanted if entry not in fitting)
        raise InputError(
            f"{path} fits only {len(fitting)} of {len(wanted)} tensors of {name} (the first missing one is "
            f"{missing}): these are not its weights. Give its own file, or name the encoder that the file belongs to."
        )
    if more := [entry for entry in given if entry not in wanted and of_trunk(entry, wanted)]:
        raise InputError(
            f"{path} is of a larger net than {name}, which has no {more[0]!r} ({len(more)} such entries): name the "
            "encoder that the file belongs to."
        )
    if bad := next((entry for entry, value in fitting.items() if not bool(torch.isfinite(value).all())), None):
        raise InputError(f"{path} holds values that are not finite, first in {bad!r}: fetch it again.")
    net.load_state_dict(fitting, strict=False)


def _in_order(net: nn.Module, given: Mapping[str, Tensor], digest: str, entry: Entry, path: Path) -> dict[str, Tensor]:
    """The tensors of a file with other names, by their order; only for the one file on which this was checked."""
    if digest != entry.ordered:
        raise InputError(
            f"{path} is not the file that {entry.name} was checked with (its SHA-256 is {digest[:12]}...): install "
            "the package again."
        )
    whole = {**net.state_dict()}
    names = [name for name in whole if not name.endswith("num_batches_tracked")]
    values = [value for name, value in given.items() if not name.endswith("num_batches_tracked")]
    return dict(zip(names, values, strict=False))  # the file's last are the classifier's, which the net has not


def _encoding(entry: Entry, net: nn.Module, wanted: Wanted, found: WeightFile, digest: str) -> Encoding:
    """How pictures are prepared, by the model's configuration. Raises InputError for what is not understood."""
    own: Any = net.pretrained_cfg
    channels, height, width = own["input_size"]
    mode, interpolation = own.get("crop_mode") or "center", own.get("interpolation") or "bicubic"
    if channels != 3 or height != width:
        raise InputError(f"Encoder {entry.name!r} sees {channels} channels of {width}x{height}: only 3 of a square do.")
    if mode not in ("center", "squash") or interpolation not in ("bicubic", "bilinear"):
        raise InputError(
            f"Encoder {entry.name!r} wants pictures cut by {mode} and scaled by {interpolation}: take another."
        )
    squash = wanted.squash or mode == "squash"
    by_wheel = _ordered(entry, wanted)
    return Encoding(
        entry.name,
        entry.model,
        digest,
        entry.licence,
        entry.taught,
        wanted.size or entry.size or int(height),
        1.0 if squash else float(entry.crop or own.get("crop_pct") or 1.0),
        squash,
        interpolation,
        tuple(map(float, entry.mean if by_wheel and entry.mean else own["mean"])),
        tuple(map(float, entry.std if by_wheel and entry.std else own["std"])),
        wanted.pooling,
        "bf16" if wanted.precision == "bf16" else "fp32",
        found.origin if wanted.weights is not None or not is_timms(entry.name) else "",
    )


def _check_tokens(encoder: Encoder) -> None:
    """Raise InputError for a pooling of tokens that the net does not have."""
    pooling, size = encoder.encoding.pooling, encoder.encoding.size
    if pooling == "own":
        return
    with torch.inference_mode():
        made = encoder.net.forward_features(torch.zeros(1, 3, size, size, device=encoder.device))  # type: ignore[operator]
    if not isinstance(made, Tensor) or made.ndim != 3 or (pooling != "mean" and encoder.tokens < 1):
        raise InputError(
            f"Encoder {encoder.encoding.encoder!r} has no such tokens for pooling {pooling}: leave it out."
        )
