"""Agglomeration by directed affinities: groups of a neighbour graph are united pair by pair, largest affinity first.

Yang, Parikh and Batra, "Joint Unsupervised Learning of Deep Representations and Image Clusters", CVPR 2016, after
Zhang, Wang, Zhao and Tang, "Graph Degree Linkage", ECCV 2012. An item is linked to its near neighbours, by
W_ij = exp(-d²/σ²), σ² the mean of all these d²; the affinity of two groups counts the paths from one into the other and
back. A union adds rows and columns of the groups' table (the paper's fast algorithm), which leaves out paths that go
in by one part and back by the other; a new call of `united` counts them again.
"""

from __future__ import annotations

import heapq

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from coterie.algorithms.finch import group_means
from coterie.algorithms.neighbours import nearest

LONGEST_CHAIN = 50
LOCAL_ABOVE = 100  # with more groups, the score also looks at the next largest affinities
LONELY_ABOVE = 20  # times k: with more groups, those without any affinity join the nearest first


def neighbour_graph(rows: Float[Tensor, "n d"], neighbours: int) -> tuple[csr_array, Int[Tensor, " n"]]:
    """W (n, n), with each row's entries at its neighbours, and each item's nearest other item."""
    n = len(rows)
    distances, index = nearest(rows, min(neighbours, n - 1))
    squared = distances.double().square()
    weights = (-squared / squared.mean().clamp(min=torch.finfo(torch.float32).tiny)).exp()
    first = np.repeat(np.arange(n), index.shape[1])
    places = (first, index.cpu().numpy().ravel())
    return csr_array((weights.cpu().numpy().ravel(), places), shape=(n, n)), index[:, 0].cpu()


