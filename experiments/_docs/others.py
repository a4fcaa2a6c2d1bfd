"""The generated parts of PICA's page and of those on calibration, geometry and neighbours."""

from __future__ import annotations

import functools
import statistics
from pathlib import Path

from _pages import mean_and_deviation

from _docs import BENCHMARKS, OLDER, Block, mean_percent, not_run, records, score_cells, table
from _docs.cdc import scored

CLUSTERINGS = {"kmeans": "K-means, labels", "gmm": "Gaussian mixture", "spectral": "spectral, landmarks"}
ABLATIONS = (
    ("full", "2", "PICA", "69.6", ""),
    ("no entropy term", "2", "without", "large drop (24.6)", "drops by 12, a smaller part"),
    ("no over-clustering", "3", "without", "drop (58.2)", "**no drop** beyond the noise; NMI 0.9 lower"),
    (
        "no perturbation (an image is its own copy)",
        "4",
        "without: an image is its own copy",
        "large drop (31.0)",
        "large drop",
    ),
    (
        "copies are draws of the original view",
        "4",
        "copies are further draws of the original view",
        "",
        "large drop",
    ),
    ("Gaussian", "5", "Gaussian", "within noise (68.1)", "within noise"),
    ("Xavier", "5", "Xavier", "within noise (67.6)", "within noise"),
    ("Kaiming", "5", "Kaiming", "within noise (68.0)", "within noise"),
)


def pica() -> str:
    """Both heads of `pica_reference.py`, with the best seed's ACC."""
    found = records("pica_reference_fashion-mnist")
    rows = []
    for head in ("primary", "cal"):
        mine = [one["heads"][head] for one in found["records"]]
        first, *others = score_cells(mine, ("acc", "purity", "nmi", "ari", "ece", "confidence"))
        rows.append([f"`{head}`", first, f"{100 * max(one['acc'] for one in mine):.1f}", *others])
    return table(["head", "ACC", "best", "purity", "NMI", "ARI", "ECE", "mean confidence"], rows, found["command"])


def pica_view() -> str:
    """The same runs judged by whole images and by the middle of larger ones."""
    found = records("pica_view_fashion-mnist")
    metrics = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "ece": "ECE"}
    rows = [
        [title, *score_cells([one[view] for one in found["records"]], metrics)]
        for view, title in (("whole", "the whole image"), ("centre", "the middle of larger images"))
    ]
    return table(["what is judged", *metrics.values()], rows, found["command"])


def pica_ablations() -> str:
    rows = []
    for title, number, row_title, paper, here in ABLATIONS:
        found = records(f"pica_table{number}_fashion-mnist-10000")
        (row,) = [one for one in found["rows"] if one["title"] == row_title]
        rows.append([title, *score_cells([scored(row, one) for one in row["records"]], ("acc", "nmi")), paper, here])
    head = ["", "ACC", "NMI", "the paper's direction (CIFAR-10)", "here"]
    return table(head, rows, records("pica_table2_fashion-mnist-10000")["command"])


def calibrated(data: str) -> str:
    """ECE before and after, for each clustering; one column for each loss."""
    command = f"python experiments/calibrate_others.py {data} -k 10 --init RUN --seeds 0 1"
    if missing := not_run(f"calibrate_others_{data}", command):
        return missing
    found = records(f"calibrate_others_{data}")
    losses = list(found["records"][0]["after"])
    rows = []
    for method in dict.fromkeys(one["method"] for one in found["records"]):
        mine = [one for one in found["records"] if one["method"] == method]
        after = [[one["after"][loss] for one in mine] for loss in losses]
        before, oracle = [one["before"] for one in mine], [one["oracle"] for one in mine]
        rows.append(
            [
                CLUSTERINGS[method],
                *score_cells(before, ("acc", "ece")),
                *(score_cells(scores, ("ece",))[0] for scores in after),
                *score_cells(after[0], ("acc",)),
                *score_cells(oracle, ("ece",)),
            ]
        )
    names = ["ECE after"] if losses == ["region"] else [f"ECE, {loss}" for loss in losses]
    head = ["clustering", "ACC", "ECE before", *names, "ACC after", "ECE, temperature with labels"]
    return table(head, rows, found["command"])


def dimensions() -> str:
    found = records("geometry", BENCHMARKS)
    rows = [
        [
            one["points"],
            f"{one['intrinsic']:.4f}",
            f"{one['their_intrinsic']:.4f}",
            str(one["linear"]),
            str(one["their_linear"]),
        ]
        for one in found["records"]
    ]
    return table(["points", "ID here", "scikit-dimension", "LID here", "scikit-dimension"], rows, found["command"])


