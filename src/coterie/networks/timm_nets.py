"""timm's nets as backbones: any of its models by name, without the classifier, for images of any form that it takes."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import nn

from coterie.common.shortage import shortage
from coterie.common.words import counted, in_a_line
from coterie.networks.trunks import own_trunks
from coterie.networks.weights import fetch
from coterie.types import InputError, ItemSpec

FULL_STEM = "full+"  # in front of timm's ResNets; their weights fit no other first layers
SMALL_SIDE = 40  # pixels up to which timm's ResNets get the CIFAR stem


def timm_net(name: str, spec: ItemSpec, *, pretrained: bool = False) -> nn.Module:
    """A timm model without its classifier; ResNets get the CIFAR stem for images of at most 40 px.

    Pretrained ones do not: the other layers would get inputs from a random first layer that they never saw.
    Raises InputError for an unknown name, and for images that the model cannot take.
    """
    import timm

    full, name = name.startswith(FULL_STEM), name.removeprefix(FULL_STEM)
    if name not in timm.list_models() and name.split(".")[0] not in timm.list_models():
        near = difflib.get_close_matches(name.lower(), [*timm.list_models(), "small-16", *own_trunks()], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; `timm.list_models()` has the names."
        raise InputError(f"Unknown backbone {name!r}{hint}")
    settings: dict[str, Any] = {"num_classes": 0, "in_chans": spec.channels}
    if name.startswith("resnet"):
        # torchvision's initialisation, which the papers use; timm would begin every block as the identity.
        settings["zero_init_last"] = False
    net, settings = _built(name, spec, settings)
    if pretrained:
        net = fetch(name, **settings)
    stem: Any = getattr(net, "conv1", None)
    residual = isinstance(stem, nn.Conv2d) and hasattr(net, "maxpool")
    if full and not residual:
        raise InputError(f"Backbone {FULL_STEM + name!r}: only ResNets have first layers to keep; write {name!r}.")
    if residual and not full and not pretrained and max(spec.height, spec.width) <= SMALL_SIDE:
        # Padding 1, as in the authors' CDC stage (the paper says 2; spec section 10, item 1).
        small = nn.Conv2d(spec.channels, stem.out_channels, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
        net.add_module("conv1", small)
        net.add_module("maxpool", nn.Identity())
    # Many models' own num_features is the width before a last layer that stays without a classifier.
    net.num_features = _width(net, name, spec)
    return net


def _built(name: str, spec: ItemSpec, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model with random weights, and the settings that it took. Raises InputError."""
    import timm

    sized = {**settings, "img_size": (spec.height, spec.width)}
    for chosen in (sized, settings):
        drawn = torch.random.get_rng_state()
        try:
            net = timm.create_model(name, pretrained=False, **chosen)
        except Exception as error:  # whatever timm's models say to settings that do not fit them
            if shortage(error):
                raise
            # Transformers want the size; most convolutional nets know no such argument.
            if chosen is sized and isinstance(error, TypeError) and "img_size" in str(error):
                torch.random.set_rng_state(drawn)
                continue
            raise InputError(f"Backbone {name!r} could not be built for {_form(spec)}: {_why(error)}.") from error
        _check_pieces(net, name, spec)
        return net, chosen
    raise AssertionError("unreachable")


def _check_pieces(net: nn.Module, name: str, spec: ItemSpec) -> None:
    """Raise InputError where pieces do not cover the images: timm would leave the rest of each out."""
    from timm.layers.patch_embed import PatchEmbed

    pieces = getattr(net, "patch_embed", None)
    if isinstance(pieces, PatchEmbed) and not pieces.dynamic_img_pad:
        high, wide = pieces.patch_size
        if spec.height % high or spec.width % wide:
            raise InputError(
                f"Backbone {name!r} cuts images into pieces of {high}×{wide} pixels, and these have "
                f"{spec.height}×{spec.width}: take a multiple of {high} as --image-size, or another --backbone."
            )


def _width(net: nn.Module, name: str, spec: ItemSpec) -> int:
    """The length of the vectors that the net gives, by a pass of one empty image. Raises InputError."""
    training = net.training
    try:
        with torch.no_grad():
            features = net.eval()(torch.zeros(1, spec.channels, spec.height, spec.width))
    except Exception as error:
        if shortage(error):
            raise
        raise InputError(
            f"Backbone {name!r} cannot take {_form(spec)} ({_why(error)}): take another --image-size, or another "
            "--backbone."
        ) from error
    finally:
        net.train(training)
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise InputError(f"Backbone {name!r} gives no vector for an image: take another --backbone.")
    return features.shape[1]


def _form(spec: ItemSpec) -> str:
    return f"images of {spec.height}×{spec.width} pixels and {counted(spec.channels, 'channel')}"


def _why(error: Exception) -> str:
    return in_a_line(error, 160).rstrip(".")
