"""Growth of the search for nearest neighbours: seconds and peak memory from 10,000 to 500,000 points in 10 dimensions.

    python benchmarks/neighbours.py [--largest 500000]
    python benchmarks/neighbours.py --embeddings 200000 400000   # only these, beside what is in the file

Points are a mixture of ten Gaussians, as the latents of an auto-encoder that R-DC asks for five neighbours. Each
measurement runs in a process of its own: exact search, approximate search by faiss where it is installed (with the
share of the exact neighbours that it found, of 1,000 points), and scikit-learn's k-d tree, which suits few dimensions.

The embeddings are those of `million.py` (384 features, 50 groups that overlap). Of them 58 neighbours are searched for,
approximately and by faiss's own inverted lists with its defaults, as this library did before; of faiss's search 1,000
queries are measured, and `cpu_seconds` says what all take at that rate. `recall` is the share of the 5 and of the 50
nearest, of 1,000 points, that were found.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import RESULTS, resident, write_results
from heads import DIM
from million import write_embeddings
from torch import Tensor

from coterie.algorithms.neighbours import EXACT_UP_TO, nearest

SIZES = (10_000, 20_000, 50_000, 100_000, 200_000, 500_000)
DIMENSIONS, NEIGHBOURS = 10, 5
TAKEN, QUERIES = 58, 1000
LISTS_OF_FAISS = 32  # looked at


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


def shared(found: Tensor, exact: Tensor, own: Tensor, k: int) -> float:
    """The share of the k nearest rows that are among the first k found, a point's own row left out of both."""
    return float(
        np.mean(
            [
                len({*[i for i in a if i != row][:k]} & {*[i for i in b if i != row][:k]}) / k
                for a, b, row in zip(found.tolist(), exact.tolist(), own.tolist(), strict=True)
            ]
        )
    )


def measure_embeddings(how: str, n: int) -> dict[str, Any]:
    """Search once among n embeddings, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        write_embeddings(Path(folder) / "rows.npy", n)
        points = torch.from_numpy(np.load(Path(folder) / "rows.npy").astype(np.float32))
    some = torch.linspace(0, n - 1, QUERIES).long()
    before, begun, used = resident("VmHWM"), time.perf_counter(), time.process_time()
    if how == "faiss":
        import faiss

        index: Any = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, round(4 * math.sqrt(n)))
        index.train(points.numpy())
        index.add(points.numpy())
        index.nprobe, made = LISTS_OF_FAISS, time.process_time()
        found = torch.from_numpy(index.search(points[some].numpy(), TAKEN)[1])
        taken = {"cpu_seconds": round(made - used + (time.process_time() - made) * n / QUERIES, 1)}
    else:
        found = nearest(points, TAKEN, exact=False)[1][some]
        taken = {"cpu_seconds": round(time.process_time() - used, 1), "seconds": round(time.perf_counter() - begun, 1)}
    record = {"how": how, "n": n, "d": DIM, "k": TAKEN, **taken}
    record |= {"peak_mib": resident("VmHWM"), "peak_mib_before": before}
    exact = nearest(points, TAKEN, points[some], exact=True)[1]
    return record | {f"recall_{k}": round(shared(found, exact, some, k), 4) for k in (5, 50)}


def of_embeddings(sizes: list[int]) -> None:
    """Measure these sizes and write them beside what the file has."""
    path = RESULTS / "neighbours.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    records = [record for record in known.get("embeddings", []) if record["n"] not in sizes]
    for n in sizes:
        for how in ("approximate", "faiss"):
            command = [sys.executable, __file__, "--embeddings-part", how, str(n)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            records.append(json.loads(done.stdout.splitlines()[-1]))
            print(records[-1], flush=True)
            known["embeddings"] = sorted(records, key=lambda record: record["n"])
            path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="leave out sizes above this")
    parser.add_argument("--embeddings", type=int, nargs="+", metavar="N", help="only embeddings, of these sizes")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--embeddings-part", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.embeddings_part is not None:
        print(json.dumps(measure_embeddings(given.embeddings_part[0], int(given.embeddings_part[1]))))
        return
    if given.embeddings:
        of_embeddings(given.embeddings)
        return
    if given.part is not None:
        print(json.dumps(measure(given.part[0], int(given.part[1]))))
        return
    path = RESULTS / "neighbours.json"
    kept = json.loads(path.read_text(encoding="utf-8")).get("embeddings", []) if path.is_file() else []
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
        print(write_results("neighbours", command_line, chosen_on_a_cpu=chosen, records=records, embeddings=kept))


if __name__ == "__main__":
    main()
