"""Small charts as inline SVG. Colours are the style sheet's, so that one drawing serves light and dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from coterie.evaluation.calibration_errors import Bin, bin_of
from coterie.report.wording import count, number, percent

POINTS = 300  # a line of more epochs is thinned to so many: a chart is about as many pixels wide


def svg(width: float, height: float, body: str, label: str, kind: str = "chart") -> Markup:
    """Wrap finished SVG; `label` is what a screen reader says instead of it."""
    stretch = ' preserveAspectRatio="none"' if kind == "spark" else ""
    size = f'viewBox="0 0 {width:g} {height:g}"{stretch}'
    return Markup(f'<svg class="{kind}" {size} role="img" aria-label="{escape(label)}">{body}</svg>')


def _text(x: float, y: float, text: object, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> str:
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}">{inside}</rect>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _cells(
    levels: NDArray[np.number], most: int, corner: Callable[[int, int], tuple[float, float]], wide: float, tall: float
) -> list[str]:
    """A path for each shade from 1 to `most`, of the cells at that level; `corner` is the upper left one of a cell."""
    paths = []
    for shade in range(1, most + 1):
        places = np.argwhere(levels == shade)
        if len(places):
            corners = [corner(first, second) for first, second in places]
            path = "".join(f"M{x:.1f} {y:.1f}h{wide:.2f}v{tall:.2f}h-{wide:.2f}z" for x, y in corners)
            paths.append(f'<path d="{path}" class="cell" fill-opacity="{shade / most:g}"/>')
    return paths


def histogram(confidence: NDArray[np.floating], items: str, bins: int = 40) -> Markup:
    """All confidences; those below one half in the colour of doubt."""
    width, height, left, bottom, top = 520.0, 318.0, 8.0, 34.0, 26.0
    counts = _counts(confidence, bins)
    highest = max(int(counts.max()), 1)
    step, tall = (width - 2 * left) / bins, height - bottom - top
    body = [_line(left, height - bottom, width - left, height - bottom, "axis")]
    for b, amount in enumerate(counts.tolist()):
        if amount:
            # At least a hairline: a bin with one item among a million is still there.
            bar = max(tall * amount / highest, 1.5)
            kind = "bar doubt" if (b + 1) / bins <= 0.5 else "bar"
            title = f"{percent(b / bins)} to {percent((b + 1) / bins)}: {count(amount)} {items}"
            body.append(_rect(left + b * step + 0.75, height - bottom - bar, step - 1.5, bar, kind, title))
    for tick in (0, 0.25, 0.5, 0.75, 1):
        anchor = "start" if tick == 0 else "end" if tick == 1 else "middle"
        body.append(_text(left + tick * (width - 2 * left), height - bottom + 20, f"{tick:.0%}", "tick", anchor))
    mean = float(np.mean(confidence))
    x = left + mean * (width - 2 * left)
    body.append(_line(x, top - 6, x, height - bottom, "marker"))
    anchor = "end" if mean > 0.5 else "start"
    body.append(_text(x + (-6 if mean > 0.5 else 6), top - 2, f"mean {percent(mean)}", "value", anchor))
    return svg(width, height, "".join(body), f"Histogram of the confidence of {count(len(confidence))} {items}")


def _counts(confidence: NDArray[np.floating], bins: int) -> NDArray[np.integer]:
    """How many lie in each bin from 0 to 1; a sum of probabilities that rounds to more than 1 is in the last."""
    places = bin_of(np.asarray(confidence, np.float64), bins, "left")
    return np.bincount(np.minimum(places, bins - 1), minlength=bins)


def sparkbars(confidence: NDArray[np.floating]) -> Markup:
    """A group's confidences as a tiny histogram from 0 to 1."""
    width, height, bins = 200.0, 34.0, 20
    counts = _counts(confidence, bins)
    highest, step = max(int(counts.max()), 1), width / bins
    body = [_line(0, height - 0.5, width, height - 0.5, "axis")]
    for b, amount in enumerate(counts.tolist()):
        if amount:
            bar = max((height - 2) * amount / highest, 1.5)
            kind = "bar doubt" if (b + 1) / bins <= 0.5 else "bar"
            body.append(_rect(b * step + 0.5, height - 1 - bar, step - 1, bar, kind))
    return svg(width, height, "".join(body), "Histogram of the confidences in this group, from 0 to 1", "spark")


