"""NMF + k-means: every item as a sum of few non-negative parts; K-means on the weights of the parts. Not trained.

The row of PICA's Table 1 is Cai, He, Wang, Bao and Han, "Locality Preserving Nonnegative Matrix Factorization", IJCAI
2009. JULE's authors ran it with the weight of locality at 0: Kullback-Leibler NMF, which is the
default here, by scikit-learn. With `locality` neighbours' codes are kept alike while the parts are found. The codes are
then computed for fixed parts, for the items of the run as for new ones.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from coterie.algorithms.factors import codes_of, neighbour_graph, smooth_factors
from coterie.algorithms.kmeans import place_groups
from coterie.common.bounds import Count, Memory, Restarts, Weight, Width
from coterie.contract import Card, Facts, OnlyIf
from coterie.networks.features import some_rows
from coterie.networks.heads import PrototypeHead
from coterie.networks.identity import own_backbone
from coterie.networks.net import Net
from coterie.types import Features, InputError

TOLERANCE = 1e-5  # of the objective, relative: the authors'
CODING = 100  # updates that compute an item's code

CARD = Card(
    title="NMF + k-means",
    paper="Cai, He, Wang, Bao, Han: Locality Preserving Nonnegative Matrix Factorization",
    year=2009,
    family="factors",
    url="https://www.ijcai.org/Proceedings/09/Papers/171.pdf",
    scaling="unit",
    backbone=own_backbone("NMF"),
    only_if=(OnlyIf("locality", lambda weight: weight > 0, ("neighbours",)),),
)


@dataclass(frozen=True)
class NMF:
    parts: Width | None = None  # None: as many as groups
    locality: Weight = 0.0  # λ, of the neighbours' term; the authors' release has 100
    neighbours: Count = 5  # of each item in the neighbour graph
    iterations: Count = 200
    most: Memory = 20_000  # items that the parts are found from; the others only get codes
    restarts: Restarts = 20  # of the K-means on the codes

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        return {"neighbours": (1, min(facts.n, self.most) - 1)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for more neighbours than other items."""
        items = min(facts.n, self.most)
        if self.locality > 0 and self.neighbours >= items:
            raise InputError(f"nmf.neighbours is {self.neighbours}, but of {items} items each has {items - 1} others.")

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        count = self.parts or k
        return {"parts": Parts(net.width, count), "groups": PrototypeHead(count, k, standardise=False)}

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Find the parts from some items, and group the codes of all by K-means."""
        everyone = features()
        net.parts.low.copy_(everyone.amin(0).clamp(max=0))
        rows = net.parts.lifted(everyone)
        some = some_rows(len(rows), self.most)
        known = rows if some is None else rows[some]
        codes, parts = plain_factors(known, net.parts.parts.shape[1], self.iterations, generator)
        if self.locality > 0:
            graph = neighbour_graph(known, self.neighbours)
            limit = (self.locality, self.iterations, TOLERANCE)
            codes, parts = smooth_factors(known, codes.clamp(min=1e-6), parts, graph, *limit)
        net.parts.place(parts)
        place_groups(net.groups, net.parts(everyone), generator, self.restarts)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(net.parts(features))}


def practical(facts: Facts) -> dict[str, Any]:
    """The defaults fit every machine."""
    return {}


class Parts(nn.Module):
    """An item's code: its weight of each part. Parts are columns of length 1.

    Features of another run's space may be negative: then each feature's lowest value among the items of the run is
    subtracted from it, and lower values of new items are raised to 0.
    """

    parts: Tensor
    low: Tensor

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.register_buffer("parts", torch.ones(width, count))
        self.register_buffer("low", torch.zeros(width))

    @torch.no_grad()
    def place(self, parts: Float[Tensor, "m r"]) -> None:
        self.parts.copy_(functional.normalize(parts, dim=0))

    def lifted(self, features: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        return (features - self.low).clamp(min=0)

    def forward(self, features: Float[Tensor, "n m"]) -> Float[Tensor, "n r"]:
        return codes_of(self.lifted(features), self.parts, CODING)


def plain_factors(
    rows: Float[Tensor, "n m"], count: int, iterations: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n r"], Float[Tensor, "m r"]]:
    """Codes and parts by scikit-learn: multiplicative updates for the Kullback-Leibler divergence."""
    from sklearn.decomposition import NMF as Factors
    from sklearn.exceptions import ConvergenceWarning

    seed = int(torch.randint(2**31, (1,), generator=generator))
    # Starts from singular vectors with their zeros filled, since multiplicative updates keep zeros.
    start = "nndsvda" if count <= min(rows.shape) else "random"
    factors = Factors(count, init=start, solver="mu", beta_loss="kullback-leibler", max_iter=iterations,
                      random_state=seed)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of updates is fixed on purpose
        codes = factors.fit_transform(rows.cpu().numpy())
    return torch.from_numpy(codes).to(rows), torch.from_numpy(factors.components_.T.copy()).to(rows)
