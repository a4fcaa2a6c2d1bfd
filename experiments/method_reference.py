"""One method on one data set, by seed: the numbers of its own head and of the calibrated one.

    python experiments/method_reference.py digits -k 10 --method byol --seeds 0 1 2 --runs runs/methods

Every seed is a run folder below --runs, and a run that was interrupted goes on where it stopped. Labels are read after
each run, for the numbers only. `metrics` are those of the method's own answer. Writes
experiments/results/method_reference_<method>_<data>.json, which `docs_tables.py` makes a table of.
"""

from __future__ import annotations

from _runs import parser, reference


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--method", required=True, help="as in coterie fit")
    given = options.parse_args()
    reference("method_reference", given, given.method, f"--method {given.method}")


if __name__ == "__main__":
    main()
