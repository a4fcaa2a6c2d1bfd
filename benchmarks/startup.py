"""Seconds until something happens: imports, `coterie --help`, and a refused `coterie fit`, each warm.

    python benchmarks/startup.py

Each is a process of its own, run several times; the median and the slowest are reported (targets: the import under
1.5 s, --help under 0.7 s), besides the processor time of `from coterie import Clusterer`, most of which is
scikit-learn's. Both imports are also checked to have loaded no torch.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

from _measure import write_results

REPEATS = 7
COMMAND = "import sys; from coterie.cli import main; sys.exit(main())"
STARTS = {
    "import": ["import coterie, sys; sys.exit('torch' in sys.modules)"],
    "import of Clusterer": ["from coterie import Clusterer; import sys; sys.exit('torch' in sys.modules)"],
    "help": [COMMAND, "--help"],
    "fit help": [COMMAND, "fit", "--help"],
    "fit of a missing folder": [COMMAND, "fit", "no-such-folder", "-k", "10"],
}


def start(arguments: list[str]) -> tuple[float, float, int]:
    """Seconds, those of the processor, and the exit code."""
    begun, used = time.perf_counter(), _processor_seconds()
    done = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, check=False)
    return time.perf_counter() - begun, _processor_seconds() - used, done.returncode


def _processor_seconds() -> float:
    """Of all processes that were started here and are done."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def main() -> None:
    results = {}
    for name, arguments in STARTS.items():
        start(arguments)
        taken, used, codes = zip(*(start(arguments) for _ in range(REPEATS)), strict=True)
        expected = 2 if "missing" in name else 0
        if set(codes) != {expected}:
            raise SystemExit(f"{name}: exit codes {codes}, expected {expected}")
        results[name] = {
            "median_seconds": round(statistics.median(taken), 3),
            "slowest": round(max(taken), 3),
            "median_processor_seconds": round(statistics.median(used), 3),
        }
        print(name, results[name])
    print(write_results("startup", "python benchmarks/startup.py", **results))


if __name__ == "__main__":
    main()
