"""Training curves: for each stage, one small chart for each loss and each label-free health number."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from coterie.records import Record
from coterie.report.charts import curve, shades
from coterie.report.wording import duration, number

# What the engine's own numbers are called, and what to make of them; those of a method are named in its record.
HEALTH = {
    "groups_used": ("groups in use", "falls when the run collapses"),
    "largest_share": ("largest group's share", "near 1 is a collapse"),
    "intrinsic_dimension": ("intrinsic dimension", "directions along which neighbours lie"),
    "linear_dimension": ("linear dimension", "principal components for nine tenths of the variance"),
    "curvature": ("curvature", "linear less intrinsic dimension; 0 is flat"),
    "singular_largest": ("largest singular value", "of the features"),
    "singular_smallest": ("smallest singular value", "near 0 a direction has collapsed"),
}


@dataclass(frozen=True)
class Curve:
    """One chart with its name and last value."""

    name: str
    hint: str
    last: str
    chart: Markup


@dataclass(frozen=True)
class Stage:
    """One stage of the run with what it learned, and how fast."""

    name: str
    summary: str
    settings: list[tuple[str, str]]
    curves: list[Curve]


def build_stages(run: Record, history: list[Record]) -> list[Stage]:
    """The stages in the order in which they ran; those without a line of history have no curves."""
    told = {str(stage.get("name")): stage for stage in run.get("stages") or []}
    logs = run.get("logs") or {}
    names = [*told, *(str(line.get("stage")) for line in history)]
    return [
        _stage(
            name, told.get(name, {}), [line for line in history if str(line.get("stage")) == name], logs.get(name, {})
        )
        for name in dict.fromkeys(names)
    ]


def _stage(name: str, told: Record, lines: list[Record], logs: Record) -> Stage:
    """A stage as the report shows it; `told` is of run.yaml, `lines` of the history, `logs` names what it logged."""
    seconds = told.get("seconds")
    if seconds is None and lines:
        seconds = sum(float(line.get("seconds") or 0) for line in lines)
    speeds = [float(line["items_per_second"]) for line in lines if line.get("items_per_second")]
    epochs = len(lines) or told.get("epochs")
    parts = [
        f"{epochs} {'epoch' if epochs == 1 else 'epochs'}" if epochs else "",
        duration(seconds) if seconds is not None else "",
        f"{sum(speeds) / len(speeds):,.0f} items per second" if speeds else "",
        str(told["status"]) if told.get("status") not in (None, "done") else "",
    ]
    curves = [_curve(lines, "losses", loss, f"loss: {loss}", "") for loss in _keys(lines, "losses")]
    names = {**HEALTH, **{key: tuple(texts) for key, texts in logs.items()}}
    for key in _keys(lines, "health"):
        curves.append(_curve(lines, "health", key, *names.get(key, (key.replace("_", " "), ""))))
    bins = len(lines[-1].get("confidence_histogram", [])) if lines else 0
    counted = [line for line in lines if bins and len(line.get("confidence_histogram", [])) == bins]
    if counted:
        drawing = shades([int(line["epoch"]) for line in counted], [line["confidence_histogram"] for line in counted])
        curves.append(Curve("confidences", "epochs across, confidence 0 to 1 upwards; darker: more items", "", drawing))
    settings = [
        (key, "not set" if value is None else str(value)) for key, value in (told.get("settings") or {}).items()
    ]
    return Stage(name, " · ".join(filter(None, parts)), settings, curves)


def _keys(lines: list[Record], group: str) -> list[str]:
    """Names in the order of first appearance."""
    return list(dict.fromkeys(key for line in lines for key in line.get(group) or {}))


def _curve(lines: list[Record], group: str, key: str, name: str, hint: str) -> Curve:
    known = [line for line in lines if (line.get(group) or {}).get(key) is not None]
    epochs = [int(line.get("epoch", place + 1)) for place, line in enumerate(known)]
    values = [float(line[group][key]) for line in known]
    last = number(values[-1]) if values else "–"
    return Curve(name, hint, last, curve(epochs, values, f"{name} over {len(values)} epochs, last {last}"))
