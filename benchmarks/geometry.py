"""ID and LID beside scikit-dimension's, on the same points (`pip install scikit-dimension==0.5.0`).

python benchmarks/geometry.py
"""

from __future__ import annotations

import numpy as np
import torch
from _measure import write_results
from numpy.typing import NDArray
from sklearn.datasets import load_digits, make_swiss_roll

from coterie.algorithms.geometry import intrinsic_dimension, linear_dimension

N = 3000


def clouds() -> dict[str, NDArray[np.float32]]:
    """By title."""
    generator = torch.Generator().manual_seed(0)
    sphere = torch.nn.functional.normalize(torch.randn(N, 4, generator=generator))
    found = {
        "uniform in a 5-dimensional cube, 3,000": torch.rand(N, 5, generator=generator).numpy(),
        "Gaussian in 10 dimensions, 3,000": torch.randn(N, 10, generator=generator).numpy(),
        "sphere in 4 dimensions, 3,000": sphere.numpy(),
        "swiss roll, 3,000": make_swiss_roll(N, random_state=0)[0],
        "digits, 1,797 images of 8×8": load_digits().data,
    }
    return {title: np.asarray(points, np.float32) for title, points in found.items()}


def main() -> None:
    from skdim.id import TwoNN, lPCA

    records = []
    for title, points in clouds().items():
        varies = points.std(0) > 0
        scored = (points[:, varies] - points[:, varies].mean(0)) / points[:, varies].std(0)
        records.append(
            {
                "points": title,
                "intrinsic": intrinsic_dimension(points),
                "their_intrinsic": float(TwoNN(discard_fraction=0.1).fit(points).dimension_),
                "linear": linear_dimension(points),
                "their_linear": int(lPCA(ver="ratio", alphaRatio=0.9).fit(scored).dimension_),
            }
        )
        print(records[-1], flush=True)
    write_results("geometry", "python benchmarks/geometry.py", records=records)


if __name__ == "__main__":
    main()
