"""What changes the review: decisions, undo, redo, jobs. Each has a number of the sender's, so it may be sent again."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from coterie.app.answers import site_of, told
from coterie.app.exporting import exporting
from coterie.app.jobs import JobBody, Report
from coterie.app.site import Site
from coterie.common.words import apart
from coterie.records import rows as row_texts
from coterie.report.wording import percent
from coterie.review.events import AUDITS, Undo
from coterie.review.fold import dependents
from coterie.review.refitting import propose_refit
from coterie.review.sentences import sentence
from coterie.types import InputError

router = APIRouter()


class Sent(BaseModel):
    """A decision as a tab sends it."""

    model_config = ConfigDict(extra="forbid")

    op: str = Field(min_length=8, max_length=64)
    after: int = Field(ge=0)
    type: str
    data: dict[str, Any]


class Back(BaseModel):
    """What is to be undone: the last decision, one event, all after one, or everything."""

    model_config = ConfigDict(extra="forbid")

    op: str = Field(min_length=8, max_length=64)
    after: int = Field(ge=0)
    what: str = "last"  # "last", "redo", "all" or "from"
    event: int = Field(0, ge=0)
    dependents: bool = False


class Taken(BaseModel):
    """The request to take what a job proposed."""

    model_config = ConfigDict(extra="forbid")

    op: str = Field(min_length=8, max_length=64)
    after: int = Field(ge=0)


class Preview(BaseModel):
    """The request for a preview of parts of a group."""

    model_config = ConfigDict(extra="forbid")

    k: int
    seed: int = 0


class Work(BaseModel):
    """The request to start a job."""

    model_config = ConfigDict(extra="forbid")

    settings: dict[str, Any] = {}


@router.post("/events")
def events(request: Request, sent: Sent) -> dict[str, Any]:
    """One decision. 409: others changed the same meanwhile, nothing was written."""
    site = site_of(request)
    if sent.type in ("open", "undo", "refit"):
        raise InputError(f"An event {sent.type} is not sent like this.")
    event = site.review.submit(sent.type, _with_rows(sent.data), op=sent.op, after=sent.after, sender=_tab(sent.op))
    return _done(site, event.seq)


@router.post("/undo")
def undo(request: Request, sent: Back) -> dict[str, Any]:
    """Undo or redo. Decisions that depend on the undone one are listed first, and undone with it if that is wanted."""
    site, review = site_of(request), site_of(request).review
    if (known := _known(site, sent.op)) is not None:
        return _done(site, known)
    if sent.what == "last":
        target = review.last_decision()
        targets = set() if target is None else {target}
    elif sent.what == "redo":
        target = review.last_undo()
        targets = set() if target is None else {target}
    elif sent.what in ("all", "from"):
        first = 1 if sent.what == "all" else sent.event + 1
        targets = {
            event.seq
            for event, _ in review.events[first:]
            if event.seq not in review.state.undone and event.type not in ("undo", *AUDITS)
        }
    else:
        targets = {sent.event}
    if not targets:
        raise InputError(f"There is nothing to {'redo' if sent.what == 'redo' else 'undo'}.")
    if sent.dependents or sent.what in ("all", "from"):
        targets |= dependents(review.events, targets, review.state.undone)
    texts = [told(site, seq) for seq in sorted(targets) if 0 < seq <= review.last]
    event = review.submit("undo", {"targets": sorted(targets)}, op=sent.op, after=sent.after, sender=_tab(sent.op))
    if sent.what == "redo":
        undone = review.events[min(targets)][1]
        assert isinstance(undone, Undo)
        text = "Done again: " + " ".join(told(site, seq) for seq in undone.targets[:3])
    else:
        text = "Undone: " + (texts[-1] if len(texts) == 1 else f"{len(texts)} decisions.")
    return _done(site, event.seq) | {"text": text}


@router.post("/refit")
def refit(request: Request, sent: Taken) -> dict[str, Any]:
    """Take the labels that the last job `refit` proposed."""
    site = site_of(request)
    if (known := _known(site, sent.op)) is not None:
        return _done(site, known)
    if site.proposal is None:
        raise InputError("There is nothing to take: train the head again first.")
    seen, found = site.proposal
    if not found.better:
        raise InputError("The new head predicts the decided items no better, so its labels are not taken.")
    # What was decided since the head was trained conflicts with it, whoever decided it.
    event = site.review.submit("refit", found.event(), op=sent.op, after=min(seen, sent.after))
    site.proposal = None
    return _done(site, event.seq)


@router.post("/split/{group}/preview")
def preview(request: Request, group: int, sent: Preview) -> dict[str, Any]:
    """The parts of a group by K-means, with their surest and some further members."""
    site = site_of(request)
    seq = site.review.last  # before the parts are found: what is decided meanwhile is not in them
    parts, silhouette = site.review.propose_split(group, sent.k, sent.seed)
    shown = []
    with site.review.guard:  # others may have split a group meanwhile
        for part in parts:
            rows = row_texts.read(part["rows"], site.review.base.n)
            order = rows[(-site.review.confidence[rows]).argsort(kind="stable")]
            step = max(1, len(order) // 24)
            shown.append({"rows": part["rows"], "size": len(rows), "items": site.listing.items(order[::step][:24])})
        return {"seq": seq, "silhouette": round(silhouette, 3), "parts": shown}


@router.post("/jobs/{name}")
def start(request: Request, name: str, sent: Work) -> dict[str, Any]:
    """Begin a job: features, refit or export."""
    site = site_of(request)
    tasks = {"features": _features, "export": exporting, "refit": _refit}
    if name not in tasks:
        raise InputError(f"There is no job {name[:40]!r}: there are {', '.join(tasks)}.")
    job = site.jobs.start(name, tasks[name](site, sent.settings))
    if job is None:
        raise InputError("Another job is running: wait until it has ended.")
    return job.shown()


def _features(site: Site, settings: dict[str, Any]) -> JobBody:
    def task(report: Report) -> tuple[str, Any]:
        total = site.review.base.n
        site.review.compute_features(lambda done: report(done, total))
        return f"The embedding of {total:,} items is here.", None

    return task


def _refit(site: Site, settings: dict[str, Any]) -> JobBody:
    def task(report: Report) -> tuple[str, Any]:
        seen = site.review.last  # before the training: what is decided meanwhile is not in it
        found = propose_refit(site.review)
        state = site.review.state
        moves = Counter(zip(state.label[found.rows].tolist(), found.labels.tolist(), strict=True))
        told = [f"{n:,} from {apart(state.name(a))} to {apart(state.name(b))}" for (a, b), n in moves.most_common(12)]
        site.proposal = (seen, found)
        shares = (
            f"{percent(found.held_out)} of the decided items, each without itself; as they were {percent(found.before)}"
        )
        return f"The new head predicts {shares}.", {
            "changes": len(found.rows),
            "better": found.better,
            "moves": told,
            "rows": found.rows[:24].tolist(),
        }

    return task


def _with_rows(data: dict[str, Any]) -> dict[str, Any]:
    """The content of an event with its rows as the log has them: a page sends very many of them as bits."""
    found = {
        name: row_texts.unpacked(value) if name in ("rows", "seen") and isinstance(value, str) else value
        for name, value in data.items()
    }
    if isinstance(parts := data.get("parts"), list):
        found["parts"] = [_with_rows(part) if isinstance(part, dict) else part for part in parts]
    return found


def _tab(op: str) -> str:
    """The prefix of the operation ids of one browser tab."""
    return op.rpartition("-")[0] + "-" if "-" in op else op


def _known(site: Site, op: str) -> int | None:
    """The event that was taken under this number already, where its answer was lost and it is sent again."""
    return next((event.seq for event, _ in site.review.events if event.op == op), None)


def _done(site: Site, seq: int) -> dict[str, Any]:
    event, content = site.review.events[seq]
    answer: dict[str, Any] = {"seq": seq, "last": site.review.last, "text": sentence(event, content, site.review.state)}
    if event.type == "split":
        answer["made"] = [part["group"] for part in event.data["parts"]]
    return answer | {"totals": site.overview.totals()}
