"""What the routes share: the review, its pictures, and the templates."""

from __future__ import annotations

import hashlib
import threading
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from coterie.app.jobs import Jobs
from coterie.app.listing import Listing
from coterie.app.overview import Overview
from coterie.app.pictures import open_pictures
from coterie.app.thumbs import Store, Thumbs
from coterie.common.words import counted
from coterie.records.group_names import printed
from coterie.records.recalibration import kept_beside
from coterie.report import wording
from coterie.review import Review
from coterie.review.log import FOLDER
from coterie.review.refitting import Proposal

if TYPE_CHECKING:
    from coterie.app.places import Places

MEDIA = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class Site:
    """One review as a web site. `token` is the part of the address that nobody can guess."""

    def __init__(self, review: Review, token: str) -> None:
        self.review, self.base_path = review, f"/t/{token}"
        self.pictures = open_pictures(review.base, review.source)
        # Pictures that were made of the files of another place, or of those before, are not shown for these.
        made_of = f"{review.base.sha256}\0{self.pictures.where}\0{self.pictures.changed}"
        self.version = hashlib.sha256(made_of.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.thumbs = Thumbs(self.pictures, Store(review.path / FOLDER / "thumbs.sqlite", self.version))
        self.listing, self.overview, self.jobs = Listing(review), Overview(review), Jobs()
        self.proposal: tuple[int, Proposal] | None = None  # of the last refit, and the last event that it knew
        self.places: dict[bool, Places] = {}  # by whether the embedding was there
        self.stopping = threading.Event()
        self.people: dict[str, float] = {}  # when each tab was last heard of
        self.environment = Environment(
            loader=PackageLoader("coterie.app"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
            finalize=printed,
        )
        self.environment.filters |= {
            "percent": wording.percent,
            "short_percent": wording.short_percent,
            "limit_percent": wording.limit_percent,
            "count": wording.count,
            "counted": counted,
            "shorten": wording.shorten,
        }

    def page(self, name: str, **content: Any) -> str:
        """The HTML of a page."""
        source = self.review.base.folder.run.get("source") or {}
        shared = {
            "base": self.base_path,
            "review": self.review.events[0][0].op,  # of no other review
            "screen": name,
            "run": str(source.get("name") or self.review.path.name),
            "kind": self.review.base.folder.kind,
            "pictures": self.pictures.there,
            "version": self.version,
            "totals": self.overview.totals(),
            "beside": kept_beside(self.review.path),
            "groups": self.groups(),
            "has_features": self.review.features is not None,
            "name_of": self.review.state.name,
        }
        return self.environment.get_template(f"{name}.html.j2").render(**shared, **content)

    def groups(self) -> list[dict[str, Any]]:
        """The live groups for scripts and menus."""
        sizes = self.overview.sizes()
        state = self.review.state
        return [{"number": g, "name": state.groups[g].name, "size": int(sizes[g])} for g in state.live]

    def file(self, name: str) -> tuple[bytes, str] | None:
        """A file of `static/`, or the report's style sheet, and its media type."""
        folder, end = ("coterie.report", "css") if name == "report.css" else ("coterie.app", name.rpartition(".")[2])
        if end not in MEDIA or "/" in name or name.startswith("."):
            return None
        place = resources.files(folder)
        place = place / "style.css" if name == "report.css" else place / "static" / name
        return (place.read_bytes(), MEDIA[end]) if place.is_file() else None

    def close(self) -> None:
        self.stopping.set()
        self.thumbs.close()
