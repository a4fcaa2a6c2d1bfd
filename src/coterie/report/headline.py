"""The top of the page: what happened, in a sentence, and the few numbers that matter most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coterie.common.words import counted
from coterie.evaluation.calibration_errors import ROUNDED
from coterie.records import Record
from coterie.records.recalibration import read_recalibration
from coterie.report.judged import how_far_off
from coterie.report.read import ReadRun
from coterie.report.wording import count, duration, percent, points

SURE, DOUBTFUL = 0.9, 0.5
CALIBRATED = {True: "top-1 probability", False: "top-1 probability, not calibrated"}

EXPLAINED = {
    "running": ("This run is not finished", "The numbers below show how far it is."),
    "stopped": ("This run was stopped", "The numbers below show how far it came; it can be resumed."),
}


@dataclass(frozen=True)
class Tile:
    """One key number. `tone` is a class of the style sheet."""

    value: str
    name: str
    hint: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Banner:
    """What the reader must know before anything else."""

    title: str
    text: str
    tone: str


def banner(run: Record) -> Banner | None:
    """A failed run's reason and advice, or that the run did not reach its end."""
    status = run.get("status")
    if status == "failed":
        failure = run.get("failure") or {}
        words = [str(failure.get(key, "")).strip() for key in ("reason", "advice")]
        return Banner("This run failed", " ".join(filter(None, words)) or "No reason was recorded.", "bad")
    if status in EXPLAINED:
        return Banner(*EXPLAINED[status], "warn")
    if status not in ("done", None):
        return Banner(f"The status of this run is {status}", "This version of coterie does not know it.", "warn")
    return None


def method(run: Record) -> str:
    """The stages in order: "moco → cdc"."""
    names = [str(stage.get("name", "")) for stage in run.get("stages") or []]
    return " → ".join(filter(None, names))


def title(folder: ReadRun) -> str:
    """ "1,797 images in 10 groups"."""
    source = folder.run.get("source") or {}
    n = len(folder.result.labels) if folder.result else source.get("n")
    items = count(n) + " " + folder.kind if isinstance(n, int) else folder.kind.capitalize()
    if not folder.n_clusters:
        return items
    groups = counted(folder.n_clusters, "group")
    return f"{items} in {groups}" if folder.result else f"{items}, {groups} wanted"


def lede(folder: ReadRun) -> list[str]:
    """How the items were grouped, and how far to trust it; a sentence each."""
    run, result = folder.run, folder.result
    how = _how(run)
    sentences = []
    if result is None:
        return ["No item has a group yet."]
    if how:
        sentences.append(f"{how}.")
    mean = float(result.confidence.mean())
    wrong = round(float((1 - result.confidence).sum()))
    if folder.calibrated:
        sentences.append(
            f"Mean confidence is {percent(mean)}: if it can be believed, about {count(wrong)} "
            f"of {count(len(result.labels))} {folder.kind} {'is' if wrong == 1 else 'are'} in a wrong group."
        )
    else:
        sentences.append(f"Mean confidence is {percent(mean)}, not calibrated: it does not say how many are wrong.")
    if off := how_far_off(read_recalibration(folder.path)):
        sentences.append(off)
    if folder.metrics and None not in (folder.metrics.get("acc"), folder.metrics.get("confidence")):
        sentences.append(_measured(folder.metrics))
    return sentences


def _how(run: Record) -> str:
    """ "Sorted by cdc with mlp in 20 s, on embeddings by dinov2-small": the time is that after the embedding.

    The identity, a net that does nothing, is left out.
    """
    if not method(run):
        return ""
    backbone = (run.get("backbone") or {}).get("name")
    encoding = ((run.get("source") or {}).get("spec") or {}).get("encoding") or {}
    words = [
        f"Sorted by {method(run)}",
        f"with {backbone}" if backbone and backbone != "identity" else "",
        f"in {duration(run['seconds'])}" if run.get("seconds") is not None else "",
    ]
    embedded = f", on embeddings by {encoding['encoder']}" if encoding.get("encoder") else ""
    return " ".join(filter(None, words)) + embedded


def _measured(metrics: Record) -> str:
    gap = float(metrics["confidence"]) - float(metrics["acc"])
    if abs(gap) < 0.005:
        judgement = "the confidence is as high as it should be"
    else:
        judgement = f"the confidence is {points(gap)} too {'high' if gap > 0 else 'low'}"
    free = " that nobody judged" if metrics.get("labels_used") else ""
    unknown = f" (on the {count(metrics.get('n', 0))} with a known label{free})" if metrics.get("unknown") else ""
    return f"Measured against true labels{unknown}, {percent(metrics['acc'])} are right, so {judgement}."


def labels_used(run: Record) -> str | None:
    """What people's judgements had a part in: "212 judged labels took part"; None for a run without any."""
    used = run.get("labels_used")
    if not isinstance(used, dict):
        return None
    if _merged_alone(used):
        return "Merges by a person took part"
    judged = used.get("judged")
    return f"{count(judged)} judged labels took part" if isinstance(judged, int) else "Judged labels took part"


def labels_banner(run: Record) -> Banner | None:
    """The same at the top of the page, and what follows from it."""
    title = labels_used(run)
    if title is None:
        return None
    how = "People said of these items where they belong, and the confidences were taught by it."
    if _merged_alone(run["labels_used"]):
        how = "A person put groups together, and their confidences were added."
    return Banner(title, f"{how} They are not label-free, and no comparison with label-free runs holds.", "warn")


def _merged_alone(used: Record) -> bool:
    return isinstance(used.get("merges"), int) and not used.get("judged")


def tiles(folder: ReadRun) -> list[Tile]:
    """Key numbers that need no labels."""
    result = folder.result
    if result is None:
        return []
    n, kind = len(result.labels), folder.kind
    sizes = np.bincount(result.labels, minlength=folder.n_clusters)
    used = int((sizes > 0).sum())
    found = [
        Tile(
            percent(float(result.confidence.mean())),
            "mean confidence",
            taught.lower() if (taught := labels_used(folder.run)) else CALIBRATED[folder.calibrated],
        ),
        _share_tile(result.confidence >= SURE - ROUNDED, f"sure {kind}", "at 90% or more", "good"),
        _share_tile(result.confidence < DOUBTFUL - ROUNDED, f"doubtful {kind}", "below 50%", "doubt"),
        Tile(
            f"{used} of {len(sizes)}" if used < len(sizes) else str(used),
            "groups in use",
            "none is empty" if used == len(sizes) else f"{len(sizes) - used} empty",
            "" if used == len(sizes) else "doubt",
        ),
        Tile(
            f"{count(int(sizes[sizes > 0].min()))} – {count(int(sizes.max()))}",
            "smallest – largest group",
            f"an even share is {count(round(n / max(len(sizes), 1)))}",
        ),
    ]
    skipped = (folder.run.get("source") or {}).get("skipped") or []
    if skipped:
        found.append(Tile(count(len(skipped)), f"{kind} left out", "could not be read, listed below", "doubt"))
    return found


def _share_tile(chosen: np.ndarray, name: str, hint: str, tone: str) -> Tile:
    return Tile(percent(float(chosen.mean())), name, f"{count(int(chosen.sum()))} {hint}", tone if chosen.any() else "")
