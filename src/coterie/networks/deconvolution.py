"""A deconvolutional network: two layers of convolutional sparse coding, the backbone `decnn`.

Zeiler, Krishnan, Taylor and Fergus, "Deconvolutional Networks", CVPR 2010. A layer's maps z are those that rebuild its
input at the least cost, λ/2 |Σ_k z_k * f_k - y|² + Σ |z_k|, so that they are computed by minimising it: by FISTA (Beck
and Teboulle, 2009), where the paper has continuation and conjugate gradients. The second layer codes the first one's
maps, one or two of them by each filter. `decnn` has the paper's 9 maps and 45, `decnn-4` has 4 and 10.
"""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.net import Net
from coterie.networks.pooled import GRID, PooledMaps, resized
from coterie.networks.trunks import trunk
from coterie.types import InputError, ItemSpec

NAME, MAPS = "decnn", 9
FILTER = 7  # pixels of a filter's side; of images below 14 pixels about half of their shorter side
LARGEST = 64  # pixels of the longer side, to which larger images are made smaller
LEAST_CONTRAST = 0.01  # deviation below which a channel's contrast is not raised any more
ABOVE = 1.001  # of the largest eigenvalue, against rounding: a step that is too long diverges


@trunk(NAME, f"{NAME}-")
def build_deconvolution(name: str, spec: ItemSpec) -> PooledMaps:
    """The backbone of that name, `decnn` or `decnn-4`. Raises InputError for another one, and for embeddings."""
    maps = name.removeprefix(NAME).removeprefix("-") or str(MAPS)
    if not maps.isdigit() or not 2 <= int(maps) <= 64:
        raise InputError(f"Unknown backbone {name!r}: the deconvolutional networks are 'decnn' and 'decnn-4'.")
    if spec.kind != "images":
        raise InputError(f"Backbone {name!r} reads images, but the source holds embeddings: use another one.")
    coder = SparseCoder(spec, int(maps))
    return PooledMaps(coder, coder.length)


def coder_of(net: Net) -> SparseCoder:
    """The two layers of a net with this backbone. Raises InputError for another one, which computes no codes."""
    found = getattr(net.backbone.trunk, "convolutions", None)
    if not isinstance(found, SparseCoder):
        raise InputError(
            "DeCNN's features are the codes of its own two layers, which no other backbone has: leave --backbone or "
            "--init out, or take --backbone decnn or decnn-4."
        )
    return found


class SparseCoder(nn.Module):
    """Both layers. Called, it gives the size of all codes, the largest of each of 4×4 squares, in a row.

    It takes images in [0, 1]. `fidelity` (λ) and `iterations` are kept with the filters, as the codes depend on them.
    """

    fidelity: Tensor
    iterations: Tensor

    def __init__(self, spec: ItemSpec, maps: int) -> None:
        super().__init__()
        shrink = min(1.0, LARGEST / max(spec.height, spec.width))
        self.size = (max(1, round(spec.height * shrink)), max(1, round(spec.width * shrink)))
        side = min(FILTER, max(2, min(self.size) // 2))
        sources = [[i] for i in range(maps)] + [list(pair) for pair in combinations(range(maps), 2)]
        self.first = SparseLayer(spec.channels, [list(range(spec.channels))] * maps, side)
        self.second = SparseLayer(maps, sources, side)
        self.length = GRID**2 * (maps + len(sources))
        self.register_buffer("fidelity", torch.ones(()))
        self.register_buffer("iterations", torch.tensor(50))

    @torch.no_grad()
    def set(self, fidelity: float, iterations: int) -> None:
        self.fidelity.fill_(fidelity)
        self.iterations.fill_(iterations)

    def even(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c y x"]:
        """Each channel of each image scaled to mean 0 and deviation 1, of at most 64 pixels a side."""
        images = resized(images, self.size).float()
        apart = images - images.mean((2, 3), keepdim=True)
        return apart / apart.square().mean((2, 3), keepdim=True).sqrt().clamp(min=LEAST_CONTRAST)

    def codes(self, layer: SparseLayer, given: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k y x"]:
        return layer.codes(given, float(self.fidelity), int(self.iterations))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        with torch.autocast(images.device.type, enabled=False):
            first = self.codes(self.first, self.even(images))
            both = (first, self.codes(self.second, first))
            return torch.cat([F.adaptive_max_pool2d(z.abs(), GRID).flatten(1) for z in both], 1)


class SparseLayer(nn.Module):
    """Filters f_kc from maps k to channels c, each map reaches some of the channels; no filter is longer than 1.

    Maps are larger than what they rebuild, by a filter's side less 1, so that every filter that touches the image has
    its value. (Filters are stored flipped, as torch's convolutions take them.)
    """

    links: Tensor

    def __init__(self, channels: int, reached: list[list[int]], side: int) -> None:
        super().__init__()
        links = torch.zeros(channels, len(reached))
        for k, some in enumerate(reached):
            links[some, k] = 1
        self.register_buffer("links", links)
        drawn = torch.randn(channels, len(reached), side, side)
        self.filters = nn.Parameter(drawn / drawn.square().sum((2, 3), keepdim=True).sqrt())

    def kernels(self) -> Float[Tensor, "c k s s"]:
        return self.filters * self.links[..., None, None]

    @torch.no_grad()
    def shorten(self) -> None:
        """Bring filters that have become longer than 1 back to 1: else the codes would only be smaller."""
        self.filters.div_(self.filters.square().sum((2, 3), keepdim=True).sqrt().clamp(min=1))

    def rebuild(self, codes: Float[Tensor, "b k y x"]) -> Float[Tensor, "b c h w"]:
        """Σ_k z_k * f_kc"""
        return F.conv2d(codes, self.kernels())

    def cost(
        self, given: Float[Tensor, "b c h w"], codes: Float[Tensor, "b k y x"], fidelity: float
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Both terms of the codes' objective, for each item: λ/2 times the squared error, and the codes' size."""
        error = (self.rebuild(codes) - given).square().sum((1, 2, 3))
        return fidelity / 2 * error, codes.abs().sum((1, 2, 3))

    def codes(self, given: Float[Tensor, "b c h w"], fidelity: float, iterations: int) -> Float[Tensor, "b k y x"]:
        """The maps of least cost, approached by `iterations` steps of FISTA from 0."""
        kernels = self.kernels()
        step = 1 / (self.curvature((given.shape[2], given.shape[3])) * ABOVE)
        threshold = step / fidelity
        codes = F.softshrink(step * F.conv_transpose2d(given, kernels), threshold)
        ahead, pace = codes, 1.0  # the first step, from 0, was taken above
        for _ in range(iterations - 1):
            rest = given - F.conv2d(ahead, kernels)
            before, codes = codes, F.softshrink(ahead + step * F.conv_transpose2d(rest, kernels), threshold)
            faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
            ahead = codes + (pace - 1) / faster * (codes - before)
            pace = faster
        return codes

    @torch.no_grad()
    def curvature(self, size: tuple[int, int]) -> float:
        """The largest eigenvalue of rebuilding times its adjoint, on images of that size.

        Of a circular convolution of the maps' size, which is at least that of the one that is cut to the image; there
        each frequency has a matrix of its own. It is 1 for filters that are all 0.
        """
        kernels = self.kernels()
        larger = (size[0] + kernels.shape[2] - 1, size[1] + kernels.shape[3] - 1)
        spectrum = torch.fft.rfft2(kernels, larger).permute(2, 3, 0, 1)
        found = torch.linalg.eigvalsh(spectrum @ spectrum.mH).amax()
        return float(found) or 1.0
