"""Spectral coordinates of items by a locally scaled neighbour graph, and of new items by Nyström's formula.

Zelnik-Manor and Perona, "Self-Tuning Spectral Clustering", NIPS 2004: two items have the affinity exp(-d²/(σᵢσⱼ)), σ an
item's distance to its s-th neighbour, and an item has 0 to itself. Here it is 0, too, where neither item is a near
neighbour of the other, which keeps the graph sparse. Coordinates are the leading eigenvectors of D^-½ A D^-½, with each
item's row scaled to length 1.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn
from torch.nn import functional

from coterie.algorithms.neighbours import nearest
from coterie.networks.memory import ItemTable

DENSE = 500  # items up to which all eigenvectors are computed
LEAST_SCALE = 1e-3  # of the mean: copies of an item are at distance 0 from it
LINK = 1e-3  # of the mean affinity, between the components of a graph that is not connected


class SpectralCoordinates(nn.Module):
    """An item's row of leading eigenvectors: λ⁻¹ Σⱼ a(x, xⱼ) dⱼ^-½ vⱼ over its near landmarks, scaled to length 1."""

    def __init__(self, width: int, coordinates: int, neighbours: int, scale: int) -> None:
        super().__init__()
        self.coordinates, self.neighbours, self.scale = coordinates, neighbours, scale
        self.landmarks, self.scales, self.vectors = ItemTable(width), ItemTable(1), ItemTable(coordinates)

    @torch.no_grad()
    def place(self, rows: Float[Tensor, "n d"], generator: torch.Generator) -> None:
        """Take these items as landmarks."""
        graph, scales, values, vectors = eigenvectors(rows, self.neighbours, self.scale, self.coordinates, generator)
        weighted = vectors / np.sqrt(graph.sum(1))[:, None] / values
        self.landmarks.fill(rows)
        self.scales.fill(scales[:, None])
        self.vectors.fill(torch.from_numpy(weighted).to(rows))

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        known = self.landmarks.rows
        distances, index = nearest(known, min(self.neighbours + 1, len(known)), rows, exact=True)
        # A landmark is the nearest to itself, so that its s-th neighbour is the one after s.
        own = distances[:, min(self.scale, distances.shape[1] - 1)].clamp(min=float(self.scales.rows.min()))
        affinity = (-distances.square() / (own[:, None] * self.scales.rows[index, 0])).exp()
        return functional.normalize((affinity[:, :, None] * self.vectors.rows[index]).sum(1), dim=1)


def few_copies(rows: Float[Tensor, "n d"], most: int, least: int) -> Bool[Tensor, " n"]:
    """Which rows to keep so that none is there more than `most` times; all, where fewer than `least` would stay.

    An item's scale is its distance to its s-th neighbour: with more than s copies it is 0, and the copies are a part of
    the graph that hangs together with nothing.
    """
    met: Counter[bytes] = Counter()
    keep = []
    for row in rows.cpu().numpy():
        key = hashlib.blake2b((row + 0).tobytes(), digest_size=16).digest()  # + 0: -0.0 is 0.0
        met[key] += 1
        keep.append(met[key] <= most)
    kept = torch.tensor(keep, device=rows.device)
    return kept if int(kept.sum()) >= least else torch.ones_like(kept)


def eigenvectors(
    rows: Float[Tensor, "n d"], neighbours: int, scale: int, count: int, generator: torch.Generator
) -> tuple[csr_array, Float[Tensor, " n"], np.ndarray, np.ndarray]:
    """The graph of these items, their scales, its largest eigenvalues and their vectors (n, count)."""
    graph, scales = local_graph(rows, neighbours, scale)
    graph = linked(graph, rows)
    return graph, scales, *leading_vectors(graph, count, generator)


def local_graph(rows: Float[Tensor, "n d"], neighbours: int, scale: int) -> tuple[csr_array, Float[Tensor, " n"]]:
    """The symmetric affinities (n, n) of items and their near neighbours, and every item's σ."""
    n = len(rows)
    distances, index = nearest(rows, min(neighbours, n - 1), exact=True)
    scales = distances[:, min(scale, n - 1) - 1]
    scales = scales.clamp(min=float(LEAST_SCALE * scales.mean()) or 1.0)
    affinity = (-distances.square() / (scales[:, None] * scales[index])).exp().double().cpu().numpy()
    first = np.repeat(np.arange(n), index.shape[1])
    directed = csr_array((affinity.ravel(), (first, index.cpu().numpy().ravel())), shape=(n, n))
    return csr_array(directed.maximum(directed.T)), scales


def linked(graph: csr_array, rows: Float[Tensor, "n d"]) -> csr_array:
    """The graph with weak links between its components, along the shortest tree between their best connected items."""
    count, part = connected_components(graph, directed=False)
    if count == 1:
        return graph
    degree = np.asarray(graph.sum(1))
    order = np.lexsort((-degree, part))
    heads = order[np.unique(part[order], return_index=True)[1]]
    between = torch.cdist(rows[heads].double(), rows[heads].double()).cpu().numpy()
    # Plus 1, since copies lie at distance 0, which would mean no link.
    tree = minimum_spanning_tree(between + 1).tocoo()
    weight = np.full(count - 1, LINK * (graph.data.mean() or 1.0))
    links = csr_array((weight, (heads[tree.row], heads[tree.col])), shape=graph.shape)
    return csr_array(graph + links + links.T)


def leading_vectors(graph: csr_array, count: int, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The `count` largest eigenvalues of D^-½ A D^-½, falling, and their vectors as columns."""
    n = graph.shape[0]
    root = diags_array(1 / np.sqrt(graph.sum(1)))
    normal = root @ graph @ root
    if n <= max(DENSE, 3 * count):
        values, vectors = np.linalg.eigh(normal.toarray())
    else:
        begin = torch.rand(n, generator=generator, dtype=torch.float64).numpy()
        values, vectors = eigsh(normal, k=count, which="LA", v0=begin)
    order = np.argsort(-values)[:count]
    return values[order], vectors[:, order]
