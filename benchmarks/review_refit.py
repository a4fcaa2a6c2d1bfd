"""How long training the head of a review again takes: 10,000 and 100,000 items of 512 features in 20 groups.

    python benchmarks/review_refit.py [--rows 10000 100000] [--decided 200]

Features and what the clustering says are random, the decided items keep their group. In a process that has imported
torch and made a first optimiser, as a review's has after its first refit. `seconds` are those of the clock, `processor`
those that the process worked: where a machine does other things, only they mean much. Writes
benchmarks/results/review_refit.json.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch
from _measure import write_results

from coterie.calibration.constraints import Constraints
from coterie.training.refit import refit

WIDTH, GROUPS = 512, 20


def measured(n: int, decided: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, WIDTH), dtype=np.float32)
    said = rng.dirichlet(np.full(GROUPS, 0.3), n).astype(np.float32)
    fixed = rng.choice(n, decided, replace=False)
    given = Constraints(torch.from_numpy(fixed), torch.from_numpy(said[fixed].argmax(1)))
    begun, worked = time.monotonic(), time.process_time()
    refit(z, said, given)
    found = {"rows": n, "seconds": time.monotonic() - begun, "processor": time.process_time() - worked}
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--decided", type=int, default=200)
    asked = parser.parse_args()
    torch.optim.Adam([torch.zeros(1, requires_grad=True)]).zero_grad()
    load = round(os.getloadavg()[0], 1)
    results = [measured(n, asked.decided) for n in asked.rows]
    for one in results:
        print(one)
    command = f"python benchmarks/review_refit.py --rows {' '.join(map(str, asked.rows))} --decided {asked.decided}"
    write_results("review_refit", command, width=WIDTH, groups=GROUPS, others_running=load, results=results)


if __name__ == "__main__":
    main()
