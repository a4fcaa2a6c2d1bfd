"""Backbones: an item of any source -> a feature vector.

`small-16` and `small-32` are four-stage residual nets for two cores, `mlp` is for embeddings, `ae` (both) and `ae-conv`
(images) are the encoders of `autoencoder.py`, `dcgan` and `dcgan-32` are the discriminators of `dcgan.py`,
`pica-resnet34` and `iic-resnet34` are PICA's and IIC's, `identity` is the item itself, and every other name is timm's.
`sobel+NAME` puts a fixed Sobel filter before a backbone for images; `full+NAME` is a ResNet of timm's that keeps its
own first layers for small images. `auto` chooses by the form of the items and the device, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.draws import OwnDraws, forms_alone
from coterie.networks.residual import kaiming_convolutions, residual_stages
from coterie.networks.sobel import CHANNELS as SOBEL_CHANNELS
from coterie.networks.sobel import WithSobel
from coterie.networks.timm_nets import FULL_STEM, timm_net
from coterie.networks.trunks import builder_of, trunk
from coterie.networks.weights import check_pretrained, load_weights, put, read_weights
from coterie.types import InputError, ItemSpec

LIFT_BELOW = 64  # embeddings with fewer features than this are lifted by random ReLU features
LIFT_TO = 256
SOBEL = "sobel+"  # in front of the name of any backbone for images

WIDEST = 512  # channels of the first stage of a small net, which then has 310 million weights


@dataclass(frozen=True)
class BackboneChoice:
    """A backbone's name and the sentence that says why it was taken."""

    name: str
    why: str


def choose_backbone(name: str, spec: ItemSpec, device: str, *, as_published: bool = False) -> BackboneChoice:
    """Resolve `auto`: by what is clustered first, then by what the device can train in reasonable time.

    `as_published` takes ResNet-34 for all images, the backbone of CDC and of what it compares with.
    Raises InputError for a backbone of another kind of items.
    """
    if spec.kind == "embeddings":
        if name in ("ae", "identity"):
            return BackboneChoice(name, "asked for")
        if name not in ("auto", "mlp"):
            raise InputError(f"Backbone {name!r} reads images, but the source holds embeddings: use backbone 'mlp'.")
        return BackboneChoice("mlp", "the source holds embeddings")
    if name.removeprefix(SOBEL) == "mlp":
        raise InputError("Backbone 'mlp' reads embeddings, but the source holds images: use 'auto' or a timm name.")
    if name != "auto":
        return BackboneChoice(name, "asked for")
    if as_published:
        return BackboneChoice("resnet34", "the paper's")
    side = max(spec.height, spec.width)
    if device.startswith("cpu"):
        if spec.channels == 1 and side <= 32:
            return BackboneChoice("small-16", f"grey images of {side} px on a CPU")
        return BackboneChoice("small-32", f"images of {side} px on a CPU")
    return BackboneChoice("resnet34", f"images on {device}")


@dataclass(frozen=True)
class Start:
    """A backbone with the weights that it begins with, all of them loaded; notes tell the user what was adapted."""

    choice: BackboneChoice
    state: dict[str, Tensor]
    notes: list[str]


def check_start(choice: BackboneChoice, spec: ItemSpec) -> None:
    """Raise InputError where `--pretrained` has nothing to load, before anything is fetched."""
    if spec.kind == "embeddings":
        raise InputError("The source holds embeddings, and no pretrained weights read those: leave --pretrained out.")
    if choice.name.startswith(SOBEL):
        raise InputError(
            f"Backbone {choice.name!r} ({choice.why}) sees edges, and pretrained weights are of colour images: name a "
            "backbone such as --backbone resnet18, or leave --pretrained out."
        )
    check_pretrained(choice.name.removeprefix(FULL_STEM), choice.why)


def start_of(choice: BackboneChoice, spec: ItemSpec, weights: Path | None) -> Start:
    """The backbone filled with the file `weights`, or (None) with timm's weights. Raises InputError.

    A ResNet keeps the first layers that the weights have, also for images that would get the CIFAR stem without.
    """
    name, notes, side = choice.name, list[str](), max(spec.height, spec.width)
    with OwnDraws():
        net = build_backbone(name, spec)
    inner = net.trunk if isinstance(net, WithSobel) else net
    given = None if weights is None else read_weights(weights)
    if has_small_stem(inner) and (given is None or _wide(given.get("conv1.weight"))):
        sobel, bare = (SOBEL, name.removeprefix(SOBEL)) if name.startswith(SOBEL) else ("", name)
        name = f"{sobel}{FULL_STEM}{bare}"
        notes.append(
            f"{bare} keeps the first layers of its weights, which make images of {side} px four times smaller: "
            "--image-size 128 shows it more."
        )
        with OwnDraws():
            net = build_backbone(name, spec)
    if weights is None:
        net = build_backbone(name, spec, pretrained=True)
    else:
        assert given is not None
        notes += put(net, given, weights, name, embeddings=spec.kind == "embeddings")
    return Start(replace(choice, name=name), net.state_dict(), notes)