def neighbour_chains(nearest_other: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Groups of items on one chain: from an item to its nearest other, to the nearest other of that, and so on.

    A chain ends at an item that was already visited, whose group it joins, or after 51 items.
    """
    following = nearest_other.tolist()
    label = [-1] * len(following)
    seen = [False] * len(following)
    count = 0
    for begin in range(len(following)):
        at, chain = begin, list[int]()
        while not seen[at] and len(chain) <= LONGEST_CHAIN:
            chain.append(at)
            seen[at] = True
            at = following[at]
        if label[at] < 0:
            label[at], seen[at] = count, True
            count += 1
        for item in chain:
            label[item] = label[at]
    return torch.tensor(label)


def ways(graph: csr_array, labels: Int[Tensor, " n"]) -> csr_array:
    """1ᵀ W_ij W_ji 1 for all pairs of groups (c, c): the paths from group i into group j and back; 0 to itself."""
    n, c = len(labels), int(labels.max()) + 1
    member = csr_array((np.ones(n), (np.arange(n), labels.numpy())), shape=(n, c))
    # An item m of group j has Σ W_nm paths from the items n of group i, and Σ W_mn back.
    through = (graph.T @ member).multiply(graph @ member)
    found = csr_array(csr_array(through).T @ member)
    found.setdiag(0)
    found.eliminate_zeros()
    return found


def united(
    graph: csr_array, rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], left: int, k: int, context: int
) -> Int[Tensor, " n"]:
    """Unite groups pair by pair until `left` are left; `k` is the number wanted in the end.

    The next pair is the group with the largest score A₁ + Σ (A₁ - A_k) / (context - 1), over the `context` groups of
    largest affinity to it, and the first of these; for the last 100 groups the score is A₁ alone. Groups without any
    affinity join the one of nearest mean first if there are more than 20 k groups, else they are united at the end.
    """
    labels = labels.cpu()
    table = ways(graph, labels)
    if table.shape[0] > LONELY_ABOVE * k:
        labels = lonely_joined(table, rows, labels)
        table = ways(graph, labels)
    groups = Groups(table, labels.bincount().tolist(), context)
    while groups.count > left and groups.unite_next():
        pass
    labels = torch.tensor(groups.names())[labels]
    return labels if groups.count <= left else by_means(rows, labels, left)


class Groups:
    """The affinities of groups to each other while they are united; only linked pairs are stored."""

    def __init__(self, table: csr_array, sizes: list[int], context: int) -> None:
        self.context, self.count, self.sizes = context, table.shape[0], sizes
        self.into: list[dict[int, float]] = [{} for _ in sizes]  # paths from a group into another and back
        pairs = table.tocoo()
        for i, j, value in zip(pairs.row.tolist(), pairs.col.tolist(), pairs.data.tolist(), strict=True):
            self.into[i][j] = value
        self.affinity: list[dict[int, float]] = [{} for _ in sizes]
        for i, others in enumerate(self.into):
            for j in others:
                self.affinity[i][j] = self.affinity[j][i] = self.between(i, j)
        self.parent = list(range(len(sizes)))
        self.scores = np.array([self.score(i) for i in range(len(sizes))])

    def between(self, i: int, j: int) -> float:
        """A: the paths divided by the squared number of items that they start from, in both directions."""
        return self.into[i].get(j, 0.0) / self.sizes[i] ** 2 + self.into[j].get(i, 0.0) / self.sizes[j] ** 2

    def score(self, i: int) -> float:
        """The score that chooses the next union; -inf for a group that is linked to none."""
        known = self.affinity[i].values()
        if not known:
            return -np.inf
        if self.count <= LOCAL_ABOVE or self.context < 2:
            return max(known)
        first, *others = heapq.nlargest(self.context, known)
        return first + first - sum(others) / (self.context - 1)

    def unite_next(self) -> bool:
        """Unite the best pair; False where no groups are linked any more."""
        i = int(self.scores.argmax())
        if self.scores[i] == -np.inf:
            return False
        self.unite(*sorted((i, max(self.affinity[i], key=self.affinity[i].__getitem__))))
        return True

    def unite(self, a: int, b: int) -> None:
        """Merge group b into group a."""
        changed = dict.fromkeys([*self.affinity[a], *self.affinity[b]])
        for gone in (a, b):
            changed.pop(gone, None)
        for j, value in self.into[b].items():
            if j != a:
                self.into[a][j] = self.into[a].get(j, 0.0) + value
        for j in changed:
            if b in self.into[j]:
                self.into[j][a] = self.into[j].get(a, 0.0) + self.into[j].pop(b)
        self.into[a].pop(b, None)
        self.into[b], self.affinity[b], self.affinity[a] = {}, {}, {}
        self.sizes[a] += self.sizes[b]
        self.parent[b], self.scores[b] = a, -np.inf
        self.count -= 1
        for j in changed:
            self.affinity[j].pop(b, None)
            self.affinity[j][a] = self.affinity[a][j] = self.between(a, j)
        everyone = self.count == LOCAL_ABOVE  # from here on the score has another rule
        for j in range(len(self.scores)) if everyone else [a, *changed]:
            self.scores[j] = self.score(j)

    def names(self) -> list[int]:
        """The number, from 0, of the group that each of the first groups is part of now."""
        roots = [self.root(i) for i in range(len(self.parent))]
        number = {root: place for place, root in enumerate(sorted(set(roots)))}
        return [number[root] for root in roots]

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            i = self.parent[i]
        return i


def lonely_joined(table: csr_array, rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Let groups without any path in or out join the group with the nearest mean."""
    links = table + table.T
    lonely = np.flatnonzero(np.diff(csr_array(links).indptr) == 0)
    if not len(lonely) or table.shape[0] < 2:
        return labels
    means = group_means(rows, labels.to(rows.device))
    _, index = nearest(means, min(2, len(means)), means[torch.from_numpy(lonely).to(means.device)])
    others = [next(j for j in found if j != i) for i, found in zip(lonely.tolist(), index.tolist(), strict=True)]
    c = table.shape[0]
    joins = csr_array((np.ones(len(lonely)), (lonely, np.array(others))), shape=(c, c))
    return torch.from_numpy(connected_components(joins, directed=False)[1]).long()[labels]


def by_means(rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], left: int) -> Int[Tensor, " n"]:
    """Unite groups that no path links, by the average distance of their means."""
    from sklearn.cluster import AgglomerativeClustering

    means = group_means(rows, labels.to(rows.device)).cpu().numpy()
    return torch.from_numpy(AgglomerativeClustering(left, linkage="average").fit_predict(means)).long()[labels]
