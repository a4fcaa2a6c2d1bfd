"""How far off the confidences are by a judged sample, before and after their correction. Based on people's labels."""

from __future__ import annotations

from dataclasses import dataclass

from coterie.records import Record
from coterie.report.wording import count, gap, percent


@dataclass(frozen=True)
class JudgedSection:
    """What the template draws: a sentence, and a row for before and after."""

    sentence: str
    rows: list[tuple[str, list[str]]]


def build_judged(found: Record | None) -> JudgedSection | None:
    """None where the confidences were not corrected by a judged sample."""
    if not found:
        return None
    rows = [(name, _cells(found[key])) for key, name in (("before", "before"), ("after", "after, cross-fitted"))]
    sentence = (
        "Labels were used here and in the sentence at the top: "
        f"{count(int(found['judged']))} judged items were used to fit the map {found['map']['kind']}. Its "
        "confidences are in result.recalibrated.parquet; all others on this page are as they were before."
    )
    return JudgedSection(sentence, rows)


def how_far_off(found: Record | None) -> str | None:
    """ "By 200 judged items the mean confidence is 36.4 points too high."; None where nothing was corrected."""
    if not found:
        return None
    return f"By {count(int(found['judged']))} judged items the mean confidence is {gap(found['before']['gap'])}."


def _cells(off: Record) -> list[str]:
    low, high = off["gap_interval"]
    interval = f"{100 * low:+z.1f} to {100 * high:+z.1f}".replace("-", "−")
    beyond = f"{100 * off['ece']:+z.1f} points".replace("-", "−")
    return [percent(off["confidence"]), percent(off["accuracy"]), gap(off["gap"]), interval, beyond, f"{off['p']:.2g}"]
