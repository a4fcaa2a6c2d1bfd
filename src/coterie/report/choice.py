"""How many groups: the curve over K of a run whose number of groups was chosen, or looked at afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from coterie.records import Record
from coterie.report.charts import curve
from coterie.report.training import Curve
from coterie.report.wording import number

SHOWN = {
    "prediction_strength": ("groups hold on other items", "prediction strength; from 0.8 on they do"),
    "excess": ("stability above chance", "ARI of two samples' groups, less that of a Gaussian"),
    "silhouette": ("silhouette", "how far groups are apart"),
    "gap": ("gap", "tighter than a Gaussian, in nats"),
    "generalisation": ("linear kappa", "how well a classifier predicts the group"),
    "coding_rate": ("coding rate", "nats per item; low is good"),
}


@dataclass(frozen=True)
class ChoiceSection:
    """What the template draws."""

    sentence: str
    ticks: str
    curves: list[Curve]
    notes: list[str]


def build_choice(found: Record | None) -> ChoiceSection | None:
    """None where no number of groups was searched for."""
    if not found:
        return None
    rows = [row for row in found.get("curve") or [] if "k" in row]
    curves = []
    for name, (title, hint) in SHOWN.items():
        known = [(int(row["k"]), float(row[name])) for row in rows if name in row]
        if known:
            groups, values = [k for k, _ in known], [value for _, value in known]
            at = number(dict(known)[int(found["k"])]) if int(found["k"]) in groups else ""
            drawing = curve(groups, values, f"{title} of {groups[0]} to {groups[-1]} groups", "{} groups")
            curves.append(Curve(title, hint, f"{at} at {found['k']}" if at else "", drawing))
    said = str(found.get("sentence") or "")
    sentence = f"Number of groups: {said}" if found.get("clear") else said
    ticks = ", ".join(f"{name} {k}" for name, k in (found.get("ticks") or {}).items())
    return ChoiceSection(sentence, ticks, curves, [str(note) for note in found.get("notes") or []])
