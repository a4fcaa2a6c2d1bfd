"""The rows of the CDC paper's tables: our settings, and the numbers that the paper prints for them (percent).

Jia, Cheng, Liu and Hou, "Towards Calibrated Deep Clustering Network", ICLR 2025: Tables 1, 2, 4, 5, 6, 8 and 9, and the
text on Figures 3 and 5, whose numbers are not printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from _tables import Row, Table

ALL = ("ACC", "NMI", "ARI", "ECE")


def of(
    cifar10: tuple[float, ...], cifar20: tuple[float, ...], stl10: tuple[float, ...]
) -> dict[str, tuple[float, ...]]:
    return {"CIFAR-10": cifar10, "CIFAR-20": cifar20, "STL-10": stl10}


def stl_and_cifar20(stl10: tuple[float, ...], cifar20: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    return {"STL-10": stl10, "CIFAR-20": cifar20}


CAL = Row("CDC-Cal", paper=of((94.9, 89.3, 89.5, 1.1), (61.7, 60.9, 46.6, 4.9), (93.0, 85.8, 85.6, 0.9)))
CLU = Row("CDC-Clu", head="clu", paper=of((94.9, 89.3, 89.4, 1.4), (61.9, 60.6, 46.7, 28.0), (93.1, 86.0, 85.8, 4.8)))
SINGLE = {"layout": "single"}


def ablations() -> Table:
    def fixed(threshold: float, paper: dict[str, tuple[float, ...]]) -> Row:
        return Row(f"II: fixed threshold {threshold:.2f}", {"threshold": threshold}, paper=paper)

    rows = [
        Row(
            "I: random heads, before training",
            {"init": "random", "epochs": 0},
            paper=of((19.1, 7.6, 3.1, 8.5), (10.4, 5.7, 1.0, 4.9), (19.2, 6.0, 2.4, 8.5)),
        ),
        Row(
            "I: prototypes, before training",
            {"epochs": 0},
            paper=of((87.2, 79.8, 76.1, 1.0), (56.4, 56.9, 41.2, 5.2), (89.8, 80.9, 79.3, 2.7)),
        ),
        Row(
            "I: trained from random heads",
            {"init": "random"},
            paper=of((89.4, 86.5, 83.5, 3.3), (44.4, 52.3, 31.0, 11.9), (73.3, 70.0, 60.6, 17.9)),
        ),
        fixed(0.99, of((80.6, 69.8, 65.8, 6.5), (54.9, 55.9, 37.1, 15.1), (89.6, 81.0, 79.3, 1.0))),
        fixed(0.95, of((91.9, 85.2, 83.9, 3.5), (50.8, 49.2, 30.5, 12.6), (91.8, 84.0, 83.3, 1.1))),
        fixed(0.90, of((92.7, 86.5, 85.3, 3.2), (43.3, 43.2, 27.3, 4.1), (93.0, 86.1, 85.7, 1.0))),
        fixed(0.80, of((93.6, 87.5, 86.9, 1.7), (49.9, 50.5, 33.6, 3.9), (93.0, 86.1, 85.7, 2.0))),
        Row(
            "III: one head, Eq. 5",
            SINGLE,
            paper=of((93.9, 88.0, 87.5, 2.3), (59.7, 61.3, 45.3, 31.6), (92.6, 85.3, 84.9, 5.1)),
        ),
        Row(
            "IV: one head, Eq. 5 and 3",
            {"layout": "single-both"},
            paper=of((94.8, 89.0, 89.1, 1.8), (57.8, 58.7, 43.1, 21.2), (93.0, 85.7, 85.5, 3.0)),
        ),
        Row(
            "V: without stop-gradient",
            {"stop_gradient": False},
            paper=of((93.0, 86.0, 85.7, 2.0), (49.6, 52.1, 34.2, 12.4), (86.7, 76.3, 63.9, 2.5)),
        ),
        CLU,
        CAL,
    ]
    return Table("cdc_table2", "CDC, Table 2: ablations", rows, ("acc", "nmi", "ari", "ece", "selected"), ALL)


BATCH_AND_CELLS = {  # Table 5: share of the base batch and of the base K -> ACC, ECE on STL-10 and on CIFAR-20
    (0.5, 0.8): ((93.0, 1.1), (58.1, 6.9)),
    (0.5, 1.0): ((93.1, 1.2), (61.0, 7.6)),
    (0.5, 1.2): ((93.2, 1.6), (60.2, 3.6)),
    (1.0, 0.8): ((93.1, 1.2), (58.8, 4.9)),
    (1.0, 1.0): ((93.0, 0.9), (61.7, 4.9)),
    (1.0, 1.2): ((93.1, 1.2), (62.6, 4.6)),
    (1.5, 0.8): ((92.8, 1.2), (59.1, 4.4)),
    (1.5, 1.0): ((92.8, 1.0), (60.0, 1.4)),
    (1.5, 1.2): ((93.1, 0.8), (59.2, 3.9)),
}
HIDDEN = {  # Table 6: share of the base H, 256 to 768 of 512
    0.5: ((93.2, 1.7), (61.7, 3.7)),
    0.75: ((93.1, 1.1), (60.6, 4.1)),
    1.0: ((93.0, 0.9), (61.7, 4.9)),
    1.25: ((92.6, 0.6), (58.3, 3.5)),
    1.5: ((92.2, 1.0), (57.1, 2.5)),
}
ENTROPY = {
    0.0: ((92.9, 1.1), (57.0, 2.4)),
    0.1: ((93.0, 1.0), (57.7, 2.7)),
    0.5: ((92.8, 1.3), (58.8, 1.8)),
    1.0: ((93.0, 0.9), (61.7, 4.9)),
    5.0: ((93.1, 0.9), (58.2, 2.7)),
    10.0: ((93.2, 1.0), (56.9, 1.7)),
}


def changed(base: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    """The settings that differ from the base, so that the base row is one run whatever table it stands in."""
    return {name: value for name, value in values.items() if value != base[name]}


def batch_and_cells(base: Mapping[str, Any]) -> Table:
    rows = []
    for (of_batch, of_cells), (stl10, cifar20) in BATCH_AND_CELLS.items():
        batch, cells = round(of_batch * base["batch_size"]), round(of_cells * base["cells"])
        settings = changed(base, batch_size=batch, cells=cells)
        rows.append(Row(f"B = {batch}, K = {cells}", settings, paper=stl_and_cifar20(stl10, cifar20)))
    note = "K changes by -20, 0 and +20 %, whatever B. The paper's nine cells spread by 0.1 / 0.2 and 1.4 / 1.7."
    return Table(
        "cdc_table5",
        "CDC, Table 5: batch size and mini-clusters",
        rows,
        ("acc", "ece", "selected"),
        ("ACC", "ECE"),
        note,
    )


def width_and_entropy(base: Mapping[str, Any]) -> Table:
    rows = []
    for share, (stl10, cifar20) in HIDDEN.items():
        hidden = round(share * base["hidden"])
        rows.append(Row(f"H = {hidden}", changed(base, hidden=hidden), paper=stl_and_cifar20(stl10, cifar20)))
    for weight, (stl10, cifar20) in ENTROPY.items():
        settings = changed(base, entropy_weight=weight)
        rows.append(Row(f"w_en = {weight:g}", settings, paper=stl_and_cifar20(stl10, cifar20)))
    return Table(
        "cdc_table6", "CDC, Table 6: width of the heads, weight of the entropy", rows, ("acc", "ece"), ("ACC", "ECE")
    )


def regularisers() -> Table:
    def loss(name: str, strength: float, title: str) -> Row:
        return Row(title, {"calibration_loss": name, "calibration_strength": strength})

    smoothing = [loss("smoothing", strength, f"label smoothing {strength}") for strength in (0.05, 0.1, 0.2, 0.3)]
    rows = [
        Row("one head, not calibrated", SINGLE),
        *smoothing,
        loss("focal", 2.0, "focal loss, exponent 2"),
        loss("l1", 0.01, "L1 norm of the logits, 0.01"),
        Row("CDC-Clu", head="clu"),
        Row("CDC-Cal"),
    ]
    note = (
        "The paper shows these as a figure; its text says that CDC-Cal is better than the best other loss by 8.6 "
        "points of AUROC, 10.6 of AURC and 6.5 of FPR95 (CIFAR-20, it seems). AUROC: higher is better; AURC and FPR95: "
        "lower."
    )
    columns = ("acc", "ece", "confidence", "auroc", "aurc", "fpr95")
    return Table("cdc_figure3", "CDC, Fig. 3: calibration losses and failure rejection", rows, columns, note=note)


def penalty(base: Mapping[str, Any], k: int) -> Table:
    batch = base["batch_size"]
    each = sorted({1, k, *(max(1, round(batch / images)) for images in (50, 20, 10, 5, 2, 1)), base["cells"]})
    rows = [Row(f"K = {cells}", changed(base, cells=cells)) for cells in each]
    columns = ("acc", "ece", "confidence", "target_confidence", "selected")
    note = f"K = 1 takes away most confidence, K = B = {batch} none. The paper shows its numbers as a figure."
    return Table("cdc_figure5", "CDC, Fig. 5: mini-clusters against penalty", rows, columns, note=note)


def filters() -> Table:
    rows = [
        Row("CDC", paper=stl_and_cifar20((93.03, 85.85, 85.57), (61.66, 60.94, 46.57))),
        Row("CDC + GSF", {"selection": "gsf"}, paper=stl_and_cifar20((92.98, 85.77, 85.48), (61.92, 61.20, 46.79))),
        Row("CDC + PPF", {"selection": "ppf"}, paper=stl_and_cifar20((93.03, 85.79, 85.57), (62.12, 61.30, 46.57))),
    ]
    columns = ("acc", "nmi", "ari", "ece", "selected", "joined")
    note = "`joined` is the share that GSF or PPF adds to the images selected by Eq. 4; the paper says under 5 %."
    return Table("cdc_table8", "CDC, Table 8: further images by GSF and PPF", rows, columns, ALL[:3], note)


def thresholds() -> Table:
    flexmatch, freematch = {"selection": "flexmatch"}, {"selection": "freematch"}
    short = {**freematch, "threshold_decay": 0.99}
    rows = [
        Row(
            "FlexMatch, one head",
            flexmatch | SINGLE,
            paper=stl_and_cifar20((92.6, 85.6, 84.8, 5.8, 90.6), (54.9, 55.6, 39.2, 37.4, 80.2)),
        ),
        Row(
            "FreeMatch, one head",
            freematch | SINGLE,
            paper=stl_and_cifar20((93.0, 85.9, 85.6, 5.1, 88.3), (48.8, 54.9, 16.8, 44.0, 90.8)),
        ),
        Row("FreeMatch, one head, decay 0.99", short | SINGLE),
        Row("CDC-Cal", paper=stl_and_cifar20((93.0, 85.8, 85.6, 0.9, 89.4), (61.7, 60.9, 46.6, 4.9, 55.2))),
        Row(
            "CDC + FlexMatch",
            flexmatch,
            paper=stl_and_cifar20((92.3, 84.6, 84.0, 2.0, 91.2), (57.2, 59.4, 42.1, 6.5, 3.2)),
        ),
        Row(
            "CDC + FreeMatch",
            freematch,
            paper=stl_and_cifar20((92.9, 85.6, 85.3, 0.7, 81.9), (57.8, 59.1, 43.6, 1.4, 64.3)),
        ),
        Row("CDC + FreeMatch, decay 0.99", short),
    ]
    note = (
        "`selected` is that of the last epoch. FreeMatch's running means take about 1,000 batches to forget how they "
        "began with its decay of 0.999; the rows with 0.99 are for trainings of a tenth of that."
    )
    columns = ("acc", "nmi", "ari", "ece", "selected")
    return Table("cdc_table9", "CDC, Table 9: FlexMatch and FreeMatch", rows, columns, (*ALL, "selected"), note)


def tables(base: Mapping[str, Any], k: int) -> dict[str, Table]:
    """All tables by the name that the command line takes; `base` are the settings of the row that is plain CDC."""
    return {
        "2": ablations(),
        "5": batch_and_cells(base),
        "6": width_and_entropy(base),
        "fig3": regularisers(),
        "fig5": penalty(base, k),
        "8": filters(),
        "9": thresholds(),
    }
