"""The map of the embedding as inline SVG: colour is the group, faint is doubtful."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from coterie.common.words import counted
from coterie.evaluation.calibration_errors import ROUNDED
from coterie.report.charts import svg

COLOURS = 12  # group colours of the style sheet; more groups use them again, told apart by their numbers
LEVELS = (0.5, 0.9)  # confidences at which a dot becomes bolder
WIDTH, HEIGHT, MARGIN = 960.0, 600.0, 34.0
POINTS = 5000
RADIUS = 50.0  # within which dots make a place dense


def scatter(
    places: NDArray[np.floating],
    labels: NDArray[np.integer],
    confidence: NDArray[np.floating],
    pictures: Mapping[int, str],
) -> Markup:
    """Draw rows at `places` (m, 2), at most 5,000, and at the middle of each group its number or its surest picture.

    All dots of one group and boldness are one path of round, empty strokes: a tenth of the size of as many circles.
    """
    if len(places) > POINTS:
        keep = np.sort(np.random.default_rng(0).choice(len(places), POINTS, replace=False))
        places, labels, confidence = places[keep], labels[keep], confidence[keep]
    xy = _fit(places)
    boldness = np.digitize(confidence, np.array(LEVELS) - ROUNDED)
    dense = len(xy) > 2500
    body = []
    groups = np.unique(labels)
    # Doubtful dots lie below sure ones.
    for level in range(len(LEVELS) + 1):
        for group in groups:
            points = xy[(labels == group) & (boldness == level)]
            if len(points):
                path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in points)
                body.append(f'<path d="{path}" class="dots b{level} c{group % COLOURS}" data-group="{group}"/>')
    middles = np.array([_densest(xy[labels == group]) for group in groups])
    size = 44.0 if pictures else 19.0 if len(groups) <= 60 else 15.0
    middles = _apart(middles, size * 1.12)
    for group, (x, y) in zip(groups.tolist(), middles, strict=True):
        body.append(_badge(group, x, y, size, pictures.get(group)))
    label = f"Map of {len(xy)} items in {counted(len(groups), 'group')}; near items have similar embeddings"
    return svg(WIDTH, HEIGHT, "".join(body), label, "chart map dense" if dense else "chart map")


def _badge(group: int, x: float, y: float, size: float, picture: str | None) -> str:
    """A group's mark: its picture in a frame of its colour, its number in a disc beside it."""
    colour, half = f"c{group % COLOURS}", size / 2
    disc, font = (9.5, 11.5) if picture else (half * 0.95, size * 0.56)
    parts = [f'<g class="badge" data-group="{group}" transform="translate({x:.1f} {y:.1f})">']
    if picture:
        frame = f'x="{-half:g}" y="{-half:g}" width="{size:g}" height="{size:g}"'
        smooth = "" if picture.startswith("data:image/jpeg") else ' class="pixels"'
        parts.append(f'<image {frame} href="{picture}" preserveAspectRatio="xMidYMid slice"{smooth}/>')
        parts.append(f'<rect {frame} rx="3" class="frame {colour}"/>')
    at = half - 1 if picture else 0
    parts.append(f'<circle cx="{at:g}" cy="{at:g}" r="{disc:g}" class="disc {colour}"/>')
    y = at + font * 0.36
    parts.append(f'<text x="{at:g}" y="{y:.1f}" text-anchor="middle" style="font-size:{font:.1f}px">{group}</text>')
    return "".join(parts) + "</g>"


def _fit(places: NDArray[np.floating]) -> NDArray[np.float64]:
    """Stretch to the drawing; the axes of a map have no meaning, so each is stretched on its own."""
    places = np.asarray(places, dtype=np.float64)
    low, span = places.min(axis=0), np.ptp(places, axis=0)
    unit = np.where(span > 0, (places - low) / np.where(span > 0, span, 1), 0.5)
    return MARGIN + unit * (np.array([WIDTH, HEIGHT]) - 2 * MARGIN)


def _densest(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where most of a group lies: a mean or median may fall between its parts, among other groups."""
    sample = points[:: max(1, len(points) // 400)]
    near = ((sample[:, None] - sample[None]) ** 2).sum(axis=2) < RADIUS**2
    return np.asarray(sample[near[near.sum(axis=1).argmax()]].mean(axis=0))


def _apart(middles: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Push marks that overlap away from each other, a few rounds; what then still overlaps stays so."""
    middles = middles.copy()
    for _ in range(60):
        difference = middles[:, None] - middles[None]
        length = np.sqrt((difference**2).sum(axis=2))
        # Marks at the very same place go apart sideways, in the order of their groups.
        same = (length < 1e-9) & ~np.eye(len(middles), dtype=bool)
        difference[same, 0] = np.sign(np.subtract.outer(np.arange(len(middles)), np.arange(len(middles))))[same]
        overlap = np.where(length < distance, (distance - length) / 2, 0)
        np.fill_diagonal(overlap, 0)
        push = (difference / np.maximum(length, 1)[..., None] * overlap[..., None]).sum(axis=1)
        middles = (middles + 0.5 * push).clip(MARGIN * 0.7, np.array([WIDTH, HEIGHT]) - MARGIN * 0.7)
    return middles
