"""The generated parts of CDC's page, and of those on out-of-distribution scores and accept sets."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable
from typing import Any

import cdc_grey
import mini_clusters_rule
from _pages import mean_and_deviation

from _docs import SCORES, Block, mean_percent, not_run, percent, records, score_cells, table, table_of

ROWS = (
    ("MoCo-v2 + K-means", "moco_kmeans", "kmeans"),
    ("random heads", "random_heads", "cal"),
    ("initialised heads", "initialised", "cal"),
    ("CDC-Clu", "cdc", "clu"),
    ("CDC-Cal", "cdc", "cal"),
)
NOT_YET = {
    "fashion-mnist-crops": "python experiments/cdc_reference.py fashion-mnist --name fashion-mnist-crops -k 10 "
    "--seeds 0 1 2 --backbone small-16 --set views.crop_scale=[0.6,1.0]"
}


def reference(data: str) -> str:
    """All rows of `cdc_reference.py`."""
    if data in NOT_YET and (missing := not_run(f"cdc_reference_{data}", NOT_YET[data])):
        return missing
    found = records(f"cdc_reference_{data}")
    rows = [
        [title, *score_cells([one["rows"][row]["heads"][head] for one in found["records"]], SCORES)]
        for title, row, head in ROWS
    ]
    return table(["", *SCORES.values()], rows, found["command"])


def mini_clusters(data: str) -> str:
    found = records(f"mini_clusters_{data}")
    rows = []
    for each in dict.fromkeys(one["images_each"] for one in found["records"]):
        mine = [one for one in found["records"] if one["images_each"] == each]
        cells = [score_cells([one["heads"][head] for one in mine], [key])[0] for head, key in COLUMNS]
        rows.append([str(each), str(mine[0]["cells"]), *cells])
    return table(["images each", "K", "ACC, Cal", "ECE, Cal", "ECE, Clu"], rows, found["command"])


def by_space() -> list[list[dict[str, Any]]]:
    """The records of `mini_clusters_rule.py`, apart by source and form."""
    spaces: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in records("mini_clusters_rule")["records"]:
        spaces.setdefault((one["data"], one["form"]), []).append(one)
    return list(spaces.values())


def rules() -> str:
    """What each rule takes, beside the preset and every fixed number: images each, ACC / ECE."""

    def cell(found: list[dict[str, Any]]) -> str:
        taken = ", ".join(str(each) for each in sorted({one["images_each"] for one in found}))
        return f"{taken}: {percent(mini_clusters_rule.mean_of(found, 'acc'))} / " + percent(
            mini_clusters_rule.mean_of(found, "ece")
        )

    rows = []
    for mine in by_space():
        preset = [one for one in mine if one["preset"]]
        fewest = [min(mine, key=lambda one: int(one["cells"]))]
        by_rule = [cell(mini_clusters_rule.chosen(mine, rule)) for rule in mini_clusters_rule.RULES]
        title = f"{mine[0]['data']}, {mine[0]['form']}" + (" (read)" if mine[0]["read"] else "")
        rows.append([title, cell(preset), *by_rule, cell(fewest)])
    head = ["", "preset", *mini_clusters_rule.RULES, "K = k"]
    return table(head, rows, records("mini_clusters_rule")["command"])


def rule_values() -> str:
    """All runs behind `rules`."""
    rows = []
    for one in (one for mine in by_space() for one in mine):
        agree = [mean_and_deviation(one[key]) for key in ("agreement", "heads", "halves")]
        cells = score_cells(one["cal"], ("acc", "ece", "confidence"))
        preset = " (preset)" if one["preset"] else ""
        rows.append(
            [f"{one['data']}, {one['form']}", f"{one['images_each']}{preset}", str(one["cells"]), *cells, *agree]
        )
    head = ["", "images each", "K", "ACC", "ECE", "mean confidence", "seeds agree", "heads agree", "halves agree"]
    return table(head, rows, records("mini_clusters_rule")["command"])


def grey() -> str:
    """The search for a recipe on grey pictures."""
    found = records("cdc_grey")
    return table_of(cdc_grey.page(found["records"], ""), found["command"])


COLUMNS = (("cal", "acc"), ("cal", "ece"), ("clu", "ece"))


def one_head() -> str:
    """Table 2, III and IV, on all images."""
    found = records("cdc_table2_fashion-mnist-70000")
    metrics = ("acc", "nmi", "ari", "ece")
    rows = []
    for row in found["rows"]:
        (one,) = row["records"]
        rows.append([row["title"], *score_cells([scored(row, one)], metrics), percent(one["health"]["selected"])])
    return table(["", *(SCORES[key] for key in metrics), "selected"], rows, found["command"])


def scored(row: dict[str, Any], record: dict[str, Any]) -> dict[str, float]:
    """The numbers of the row's head; of the answer where it names none."""
    found: dict[str, float] = record["heads"][row["head"]] if row["head"] else record["metrics"]
    return found