def curve(epochs: Sequence[int], values: Sequence[float], label: str, unit: str = "epoch {}") -> Markup:
    """One number over the epochs, or over another `unit`; a value that is not finite leaves a gap."""
    width, height, left, right, top, bottom = 260.0, 116.0, 42.0, 8.0, 8.0, 20.0
    # First and last stay; between them every n-th.
    keep = np.unique(np.linspace(0, len(values) - 1, min(len(values), POINTS)).round().astype(int))
    xs, ys = np.asarray(epochs, dtype=float)[keep], np.asarray(values, dtype=float)[keep]
    finite = np.isfinite(ys)
    if not finite.any():
        return svg(width, height, _text(width / 2, height / 2, "no finite value", "tick", "middle"), label)
    low, high = float(ys[finite].min()), float(ys[finite].max())
    pad = (high - low) * 0.06 or max(abs(high), 1e-6) * 0.5
    span = (xs[-1] - xs[0]) or 1.0
    px = left + (xs - xs[0]) / span * (width - left - right)
    py = top + (high + pad - ys) / (high - low + 2 * pad) * (height - top - bottom)
    body = [_line(left, y, width - right, y, "grid") for y in (top, (top + height - bottom) / 2)]
    body.append(_line(left, height - bottom, width - right, height - bottom, "axis"))
    for value in {low, high}:
        y = top + (high + pad - value) / (high - low + 2 * pad) * (height - top - bottom)
        body.append(_text(left - 6, y + 4, number(value), "tick", "end"))
    body.append(_text(left, height - 4, f"{epochs[0]}", "tick"))
    if len(epochs) > 1:
        body.append(_text(width - right, height - 4, unit.format(epochs[-1]), "tick", "end"))
    path, pen_down = [], False
    for x, y, drawn in zip(px, py, finite, strict=True):
        if drawn:
            path.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = bool(drawn)
    body.append(f'<path d="{"".join(path)}" class="curve"/>')
    last = int(np.flatnonzero(finite)[-1])
    body.append(f'<circle cx="{px[last]:.1f}" cy="{py[last]:.1f}" r="3.2" class="dot"/>')
    return svg(width, height, "".join(body), label)


def shades(epochs: Sequence[int], histograms: Sequence[Sequence[int]]) -> Markup:
    """How a histogram from 0 to 1 changes over the epochs: a column for each, the darker, the larger a bin's share."""
    width, height, left, right, top, bottom = 260.0, 116.0, 42.0, 8.0, 8.0, 20.0
    keep = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), 60)).round().astype(int))
    counts = np.asarray([histograms[place] for place in keep], dtype=float)
    # Square roots, so that the rest is seen beside a bin that has nearly all.
    level = np.ceil(10 * np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)))
    wide, tall = (width - left - right) / level.shape[0], (height - top - bottom) / level.shape[1]
    body = [_line(left, height - bottom, width - right, height - bottom, "axis")]
    body += _cells(level, 10, lambda e, b: (left + e * wide, height - bottom - (b + 1) * tall), wide, tall)
    body += [_text(left - 6, top + 8, "1", "tick", "end"), _text(left - 6, height - bottom, "0", "tick", "end")]
    body.append(_text(left, height - 4, f"{epochs[0]}", "tick"))
    if len(epochs) > 1:
        body.append(_text(width - right, height - 4, f"epoch {epochs[-1]}", "tick", "end"))
    return svg(width, height, "".join(body), f"Histogram of confidences over {len(epochs)} epochs")