def neighbours() -> str:
    found = records("neighbours", BENCHMARKS)
    by = {(one["how"], one["n"]): one for one in found["records"]}
    sizes = sorted({n for _, n in by})

    def line(title: str, how: str) -> list[str]:
        return [title, *(f"{by[how, n]['seconds']:g}" for n in sizes)]

    def memory(how: str) -> list[str]:
        return [f"{by[how, n]['peak_mib'] - by[how, n]['peak_mib_before']:.0f}" for n in sizes]

    rows = [
        line("exact, s", "exact"),
        line("approximate, s", "approximate"),
        line("scikit-learn's k-d tree, s", "k-d tree"),
        ["neighbours that it found, %", *(f"{100 * by['approximate', n]['recall']:.1f}" for n in sizes)],
        ["exact: own memory, MiB", *memory("exact")],
        ["approximate: own memory, MiB", *memory("approximate")],
    ]
    return table(["points", *(f"{n:,}" for n in sizes)], rows, found["command"])


def neighbours_of_embeddings() -> str:
    """Approximate search here beside faiss's own inverted lists, as it was before."""
    found = records("neighbours", BENCHMARKS)["embeddings"]
    titles = {"approximate": "here", "faiss": "faiss's IVF, its defaults"}
    rows = [
        [
            f"{one['n']:,}",
            titles[one["how"]],
            f"{one['cpu_seconds']:.0f}",
            *(f"{100 * one[f'recall_{k}']:.1f}" for k in (5, 50)),
            f"{one['peak_mib'] - one['peak_mib_before']:.0f}",
        ]
        for one in found
    ]
    head = ["embeddings", "", "s of the processor", "of the 5 nearest, %", "of the 50 nearest, %", "own memory, MiB"]
    sizes = " ".join(str(n) for n in sorted({one["n"] for one in found}))
    return table(head, rows, f"python benchmarks/neighbours.py --embeddings {sizes}")


def curves() -> str:
    """ACC at the beginning and at the end of R-DC's phase 2, and DynAE's epochs."""
    found = records("geometry_curves")
    rows = []
    for one in found["records"]:
        first, last = one["lines"][0], one["lines"][-1]
        cells = [
            f"{a:.1f}, {b:.1f}" for a, b in ((first["intrinsic"], last["intrinsic"]), (first["linear"], last["linear"]))
        ]
        acc = [mean_and_deviation([line["acc"]]) for line in (first, last)]
        rows.append([one["method"], str(one["seed"]), str(len(one["lines"])), *cells, ", ".join(acc)])
    return table(["stage", "seed", "epochs", "ID, first and last epoch", "LID", "ACC"], rows, found["command"])


def beside_clustpy() -> str:
    found = records("beside_clustpy", BENCHMARKS)
    sides, rows = ("coterie", "ClustPy"), []
    for name, title in (("dec", "DEC"), ("idec", "IDEC"), ("dcn", "DCN"), ("vade", "VaDE")):
        one = found["methods"][name]
        steps = [f"{1000 * statistics.median(one[side]['step_seconds']):.1f}" for side in sides]
        acc = [mean_and_deviation(one[side]["acc"]) for side in sides]
        rows.append([title, *steps, f"{one['times_faster']:.2f}", *acc])
    head = ["", *(f"ms a step, {side}" for side in sides), "times faster", *(f"ACC, {side}" for side in sides)]
    return table(head, rows, found["command"])


def time_to_quality(folder: Path = BENCHMARKS) -> str:
    """Each contender's ACC, and the seconds until the stated one and to the end; means over the seeds."""
    found = records("time_to_quality", folder)
    rows = []
    for data, of_data in found["data"].items():
        for name, seeds in of_data["contenders"].items():
            done = [one for one in seeds.values() if one["status"] == "done"]
            if not done:
                rows.append([data, name, next(iter(seeds.values()))["status"], "", "", ""])
                continue
            mean = {key: sum(one[key] for one in done) / len(done) for key in ("seconds", "cpu_seconds_with_looking")}
            reached = [one["to_target"] for one in done]
            target = "never" if None in reached else f"{sum(reached) / len(reached):.0f}"
            numbers = [f"{mean['seconds']:.0f}", f"{mean['cpu_seconds_with_looking']:.0f}"]
            acc = mean_percent([one["acc"] for one in done])
            rows.append([f"{data}, {of_data['target']:.0%}", name, acc, target, *numbers])
    head = ["data, target", "", "ACC", "seconds to the target", "seconds to the end", "seconds of the processor"]
    return table(head, rows, f"{found['command']} --data {' '.join(found['data'])}")


BLOCKS: dict[str, Block] = {
    "pica-fashion-mnist": pica,
    "pica-ablations": pica_ablations,
    "pica-view": pica_view,
    **{
        f"calibrate-{data}": functools.partial(calibrated, data)
        for data in ("fashion-mnist", "fashion-mnist-ae", "digits")
    },
    "geometry": dimensions,
    "geometry-curves": curves,
    "neighbours": neighbours,
    "neighbours-embeddings": neighbours_of_embeddings,
    "beside-clustpy": beside_clustpy,
    "time-to-quality": time_to_quality,
    "time-to-quality-older": functools.partial(time_to_quality, OLDER),
}