class TableRows:
    """The rows of one of the tables on 10,000 images, for sentences: "{t.acc('CDC-Cal')}"."""

    def __init__(self, name: str) -> None:
        found = records(f"cdc_{name}_fashion-mnist-10000")
        self.command = found["command"]
        self.rows = {row["title"]: row for row in found["rows"]}

    def done(self, title: str) -> list[dict[str, Any]]:
        return [one for one in self.rows[title]["records"] if not one["failed"]]

    def of(self, metric: str, title: str) -> str:
        return mean_percent([scored(self.rows[title], one)[metric] for one in self.done(title)])

    def mean(self, metric: str, title: str) -> float:
        return statistics.mean(scored(self.rows[title], one)[metric] for one in self.done(title))

    def span(self, metric: str, titles: list[str], separator: str = " to ") -> str:
        values = [self.mean(metric, title) for title in titles]
        return f"{percent(min(values))}{separator}{percent(max(values))}"

    def lead(self, title: str, others: Iterable[str]) -> float:
        """By how much ACC is above the best of the others."""
        return min(self.mean("acc", title) - self.mean("acc", other) for other in others)

    def change(self, title: str, others: Iterable[str]) -> float:
        """The largest difference in ACC, up or down."""
        return max(abs(self.mean("acc", title) - self.mean("acc", other)) for other in others)

    def pair(self, title: str) -> str:
        return f"{self.of('acc', title)} / {self.of('ece', title)}"

    def selected(self, title: str) -> str:
        return mean_percent([one["health"]["selected"] for one in self.done(title)])

    def failed(self, title: str) -> str:
        """Nothing, or how many runs ended by themselves."""
        all_of = self.rows[title]["records"]
        gone = len(all_of) - len(self.done(title))
        return f" ({gone} of {len(all_of)} runs failed and does not count)" if gone else ""


Claim = list[str]  # the paper's, what the tables say, whether it holds
CAL = "CDC-Cal"
A_LITTLE, LITTLE = 0.01, 0.02  # a gain of up to the first is called so, and so is a change of up to the second


def gained(difference: float) -> str:
    """Whether a claim holds that something is better, by its lead."""
    return "**no**" if difference <= 0 else "a little" if difference <= A_LITTLE else "yes"


def changed_little(change: float) -> str:
    return "yes" if change <= LITTLE else "**no**"


def claims() -> str:
    """The paper's claims beside what the tables on 10,000 images say."""
    two, five = TableRows("table2"), TableRows("table5")
    rows = [*on_heads(two), on_rejection(), *on_selection(), *on_settings(five)]
    text = table(["the paper's claim", "here (ACC / ECE of the answer, %)", "holds"], rows, two.command)
    rule = (
        f'A lead of up to {percent(A_LITTLE, 0)} point is "a little"; a change of up to {percent(LITTLE, 0)} is little.'
    )
    return text + f"\n`{five.command}`\n\n{rule}\n"


