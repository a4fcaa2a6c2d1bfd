"""The geometry of point clouds: intrinsic dimension, linear dimension, and their difference as a measure of curvature.

A flat cloud spans as many directions as it has dimensions; a curved one, such as a circle in the plane, spans more.
Ansuini, Laio, Macke and Zoccolan, "Intrinsic dimension of data representations in deep neural networks", NeurIPS 2019,
measure networks this way; FT-VGAE and R-DC follow the features of deep clustering through their training with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from coterie.algorithms.neighbours import nearest, scale_of
from coterie.common.arguments import array_from, number, numbers_from, whole_number
from coterie.common.isolation import isolated
from coterie.types import InputError

MOST_REPEATS = 1_000_000
SMALLEST_GROUP = 50  # points; the dimensions of smaller groups are too uncertain to be averaged

Points = Float[Tensor, "n d"] | NDArray[np.floating]


@dataclass(frozen=True)
class Geometry:
    """Dimensions of a point cloud, or their means over its groups.

    >>> from coterie.algorithms.geometry import Geometry
    >>> Geometry(intrinsic=1.0, linear=2.0, groups=1).curvature
    1.0
    """

    intrinsic: float  # ID
    linear: float  # LID
    groups: int  # number of groups that were large enough to be measured

    @property
    def curvature(self) -> float:
        """LID - ID: 0 for a flat cloud, 1 for a circle."""
        return self.linear - self.intrinsic


@isolated
def intrinsic_dimension(points: Points, discard: float = 0.1) -> float:
    """ID by TwoNN: the ratios μ of the distances to the second and to the first neighbour follow F(μ) = 1 - μ^(-ID).

    The slope through the origin of -ln(1 - F) over ln μ, F(μ_(k)) = k/n, without the largest share `discard` of the
    ratios. Points with a copy and those whose two neighbours are equally far are left out. Facco, d'Errico, Rodriguez
    and Laio, "Estimating the intrinsic dimension of datasets by a minimal neighborhood information", Scientific Reports
    2017. High dimensions come out too low, for want of points: 8.5 to 8.9 for 5,000 points of 10 dimensions.

    Raises InputError for fewer than 3 usable points and for `discard` outside [0, 1).

    >>> import numpy as np
    >>> from coterie.algorithms.geometry import intrinsic_dimension
    >>> angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 500)
    >>> circle = np.c_[np.cos(angle), np.sin(angle)]
    >>> 0.8 < intrinsic_dimension(circle) < 1.2
    True
    """
    cloud = _tensor(points)
    if not isinstance(discard, int | float) or not 0 <= discard < 1:
        raise InputError(f"discard is {discard}: it must be at least 0 and below 1.")
    if len(cloud) < 3:
        raise InputError(f"The intrinsic dimension of {len(cloud)} points cannot be measured: give at least 3.")
    first, second = nearest(cloud * scale_of(cloud), 2)[0].double().unbind(dim=1)
    usable = (first > 0) & (second > first)
    ratio = (second[usable] / first[usable]).log().sort().values
    n = len(ratio)
    kept = min(int((1 - discard) * n + 1e-9), n - 1)  # at F = 1 the logarithm is infinite
    if kept < 1:
        raise InputError("The intrinsic dimension cannot be measured: too few points have neighbours that differ.")
    x = ratio[:kept]
    y = -torch.log1p(-torch.arange(1, kept + 1, dtype=torch.float64, device=x.device) / n)
    return float((x @ y) / (x @ x))


@isolated
def intrinsic_dimension_spread(
    points: Points, *, generator: torch.Generator, repeats: int = 20, share: float = 0.9
) -> tuple[float, float]:
    """Mean and standard deviation of the intrinsic dimension over random subsets of the points, at least two.

    >>> import torch
    >>> from coterie.algorithms.geometry import intrinsic_dimension_spread
    >>> points = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    >>> mean, spread = intrinsic_dimension_spread(points, generator=torch.Generator().manual_seed(0), repeats=3)
    >>> 1.5 < mean < 2.5, 0 < spread < 0.5
    (True, True)
    """
    cloud, repeats = _tensor(points), whole_number(repeats, "repeats", 2, MOST_REPEATS)
    size = round(number(share, "share", 0, 1) * len(cloud))
    draws = [torch.randperm(len(cloud), generator=generator)[:size].to(cloud.device) for _ in range(repeats)]
    found = torch.tensor([intrinsic_dimension(cloud[rows]) for rows in draws], dtype=torch.float64)
    return float(found.mean()), float(found.std())


@isolated
def linear_dimension(points: Points, share: float = 0.9, *, legacy_zero_based: bool = False) -> int:
    """LID: how many principal components of the z-scored features it takes to explain more than `share` of variance.

    Not the *local* intrinsic dimension, in spite of the usual letters. Constant features count for nothing, and a cloud
    of one place has dimension 0. `legacy_zero_based` gives one less, as the code of FT-VGAE does, whose published
    curves show the index of the component and not the number. Raises InputError for a share outside 0 to 1.

    >>> import numpy as np
    >>> from coterie.algorithms.geometry import linear_dimension
    >>> angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 500)
    >>> circle = np.c_[np.cos(angle), np.sin(angle)]
    >>> linear_dimension(circle), linear_dimension(circle[:, [0, 0]])
    (2, 1)
    """
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise InputError(f"share is {share}: it must lie between 0 and 1.")
    cloud = _tensor(points).double()
    centred = cloud - cloud.mean(dim=0)
    # By comparison of values: the deviation of a constant feature may come out as a rounding error.
    varies = cloud.amax(dim=0) > cloud.amin(dim=0)
    scored = centred[:, varies] / centred[:, varies].square().mean(dim=0).sqrt()
    if scored.numel() == 0:
        return 0
    # Both have the same eigenvalues but for zeros; the smaller one is cheaper.
    products = scored.T @ scored if scored.shape[1] <= len(scored) else scored @ scored.T
    explained = torch.linalg.eigvalsh(products).flip(0).clamp(min=0).cumsum(dim=0)
    below = int((explained <= share * explained[-1]).sum())
    return below if legacy_zero_based else below + 1


@isolated
def geometry_of(
    points: Points, groups: Int[Tensor, " n"] | NDArray[np.integer] | None = None, *, smallest: int = SMALLEST_GROUP
) -> Geometry:
    """ID and LID of the whole cloud, or, with `groups` (a number for each point), their means over the groups.

    Groups of fewer than `smallest` points are passed over. Raises InputError when none is left.

    >>> import numpy as np
    >>> from coterie.algorithms.geometry import geometry_of
    >>> angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 500)
    >>> circle = np.c_[np.cos(angle), np.sin(angle)]
    >>> geometry_of(circle, groups=np.arange(500) // 250).groups
    2
    """
    cloud = _tensor(points)
    if groups is None:
        return Geometry(intrinsic_dimension(cloud), float(linear_dimension(cloud)), 1)
    of = _groups(groups, cloud)
    names, sizes = of.unique(return_counts=True)
    parts = [cloud[of == name] for name in names[sizes >= smallest]]
    if not parts:
        raise InputError(f"No group has {smallest} points: its geometry cannot be measured.")
    intrinsic, linear = [intrinsic_dimension(part) for part in parts], [linear_dimension(part) for part in parts]
    return Geometry(sum(intrinsic) / len(parts), sum(linear) / len(parts), len(parts))


@isolated
def curvature(points: Points, groups: Int[Tensor, " n"] | NDArray[np.integer] | None = None) -> float:
    """Mean LID - mean ID, see `geometry_of`.

    >>> import numpy as np
    >>> from coterie.algorithms.geometry import curvature
    >>> angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 500)
    >>> circle = np.c_[np.cos(angle), np.sin(angle)]
    >>> round(curvature(circle))
    1
    """
    return geometry_of(points, groups).curvature


@isolated
def singular_values(points: Points) -> Float[Tensor, " r"]:
    """Of the centred points, largest first, divided by √n: standard deviations along the principal directions.

    A small last one beside a large first says that directions have collapsed, which the z-scores of LID hide.

    >>> import numpy as np
    >>> from coterie.algorithms.geometry import singular_values
    >>> singular_values(np.array([[0.0, 0], [4, 0], [2, 0]]))[1].item()
    0.0
    """
    cloud = _tensor(points).double()
    values = torch.linalg.svdvals(cloud - cloud.mean(dim=0)) / len(cloud) ** 0.5
    return values.float()


def _tensor(points: Points) -> Float[Tensor, "n d"]:
    """As float32, on the device that they are on. Raises InputError for what is no table of finite numbers.

    What float32 cannot hold is centred first: points around 1e8 that differ by less than 1 would all be alike.
    """
    given: Any = points if isinstance(points, Tensor) else torch.from_numpy(numbers_from(points, "points"))
    if given.ndim != 2 or given.is_complex() or 0 in given.shape:
        raise InputError(f"The points have shape {tuple(given.shape)} ({given.dtype}): give real numbers (n, d).")
    cloud = given.detach().float()
    if given.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        exact = given.detach().double()
        if not torch.equal(cloud.double(), exact):
            cloud = (exact - exact.mean(dim=0)).float()
    if not bool(cloud.isfinite().all()):
        raise InputError(
            "The points have values that are NaN, infinite or too large for float32: leave those rows out."
        )
    return cloud


def _groups(given: Any, cloud: Tensor) -> Int[Tensor, " n"]:
    """The number of each point's group. Raises InputError for anything else."""
    numbers = given if isinstance(given, Tensor) else array_from(given, "groups")
    if tuple(numbers.shape) != (len(cloud),) or (isinstance(numbers, np.ndarray) and numbers.dtype.kind not in "biu"):
        raise InputError(
            f"The groups have shape {tuple(numbers.shape)} ({numbers.dtype}): give a whole number for each of the "
            f"{len(cloud)} points."
        )
    return torch.as_tensor(numbers, device=cloud.device)
