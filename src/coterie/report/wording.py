"""Numbers as a person would write them."""

from __future__ import annotations

import math

from coterie.common.words import limit, whole_percent


def percent(share: float | None) -> str:
    """0.934 -> "93.4%"; never rounds a share to 0% or 100% that is not exactly that."""
    if share is None or not math.isfinite(share):
        return "–"
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%".replace("-0.0%", "0.0%").replace("-", "−")


def limit_percent(share: float) -> str:
    """A threshold: 0.934 -> "93.4%", 0.99997 -> "99.997%"."""
    return f"{limit(100 * share, 1, (0.0, 100.0))}%"


def short_percent(share: float | None) -> str:
    """0.934 -> "93%", for captions under small images; never 0% or 100% of a share that is not."""
    if share is None or not math.isfinite(share):
        return "–"
    return whole_percent(share)


def points(difference: float) -> str:
    """A difference of two shares, in percentage points: -0.034 -> "3.4 points"."""
    return f"{100 * abs(difference):.1f} points"


def gap(difference: float) -> str:
    """Mean confidence less accuracy, in words: -0.034 -> "3.4 points too low", 0.0001 -> "as high as it should be"."""
    if abs(difference) < 0.0005:
        return "as high as it should be"
    return f"{points(difference)} too {'high' if difference > 0 else 'low'}"


def count(number: int) -> str:
    return f"{number:,}"


def number(value: float) -> str:
    """Three significant digits: 6.2137 -> "6.21", 0.000213 -> "0.000213", 12345.6 -> "12,346"."""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """75 -> "1 min 15 s", with no line break inside; two units at most."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    units = ((hours, "h"), (minutes, "min"), (rest if not hours else 0, "s"))
    return "\N{NO-BREAK SPACE}".join(f"{amount}\N{NO-BREAK SPACE}{unit}" for amount, unit in units if amount)


def shorten(text: str, length: int) -> str:
    """Keep the end of a long text, where paths differ: "photos/2024/…/img_0012.jpg" -> "…img_0012.jpg"."""
    return text if len(text) <= length else "…" + text[1 - length :]