def on_heads(two: TableRows) -> list[Claim]:
    """Of Table 2: the start, the selection, the two heads."""
    fixed = "II: fixed threshold 0."
    without = not two.done(f"{fixed}95") and not two.done(f"{fixed}99")
    starts = ["I: random heads, before training", "I: trained from random heads"]
    far = min(
        two.lead(own, [other]) for own, other in zip(["I: prototypes, before training", CAL], starts, strict=True)
    )
    return [
        [
            "prototypes are a far better start than random heads",
            f"before training {two.of('acc', 'I: prototypes, before training')} against "
            f"{two.of('acc', 'I: random heads, before training')}; after it {two.of('acc', CAL)} against "
            f"{two.of('acc', 'I: trained from random heads')}",
            gained(far),
        ],
        [
            "the adaptive selection beats every fixed threshold (on STL-10 it equals two of four)",
            f"{two.of('acc', CAL)}; threshold 0.8: {two.of('acc', fixed + '80')}, 0.9: {two.of('acc', fixed + '90')}"
            + (", 0.95 and 0.99: end with nothing selected" if without else ""),
            gained(two.lead(CAL, [title for title in two.rows if title.startswith(fixed) and two.done(title)])),
        ],
        [
            "two heads beat one",
            f"CDC {two.pair(CAL)}; one head with Eq. 5 {two.pair('III: one head, Eq. 5')}, with Eq. 5 and 3 "
            f"{two.pair('IV: one head, Eq. 5 and 3')}",
            gained(two.lead(CAL, ["III: one head, Eq. 5", "IV: one head, Eq. 5 and 3"])),
        ],
        [
            "the stop-gradient matters",
            f"{two.pair(CAL)} with it, {two.pair('V: without stop-gradient')} without",
            gained(two.lead(CAL, ["V: without stop-gradient"])),
        ],
        [
            "Cal's ECE is far below Clu's",
            f"{two.of('ece', CAL)} against {two.of('ece', 'CDC-Clu')}",
            gained(two.mean("ece", "CDC-Clu") - two.mean("ece", CAL)),
        ],
    ]


def on_rejection() -> Claim:
    """Of Figure 3: CDC beside other losses."""
    losses = TableRows("figure3")
    smoothing = [title for title in losses.rows if title.startswith("label smoothing")]
    others = {
        "smoothing": smoothing,
        "L1": ["L1 norm of the logits, 0.01"],
        "focal": ["focal loss, exponent 2"],
        "none": ["one head, not calibrated"],
    }

    def better(name: str) -> bool:
        return losses.mean("auroc", CAL) > losses.mean("auroc", name) and losses.mean("aurc", CAL) < losses.mean(
            "aurc", name
        )

    beaten = [loss for loss, names in others.items() if all(map(better, names))]
    holds = " and ".join(beaten) and f"against {' and '.join(beaten)}"
    unbeaten = " or ".join(loss for loss in others if loss not in beaten)
    rejects = {name: f"{losses.of('auroc', name)}, {losses.of('aurc', name)}" for name in losses.rows}
    return [
        "Cal rejects failures better than other losses do (AUROC, AURC)",
        f"Cal {rejects[CAL]}; label smoothing {losses.span('auroc', smoothing)}, {losses.span('aurc', smoothing)}; "
        f"L1 {rejects['L1 norm of the logits, 0.01']}; focal {rejects['focal loss, exponent 2']}; not calibrated "
        f"{rejects['one head, not calibrated']}",
        "; ".join(filter(None, [holds, unbeaten and f"**not** against {unbeaten}"])),
    ]


def on_selection() -> list[Claim]:
    """Of Tables 8 and 9: other ways to choose what teaches."""
    eight, nine = TableRows("table8"), TableRows("table9")
    added = ("CDC + GSF", "CDC + PPF")
    joined = max(one["health"]["joined"] for title in added for one in eight.done(title))
    gains = max(abs(float(eight.of("acc", title)) - float(eight.of("acc", "CDC"))) for title in added)
    return [
        [
            "GSF and PPF add little",
            f"at most {percent(joined)} % of the images, ACC within {gains:.1f}",
            changed_little(eight.change("CDC", added)),
        ],
        [
            "FlexMatch and FreeMatch fit CDC worse than its own selection",
            f"ACC {nine.of('acc', 'CDC + FlexMatch')} and {nine.of('acc', 'CDC + FreeMatch')} against "
            f"{nine.of('acc', CAL)}; alone {nine.of('acc', 'FlexMatch, one head')}"
            f"{nine.failed('FlexMatch, one head')} and {nine.of('acc', 'FreeMatch, one head')}",
            gained(nine.lead(CAL, ["CDC + FlexMatch", "CDC + FreeMatch"])),
        ],
    ]


def on_settings(five: TableRows) -> list[Claim]:
    """Of Tables 5 and 6: what changes little."""
    six, preset = TableRows("table6"), ("B = 1000, K = 40", "H = 512", "w_en = 1")
    widths = [title for title in six.rows if title.startswith("H =")]
    weights = {title: float(title.removeprefix("w_en = ")) for title in six.rows if title.startswith("w_en =")}
    far = [weight for title, weight in weights.items() if six.change(preset[2], [title]) > LITTLE]
    least = min(weight for weight in weights.values() if weight not in far)
    below = f"not below {least:g}" if max(far, default=0) < least else "**no**"
    return [
        [
            "B, K and H change little",
            f"ACC {five.span('acc', list(five.rows))} over B and K, {six.span('acc', widths)} over H",
            changed_little(max(five.change(preset[0], five.rows), six.change(preset[1], widths))),
        ],
        [
            "the entropy weight changes little",
            f"{six.pair('w_en = 1')} at 1; {six.pair('w_en = 0')} at 0; {six.pair('w_en = 10')} at 10",
            below if far else "yes",
        ],
    ]