def width_of(choice: BackboneChoice, spec: ItemSpec) -> int:
    """The length of the backbone's output, by a net that takes no memory. Raises InputError as `build_backbone`."""
    with forms_alone():
        return int(cast(int, build_backbone(choice.name, spec).num_features))


def has_small_stem(net: nn.Module) -> bool:
    """Whether `timm_net` replaced the first layers of this net."""
    return isinstance(getattr(net, "conv1", None), nn.Conv2d) and isinstance(getattr(net, "maxpool", None), nn.Identity)


def _wide(weight: Tensor | None) -> bool:
    """Whether the first convolution is larger than that of the CIFAR stem."""
    return weight is not None and weight.ndim == 4 and weight.shape[-1] > 3


def build_backbone(name: str, spec: ItemSpec, *, pretrained: bool = False, weights: str | None = None) -> nn.Module:
    """Build a backbone with the attribute `num_features`, the length of its output vector.

    `pretrained` fetches timm's weights (the only network access); `weights` reads a local safetensors or .pth file.
    Raises InputError for an unknown name, for images that the net cannot take and for weights that cannot be loaded or
    do not fit.
    """
    if name.startswith(SOBEL):
        behind = replace(spec, channels=SOBEL_CHANNELS)
        return WithSobel(build_backbone(name.removeprefix(SOBEL), behind, pretrained=pretrained, weights=weights))
    build = builder_of(name)
    net = timm_net(name, spec, pretrained=pretrained) if build is None else build(name, spec)
    if weights is not None:
        load_weights(net, Path(weights))
    return net


@trunk("mlp")
def build_for_embeddings(name: str, spec: ItemSpec) -> EmbeddingNet:
    return EmbeddingNet(spec.dim)


@trunk("small-")
def build_small(name: str, spec: ItemSpec) -> SmallResNet:
    """A net such as `small-16`. Raises InputError for an invalid width."""
    return SmallResNet(_small_width(name), spec.channels, large=max(spec.height, spec.width) > 64)


def _small_width(name: str) -> int:
    width = name.removeprefix("small-")
    if not width.isdigit() or int(width) < 4:
        raise InputError(f"Unknown backbone {name!r}: the small residual nets are 'small-16' and 'small-32'.")
    if int(width) > WIDEST:
        raise InputError(f"Backbone {name!r} has no such width: a small residual net takes 4 to {WIDEST} channels.")
    return int(width)


class SmallResNet(nn.Module):
    """Four stages of one basic block each, widths w, 2w, 4w, 8w, and global average pooling.

    Small images keep their size through a 3×3 stem (the CIFAR stem); `large` ones, above 64 px, are reduced four times
    by a 7×7 stride-2 stem and a stride-2 max-pool, as in the standard ResNet.
    """

    def __init__(self, width: int, channels: int, *, large: bool) -> None:
        super().__init__()
        self.num_features = 8 * width
        stem = (
            nn.Conv2d(channels, width, 7, 2, 3, bias=False)
            if large
            else nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        )
        self.stem = nn.Sequential(
            stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        )
        self.stages = residual_stages(width, (1, 1, 1, 1))
        kaiming_convolutions(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.stages(self.stem(images)).mean((2, 3))


class EmbeddingNet(nn.Module):
    """A backbone for embeddings that starts where the embeddings are.

    From 64 features on it is z = x + W2 relu(W1 x) with W2 = 0 at first: K-means sees the embeddings themselves until
    training has a reason to move them. Shorter vectors (tables, 2-D points) are first lifted to 256 random ReLU
    features (arc-cosine kernel; Cho and Saul 2009, fixed), because CDC's per-sample standardisation needs width.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lift: nn.Module = nn.Identity()
        width = dim
        if dim < LIFT_BELOW:
            width = LIFT_TO
            linear = nn.Linear(dim, width)
            nn.init.normal_(linear.weight, std=dim**-0.5)
            nn.init.normal_(linear.bias, std=1.0)
            self.lift = nn.Sequential(linear.requires_grad_(False), nn.ReLU())
        self.num_features = width
        self.inner = nn.Linear(width, min(512, 2 * width))
        self.outer = nn.Linear(min(512, 2 * width), width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, vectors: Float[Tensor, "b f"]) -> Float[Tensor, "b d"]:
        lifted = self.lift(vectors)
        return lifted + self.outer(self.inner(lifted).relu())
