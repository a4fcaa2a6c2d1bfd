"""Seconds until something happens: `import coterie`, `coterie --help`, and a refused `coterie fit`, each warm.

    python benchmarks/startup.py

Each is a process of its own, run several times; the median and the slowest are reported (targets: the import under
1.5 s, --help under 0.7 s). The import is also checked to have loaded no torch.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from _measure import write_results

REPEATS = 7
COMMAND = "import sys; from coterie.cli import main; sys.exit(main())"
STARTS = {
    "import": ["import coterie, sys; sys.exit('torch' in sys.modules)"],
    "help": [COMMAND, "--help"],
    "fit help": [COMMAND, "fit", "--help"],
    "fit of a missing folder": [COMMAND, "fit", "no-such-folder", "-k", "10"],
}


def start(arguments: list[str]) -> tuple[float, int]:
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, check=False)
    return time.perf_counter() - begun, done.returncode


def main() -> None:
    results = {}
    for name, arguments in STARTS.items():
        start(arguments)
        taken, codes = zip(*(start(arguments) for _ in range(REPEATS)), strict=True)
        expected = 2 if "missing" in name else 0
        if set(codes) != {expected}:
            raise SystemExit(f"{name}: exit codes {codes}, expected {expected}")
        results[name] = {"median_seconds": round(statistics.median(taken), 3), "slowest": round(max(taken), 3)}
        print(name, results[name])
    print(write_results("startup", "python benchmarks/startup.py", **results))


if __name__ == "__main__":
    main()
