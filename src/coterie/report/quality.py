"""The section that only a run with true labels has. All of it comes from `metrics.json`; no label is read here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from coterie.records import Record
from coterie.report.charts import confusion_matrix, reliability_diagram
from coterie.report.headline import Tile
from coterie.report.wording import count, percent

MEASURES = (
    ("acc", "accuracy", "right after matching groups to classes"),
    ("nmi", "NMI", "shared information; 100% is the same"),
    ("ari", "ARI", "agreement of pairs; 0% is chance"),
    ("f1", "F1", "mean over classes"),
    ("balanced_accuracy", "balanced accuracy", "classes count alike, small or large"),
    ("purity", "purity", "share in its group's largest class"),
    ("ece", "ECE", "calibration error, 15 bins; 0% is best"),
    ("ece_adaptive", "ECE, equal mass", "the same, bins of equal size"),
    ("ece_debiased", "ECE, debiased", "less what chance alone would give"),
    ("ece_classwise", "ECE, class-wise", "of each class' probability, mean over classes"),
    ("overconfidence", "overconfidence", "mean confidence less accuracy; 0% is best"),
    ("auroc", "AUROC", "are right ones surer? 50% is chance"),
    ("aurc", "AURC", "mean error of the surest part; low is good"),
    ("fpr95", "FPR95", "wrong ones kept with 95% of the right ones; low is good"),
)
HEADS = {"clu": "clustering head", "cal": "calibration head", "raw": "before calibration"}
IN_TABLE = ("acc", "nmi", "ari", "f1", "ece", "ece_adaptive", "ece_debiased", "confidence", "auroc", "aurc", "fpr95")
MIXED_UP = 5  # kinds of mistakes that are named


@dataclass(frozen=True)
class Quality:
    """What the template draws: what was measured, tiles, the heads, both diagrams, and the largest mix-ups."""

    tiles: list[Tile]
    columns: list[str]
    heads: list[tuple[str, list[str]]]
    reliability: Markup | None
    confusion: Markup | None
    mixed_up: list[str]
    sentence: str


def build_quality(metrics: Record | None, kind: str) -> Quality | None:
    """None where there were no labels."""
    if not metrics or metrics.get("acc") is None:
        return None
    names = {key: name for key, name, _ in MEASURES} | {"confidence": "mean conf."}
    heads = {str(name): values for name, values in (metrics.get("heads") or {}).items() if isinstance(values, dict)}
    columns = [key for key in IN_TABLE if any(values.get(key) is not None for values in heads.values())]
    counts, classes, clusters = _confusion(metrics)
    return Quality(
        tiles=[
            Tile(percent(metrics.get(key)), name, _with_interval(hint, key, metrics))
            for key, name, hint in MEASURES
            if key in metrics
        ],
        columns=[names[key] for key in columns],
        heads=[
            (HEADS.get(name, name), [percent(values.get(key)) for key in columns]) for name, values in heads.items()
        ],
        reliability=reliability_diagram(metrics["reliability"]) if metrics.get("reliability") else None,
        confusion=confusion_matrix(counts, classes, clusters) if counts.size else None,
        mixed_up=_mixed_up(counts, classes, clusters, metrics),
        sentence=_measured(metrics, kind),
    )


def _measured(metrics: Record, kind: str) -> str:
    """Of which items the numbers are, and what is to be said of their labels."""
    n, judged, note = count(int(metrics.get("n", 0))), metrics.get("labels_used"), metrics.get("labels")
    out = f", without the {count(judged)} whose judgement took part" if judged else ""
    said = f" Labels: {note}." if note else ""
    return f"Of {n} {kind} with a known label{out}. These labels took no part in the run.{said}"


def _with_interval(hint: str, key: str, metrics: Record) -> str:
    stored = metrics.get("intervals") or {}
    low, high = stored.get(key) or (None, None)
    if low is None or high is None:
        return hint
    return f"{hint} ({round(100 * stored['level'])}% interval {percent(low)} to {percent(high)})"


def _confusion(metrics: Record) -> tuple[Any, list[str], list[int]]:
    stored = metrics.get("confusion") or {}
    counts = np.array(stored.get("counts") or [[]], dtype=np.int64)
    return counts, [str(name) for name in metrics.get("classes") or []], list(stored.get("clusters") or [])


def _mixed_up(counts: Any, classes: Sequence[str], clusters: Sequence[int], metrics: Record) -> list[str]:
    """The five largest numbers of items of one class in a group that stands for another, a phrase each."""
    class_of = {row["cluster"]: row.get("class") for row in metrics.get("per_cluster") or []}
    phrases: list[str] = []
    if not counts.size:
        return phrases
    for place in np.argsort(-counts, axis=None, kind="stable").tolist():
        row, column = divmod(place, counts.shape[1])
        stands_for = class_of.get(clusters[column])
        if counts[row, column] == 0 or len(phrases) == MIXED_UP:
            break
        if stands_for != classes[row]:
            where = f"which stands for {stands_for}" if stands_for else "which stands for no class"
            number = count(int(counts[row, column]))
            phrases.append(f"{number} of class {classes[row]} in group {clusters[column]}, {where}")
    return phrases