def selected() -> str:
    """Which share of the images teaches, in the rows that the page argues from."""
    two = TableRows("table2")
    return (
        f"The share of the images that teach: {two.selected('III: one head, Eq. 5')} % with one head and Eq. 5 (III), "
        f"{two.selected('IV: one head, Eq. 5 and 3')} % with Eq. 5 and 3 (IV), {two.selected('CDC-Cal')} % in CDC.\n"
    )


def costs() -> str:
    """Table 7: seconds of both stages, means over seeds."""
    rows, commands = [], []
    for data in ("digits", "fashion-mnist", "cifar10-jpeg"):
        found = records(f"cdc_reference_{data}")
        stages = [statistics.mean(one["rows"][row]["seconds"] for one in found["records"]) for row in STAGES]
        settings = found["records"][0]["settings"]
        epochs = f"{settings['moco']['epochs']}, {settings['cdc']['epochs']}"
        one = found["records"][0]
        rows.append(
            [data, f"{one['n']:,}", epochs, *(f"{value:,.0f}" for value in stages), str(found["machine"]["threads"])]
        )
        commands.append(f"`{found['command']}`")
    text = table(["", "images", "epochs of MoCo-v2, CDC", "MoCo-v2, s", "CDC, s", "threads"], rows, "")
    return text.removesuffix("``\n") + "\n\n".join(commands) + "\n"


STAGES = ("moco_kmeans", "cdc")


def foreign() -> str:
    """AUROC of some scores of `ood.py`."""
    found = records("ood")
    rows = []
    for title, head, score in (
        ("`knn` (default)", "features", "knn"),
        ("`mahalanobis`, clusters of `cal`", "cal", "mahalanobis"),
        ("`energy` of `cal`", "cal", "energy"),
        ("`msp` of `cal`", "cal", "msp"),
        ("`msp` of `clu`, not calibrated", "clu", "msp"),
    ):
        sets = [
            mean_and_deviation([one["ood"][name]["heads"][head][score]["auroc"] for one in found["records"]])
            for name in ("mnist", "digits", "rotated", "noise")
        ]
        rows.append([title, *sets])
    return table(["score", "MNIST", "digits", "rotated by 90°", "noise"], rows, found["command"])


def audits() -> str:
    """The audits of `accept_sets.py`, means over its runs."""
    found = records("accept_sets")
    runs, rows = [one["accept"] for one in found["records"]], []
    for i, bound in enumerate(runs[0]):
        mine = [run[i] for run in runs]
        free = ", ".join(mean_percent([one["label_free"][key] for one in mine]) + " %" for key in ("coverage", "error"))
        for j, audit in enumerate(bound["audits"]):
            cells = [
                mean_percent([one["audits"][j][key] for one in mine]) + " %"
                for key in ("holds", "passed", "coverage_mean")
            ]
            best = mean_percent([one["best"] for one in mine]) + " %"
            rows.append([f"{percent(bound['max_error'], 0)} %", str(audit["judged"]), *cells, best, free])
    head = ["max error", "judged", "claim holds", "audits that accept", "mean coverage", "best possible"]
    return table([*head, "label-free: coverage, real error"], rows, found["command"])


SETS = ("digits", "fashion-mnist", "fashion-mnist-crops", "cifar10-jpeg")
BLOCKS: dict[str, Block] = {
    **{f"cdc-{data}": functools.partial(reference, data) for data in SETS},
    **{f"mini-clusters-{data}": functools.partial(mini_clusters, data) for data in ("digits", "fashion-mnist")},
    "mini-clusters-rules": rules,
    "mini-clusters-rule-values": rule_values,
    "cdc-one-head": one_head,
    "cdc-grey": grey,
    "cdc-claims": claims,
    "cdc-selected": selected,
    "cdc-costs": costs,
    "ood": foreign,
    "accept": audits,
}
