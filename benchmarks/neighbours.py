"""Growth of the search for nearest neighbours: seconds and peak memory from 10,000 to 500,000 points in 10 dimensions.

    python benchmarks/neighbours.py [--largest 500000]

Points are a mixture of ten Gaussians, as the latents of an auto-encoder that R-DC asks for five neighbours. Each
measurement runs in a process of its own: exact search, approximate search by faiss where it is installed (with the
share of the exact neighbours that it found, of 1,000 points), and scikit-learn's k-d tree, which suits few dimensions.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from typing import Any

import torch
from _measure import write_results
from memory import resident
from torch import Tensor

from coterie.algorithms.neighbours import EXACT_UP_TO, nearest

SIZES = (10_000, 20_000, 50_000, 100_000, 200_000, 500_000)
DIMENSIONS, NEIGHBOURS = 10, 5


def latents(n: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    middles = 3 * torch.randn(10, DIMENSIONS, generator=generator)
    return middles[torch.randint(10, (n,), generator=generator)] + torch.randn(n, DIMENSIONS, generator=generator)


def by_tree(points: Tensor) -> Tensor:
    from sklearn.neighbors import NearestNeighbors

    tree = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="kd_tree").fit(points.numpy())
    return torch.from_numpy(tree.kneighbors(return_distance=False))


def measure(how: str, n: int) -> dict[str, Any]:
    """Search once, in this process."""
    points = latents(n)
    nearest(points[:1000], NEIGHBOURS, exact=how != "approximate")  # warms up, and imports
    before, start = resident("VmHWM"), time.perf_counter()
    if how == "k-d tree":
        index = by_tree(points)
    else:
        index = nearest(points, NEIGHBOURS, exact=how == "exact")[1]
    record = {"how": how, "n": n, "d": DIMENSIONS, "k": NEIGHBOURS, "seconds": round(time.perf_counter() - start, 2)}
    record |= {"peak_mib": resident("VmHWM"), "peak_mib_before": before}
    if how == "approximate":
        some = torch.linspace(0, n - 1, 1000).long()
        exact = nearest(points, NEIGHBOURS + 1, points[some], exact=True)[1]  # the point itself among them
        record["recall"] = round(float((index[some][:, :, None] == exact[:, None]).any(2).float().mean()), 4)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="leave out sizes above this")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part is not None:
        print(json.dumps(measure(given.part[0], int(given.part[1]))))
        return
    ways = ["exact", "k-d tree"]
    if importlib.util.find_spec("faiss") is not None:
        ways.append("approximate")
    records = []
    for n in [size for size in SIZES if size <= given.largest]:
        for how in ways:
            command = [sys.executable, __file__, "--part", how, str(n)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            records.append(json.loads(done.stdout.splitlines()[-1]))
            print(records[-1], flush=True)
        # After every size, so that a run that is cut off has told something.
        chosen = {str(size): "exact" if size <= EXACT_UP_TO else "approximate" for size in SIZES if size <= n}
        command_line = "python benchmarks/neighbours.py" + (f" --largest {n}" if n < SIZES[-1] else "")
        print(write_results("neighbours", command_line, chosen_on_a_cpu=chosen, records=records))


if __name__ == "__main__":
    main()
