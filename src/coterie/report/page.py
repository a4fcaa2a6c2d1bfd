"""The whole page: from a run folder to `report.html`, one file that loads nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from coterie.common.outputs import remove_parts, write_atomically
from coterie.evaluation import acceptance
from coterie.records import Record
from coterie.records.duplicates import read_duplicates
from coterie.records.group_names import printed
from coterie.records.recalibration import read_recalibration
from coterie.records.rows import outside_of
from coterie.records.run import read_choice
from coterie.report import headline, wording
from coterie.report.charts import histogram
from coterie.report.choice import build_choice
from coterie.report.groups import CARDS, GroupSection, build_groups
from coterie.report.judged import build_judged
from coterie.report.quality import build_quality
from coterie.report.read import ReadRun, read_run
from coterie.report.reviewed import build_review
from coterie.report.scatter import scatter
from coterie.report.training import build_stages
from coterie.types import InputError

# Marks of every page of coterie; the second is also in those of its first version.
MARKS = (b'<meta name="generator" content="coterie">', b'<circle cx="11.5" cy="17.5" r="4" class="c2"/></svg>coterie<')
LISTED = 500  # skipped files written out; the rest are counted


def write_report(run: Path) -> Path:
    """Write `report.html` into the run folder and return its path; a reader never sees half of it.

    Raises InputError where the folder is no run, one of its files cannot be read, or `report.html` is someone else's.
    """
    page = render(read_run(Path(run)))
    remove_parts(Path(run))  # of commands on this run that were killed
    return write_page(Path(run) / "report.html", page)


def write_page(path: Path, page: str) -> Path:
    """Write a whole page or leave the old one. Raises InputError where there is a file that is no page of coterie."""
    if os.path.lexists(path) and not is_page(path):
        raise InputError(f"{path} is there already and coterie did not write it: move it away.")
    write_atomically(path, page)
    return path


def is_page(path: Path) -> bool:
    """Whether a file is a page that coterie wrote."""
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError:
        return False
    return any(mark in content for mark in MARKS)


def render(folder: ReadRun) -> str:
    """The page as text."""
    script = asset("page.js")
    return (
        template_environment()
        .get_template("template.html.j2")
        .render(
            style=Markup(asset("style.css")),
            script=Markup(script),
            # The browser runs this script and no other, whatever an id or a class name contains.
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            **_content(folder),
        )
    )


def _content(folder: ReadRun) -> dict[str, Any]:
    run, source, groups = folder.run, folder.run.get("source") or {}, build_groups(folder)
    skipped = source.get("skipped") or []
    return {
        "name": source.get("name") or folder.path.name,
        "title": headline.title(folder),
        "method": headline.method(run),
        "status": run.get("status") or "",
        "banner": headline.banner(run),
        "used": headline.labels_banner(run),
        "lede": headline.lede(folder),
        "tiles": headline.tiles(folder),
        "kind": folder.kind,
        "histogram": histogram(folder.result.confidence, folder.kind) if folder.result else None,
        "acceptance": _acceptance(folder),
        "outside": int(outside_of(run, len(folder.result.labels)).sum()) if folder.result else 0,
        "found_in": _found_in(folder),
        "quality": build_quality(folder.metrics, folder.kind),
        "map": _map(folder, groups),
        "groups": groups,
        "as_cards": len(groups) <= CARDS,
        "pictures": folder.gallery is not None,
        "pixelated": folder.gallery is not None and max(folder.gallery.images.shape[1:3]) <= 64,
        "judged": build_judged(read_recalibration(folder.path)),
        "twins": read_duplicates(folder.path),
        "choice": build_choice(read_choice(folder.path, run)),
        "review": build_review(folder),
        "stages": build_stages(run, folder.history),
        "skipped": skipped[:LISTED],
        "skipped_total": len(skipped),
        "notes": [*(source.get("notes") or []), *(run.get("notes") or []), *_choices(run)],
        "warnings": run.get("warnings") or [],
        "facts": _facts(run, source),
        "command": run.get("command") or "",
    }


def _acceptance(folder: ReadRun) -> list[Record]:
    """What accepting the surer items gives, of all; and the errors found among those whose label is known.

    Rows far outside all others are accepted at no threshold, as by `coterie accept`.
    """
    measured = {row["threshold"]: row["error"] for row in (folder.metrics or {}).get("acceptance") or []}
    if folder.result is None or not (measured or folder.calibrated):
        return []
    outside = outside_of(folder.run, len(folder.result.confidence))
    rows = acceptance(folder.result.confidence, far=outside)
    return [{**row, "error": measured.get(row["threshold"])} for row in rows]


def _found_in(folder: ReadRun) -> str:
    """Of how many items the errors are that were found; "" for all of them."""
    known = (folder.metrics or {}).get("n") or 0
    return f" of {wording.count(known)} labelled" if folder.result and known < len(folder.result.labels) else ""


def _map(folder: ReadRun, groups: list[GroupSection]) -> Markup | None:
    if folder.map is None or folder.result is None or len(folder.map[0]) == 0:
        return None
    rows, places = folder.map
    shown = {group.number: group.surest[0].picture for group in groups if group.surest and group.surest[0].picture}
    pictures = shown if len(groups) <= CARDS else {}
    return scatter(places, folder.result.labels[rows], folder.result.confidence[rows], pictures)


def _choices(run: Record) -> list[str]:
    """What coterie chose by itself and why."""
    found = []
    for key, chosen in (("backbone", "name"), ("precision", "value")):
        choice = run.get(key) or {}
        if isinstance(choice, dict) and choice.get("why"):
            found.append(f"{key.capitalize()} {choice.get(chosen)}: {choice['why']}")
    return found


def _facts(run: Record, source: Record) -> list[tuple[str, str]]:
    """Enough to judge the numbers and to run again."""
    spec = source.get("spec") or {}
    form = f"{spec.get('width')}×{spec.get('height')} pixels, {spec.get('channels')} channel(s)"
    if spec.get("kind") == "embeddings":
        form = f"{spec.get('dim')} dimensions"
    precision = run.get("precision")
    encoding = spec.get("encoding") or {}
    said = f"{encoding.get('encoder')}, {encoding.get('licence')}, taught by {encoding.get('taught')}"
    facts = {
        "data": source.get("origin"),
        "encoder": f"{said}, {encoding.get('weights', '')[:12]}" if encoding else None,
        "form": form if spec else None,
        "fingerprint": source.get("fingerprint"),
        "seed": run.get("seed"),
        "time after the embedding" if encoding else "time": wording.duration(run["seconds"])
        if "seconds" in run
        else None,
        "device": run.get("device"),
        "precision": precision.get("value") if isinstance(precision, dict) else precision,
        "backbone": (run.get("backbone") or {}).get("name"),
        "versions": _pairs(run.get("versions")),
        "machine": _pairs(run.get("machine")),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _pairs(mapping: object) -> str:
    return ", ".join(f"{key} {value}" for key, value in mapping.items()) if isinstance(mapping, dict) else ""


@functools.cache  # a template is compiled once for all pages of a process
def template_environment() -> Environment:
    """Templates with this folder's assets and the wording of numbers."""
    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=printed,
    )
    environment.filters |= {
        "percent": wording.percent,
        "short_percent": wording.short_percent,
        "count": wording.count,
    }
    return environment


def asset(name: str) -> str:
    """A file that lies beside this one."""
    return (resources.files("coterie.report") / name).read_text(encoding="utf-8")
