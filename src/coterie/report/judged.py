"""How far off the confidences are by a judged sample, before and after their correction. Based on people's labels."""

from __future__ import annotations

from dataclasses import dataclass

from coterie.records import Record
from coterie.report.wording import count, percent, points


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
        f"Labels were used here, and only here: {count(int(found['judged']))} judged items were used to "
        f"fit the map {found['map']['kind']}. Its confidences are in result.recalibrated.parquet; everything else on "
        "this page is without labels."
    )
    return JudgedSection(sentence, rows)


def _cells(off: Record) -> list[str]:
    low, high = off["gap_interval"]
    gap = f"{points(off['gap'])} {'too high' if off['gap'] > 0 else 'too low'}"
    interval = f"{100 * low:+.1f} to {100 * high:+.1f}".replace("-", "−")
    beyond = f"{100 * off['ece']:+.1f} points".replace("-", "−")
    return [percent(off["confidence"]), percent(off["accuracy"]), gap, interval, beyond, f"{off['p']:.2g}"]
