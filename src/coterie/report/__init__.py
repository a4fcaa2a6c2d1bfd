"""Stage 9: a run folder becomes one self-contained HTML file that a person wants to look at.

- `page`: `write_report`, the whole page from a folder; `read`: what a run folder holds
- `headline`, `groups`, `quality`, `choice`, `judged`, `reviewed`, `training`: one section of the page each
- `gallery`, `map`: which images and points to show; the pipeline calls these and stores what they pick
- `compare`: several run folders side by side; `compare_page`: a page of their own (`compare.html.j2`)
- `charts`, `scatter`, `wording`: inline SVG, and numbers as text
- `template.html.j2`, `style.css`, `page.js`: the page itself

May not live here: torch, true labels (their numbers come from `metrics.json`), anything that needs the network.
"""

from coterie.report.gallery import GalleryRows, gallery_rows
from coterie.report.map import comparable, map_rows, project
from coterie.report.page import write_report

__all__ = ["GalleryRows", "comparable", "gallery_rows", "map_rows", "project", "write_report"]