def reliability_diagram(bins: Sequence[Bin]) -> Markup:
    """How often items of each confidence are right, against the diagonal; their number on top."""
    width, left, right, top, tall, gap, bottom = 460.0, 44.0, 8.0, 8.0, 54.0, 16.0, 40.0
    side = width - left - right
    base, floor = top + tall, top + tall + gap + side * 0.72
    high = floor - base - gap
    height = floor + bottom
    highest = max(max(b["count"] for b in bins), 1)
    body = [_line(left, base, width - right, base, "axis"), _line(left, floor, width - right, floor, "axis")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = left + share * side, floor - share * high
        if share:
            body.append(_line(left, y, width - right, y, "grid"))
        body.append(_text(left - 6, y + 4, f"{share:.0%}", "tick", "end"))
        body.append(_text(x, floor + 17, f"{share:.0%}", "tick", "end" if share == 1 else "middle"))
    for b in bins:
        x, wide = left + b["lower"] * side, (b["upper"] - b["lower"]) * side
        if b["accuracy"] is None or b["confidence"] is None:
            continue
        title = (
            f"confidence {percent(b['lower'])} to {percent(b['upper'])}: {count(b['count'])} items, "
            f"{percent(b['accuracy'])} right, mean confidence {percent(b['confidence'])}"
        )
        bar = max(tall * b["count"] / highest, 1.5)
        body.append(_rect(x + 1, base - bar, wide - 2, bar, "bar quiet", title))
        body.append(_rect(x + 1, floor - b["accuracy"] * high, wide - 2, b["accuracy"] * high, "bar", title))
        upper, lower = max(b["accuracy"], b["confidence"]), min(b["accuracy"], b["confidence"])
        kind = "gap over" if b["confidence"] > b["accuracy"] else "gap under"
        body.append(_rect(x + 1, floor - upper * high, wide - 2, (upper - lower) * high, kind, title))
    body.append(_line(left, floor, width - right, floor - high, "diagonal"))
    body.append(_text(left + side / 2, height - 6, "confidence", "tick", "middle"))
    return svg(width, height, "".join(body), "Reliability diagram: share that is right for each bin of confidence")


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str], clusters: Sequence[int]) -> Markup:
    """Classes down, groups across in the order of their classes; the darker, the larger a share of the class.

    Cells of equal shade share one path, so that 200 by 200 stays small.
    """
    rows, columns = counts.shape
    named, numbered = rows <= 25 and columns <= 25, rows <= 15 and columns <= 15
    left, top = (112.0 if named else 6.0), (24.0 if named else 6.0)
    cell = min(44.0, max(440.0 - left, 320.0) / max(rows, columns))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    levels = np.ceil(shares * 20 - 1e-9).clip(0, 20).astype(int)
    levels[shares < 0.005] = 0
    inset = 0.5 if cell > 6 else 0
    side = cell - 2 * inset
    body = [f'<rect x="{left:g}" y="{top:g}" width="{columns * cell:.1f}" height="{rows * cell:.1f}" class="field"/>']
    body += _cells(levels, 20, lambda r, c: (left + c * cell + inset, top + r * cell + inset), side, side)
    size = min(12.0, cell * 0.72)
    if named:
        for r, name in enumerate(classes):
            label = name if len(name) <= 16 else name[:15] + "…"
            y = top + (r + 0.5) * cell + size * 0.36
            body.append(f'<g style="font-size:{size:.1f}px">{_text(left - 7, y, label, "tick", "end")}</g>')
        for c, cluster in enumerate(clusters):
            x = left + (c + 0.5) * cell
            body.append(f'<g style="font-size:{size:.1f}px">{_text(x, top - 7, cluster, "tick", "middle")}</g>')
    if numbered:
        for r, c in np.argwhere(shares >= 0.005):
            kind = "on" if levels[r, c] >= 14 else "off"
            x, y = left + (c + 0.5) * cell, top + (r + 0.5) * cell + 4
            body.append(_text(x, y, f"{100 * shares[r, c]:.0f}", f"cellnumber {kind}", "middle"))
    label = f"Confusion matrix of {rows} classes and {columns} groups, percent of each class"
    return svg(left + columns * cell + 6, top + rows * cell + 6, "".join(body), label)
