"""PICA from scratch on one data set, and its calibration: the confidences before and after `--calibrate`, by seed.

    python experiments/pica_reference.py fashion-mnist -k 10 --seeds 0 1 2 --runs runs/pica

Every seed is a run folder below --runs, and a run that was interrupted goes on where it stopped. Labels are read after
each run, for the numbers only; beside Hungarian accuracy stands purity, which the paper's sentence describes. The heads
are `cal`, the calibrated one, and `primary`, PICA's own. Writes experiments/results/pica_reference_<data>.json.
"""

from __future__ import annotations

from _runs import METRICS, parser, reference


def main() -> None:
    reference("pica_reference", parser(__doc__).parse_args(), "pica", metrics=(*METRICS, "purity", "nmi_geometric"))


if __name__ == "__main__":
    main()
