"""Non-negative factors by the Kullback-Leibler divergence, with a term that can keep the codes of neighbours alike.

X ≈ V Uᵀ with items as the rows of X (n, m), parts as the columns of U (m, r), codes as the rows of V (n, r), nothing
negative. Cai, He, Wang, Bao and Han, "Locality Preserving Nonnegative Matrix Factorization", IJCAI 2009:

    O = Σ (x log(x / y) - x + y) + λ tr((L log V)ᵀ V),   y = V Uᵀ,   L the Laplacian of a neighbour graph.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array, diags_array, eye_array
from scipy.sparse.linalg import cg
from torch import Tensor

from coterie.algorithms.neighbours import nearest
from coterie.networks.heads import steady_product

TINY = 1e-10  # least divisor
ACCURACY = 1e-6  # of the linear systems, relative


def codes_of(rows: Float[Tensor, "n m"], parts: Float[Tensor, "m r"], iterations: int) -> Float[Tensor, "n r"]:
    """Every item's code for fixed parts, by this many multiplicative updates from equal shares; each row by itself."""
    weights = parts.sum(0)
    codes = rows.sum(1, keepdim=True) / (weights.sum() + TINY) * torch.ones_like(weights)
    for _ in range(iterations):
        ratio = rows / (steady_product(codes, parts) + TINY)
        codes = codes * steady_product(ratio, parts.T.contiguous()) / (weights + TINY)
    return codes


def divergence(rows: Float[Tensor, "n m"], codes: Float[Tensor, "n r"], parts: Float[Tensor, "m r"]) -> float:
    """Σ (x log(x / y) - x + y), with 0 log 0 = 0."""
    y = codes.double() @ parts.double().T + TINY
    x = rows.double()
    return float((torch.xlogy(x, x / y) - x + y).sum())


def neighbour_graph(rows: Float[Tensor, "n m"], neighbours: int) -> csr_array:
    """Symmetric, with 1 between two items if one is among the other's nearest."""
    n = len(rows)
    _, index = nearest(rows, neighbours)
    first = np.repeat(np.arange(n), neighbours)
    directed = csr_array((np.ones(n * neighbours), (first, index.cpu().numpy().ravel())), shape=(n, n))
    return csr_array(directed.maximum(directed.T))


def laplacian(graph: csr_array) -> csr_array:
    """L = D - W, D the diagonal of the sums of the rows of W."""
    return csr_array(diags_array(graph.sum(1)) - graph)


def locality(codes: Float[Tensor, "n r"], graph: csr_array) -> float:
    """tr((L log V)ᵀ V): half the sum over pairs of neighbours of D(v, w) + D(w, v), D(a, b) = Σ a log(a / b)."""
    v = np.maximum(codes.double().cpu().numpy(), TINY)
    return float(((laplacian(graph) @ np.log(v)) * v).sum())


def smooth_factors(
    rows: Float[Tensor, "n m"],
    codes: Float[Tensor, "n r"],
    parts: Float[Tensor, "m r"],
    graph: csr_array,
    weight: float,
    iterations: int,
    tolerance: float,
) -> tuple[Float[Tensor, "n r"], Float[Tensor, "m r"]]:
    """Codes and parts from these, by alternating updates until the relative decrease is below `tolerance`.

    For each part k the codes solve (Σᵢ uᵢₖ I + λ L) v = vⱼₖ Σᵢ uᵢₖ xⱼᵢ / yⱼᵢ, a sparse system; the parts are
    multiplied. Without neighbours the objective never rises; with them the systems are the paper's
    approximation, and it may rise very slightly near the end.
    """
    smooth, identity = laplacian(graph), eye_array(len(rows), format="csr")
    before = divergence(rows, codes, parts) + weight * locality(codes, graph)
    for _ in range(iterations):
        ratio = rows / (codes @ parts.T + TINY)
        right = (codes * (ratio @ parts)).double().cpu().numpy()
        solved = [
            _solve(float(parts[:, k].sum()) * identity + weight * smooth, right[:, k], codes[:, k])
            for k in range(parts.shape[1])
        ]
        codes = torch.from_numpy(np.stack(solved, 1)).to(rows).clamp(min=TINY)
        ratio = rows / (codes @ parts.T + TINY)
        parts = parts * (ratio.T @ codes) / (codes.sum(0) + TINY)
        now = divergence(rows, codes, parts) + weight * locality(codes, graph)
        if before - now <= tolerance * abs(before):
            break
        before = now
    return codes, parts


def _solve(system: csr_array, right: np.ndarray, guess: Tensor) -> np.ndarray:
    """By conjugate gradients from the code as it was; the system is symmetric and positive definite."""
    found, _ = cg(system, right, x0=guess.double().cpu().numpy(), rtol=ACCURACY, maxiter=500)
    return np.asarray(found)
