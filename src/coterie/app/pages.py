"""The screens, as HTML that can be read without scripts."""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from coterie.app.answers import check_known, site_of, steady
from coterie.app.exporting import formats, space_left
from coterie.app.listing import ORDERS
from coterie.app.overview import SORTS
from coterie.common.words import counted
from coterie.records.recalibration import read_recalibration
from coterie.report.judged import how_far_off
from coterie.review.audits import own_level, plan
from coterie.review.checks import check_group
from coterie.review.queue import waiting
from coterie.review.sentences import sentence
from coterie.review.table import accepted_rows, recalibrated, standing
from coterie.types import InputError

router = APIRouter(default_response_class=HTMLResponse)
LATEST = 500  # events on a page of the history


@router.get("/")
@steady
def overview(request: Request, sort: str = "least-sure", page: int = 0) -> str:
    """All groups with a few pictures each: least sure first, by number or by size."""
    site = site_of(request)
    sort = sort if sort in SORTS else "least-sure"
    found = site.overview.page(sort, page)
    shown = {row for card in found.cards for row in (*card.surest, *card.doubtful)}
    ids = {row: site.review.base.ids[row] for row in shown}
    return site.page(
        "overview",
        page=found,
        sort=sort,
        sorts=SORTS,
        hints=site.overview.hints(),
        changed=site.pictures.changed,
        ids=ids,
        confidence=site.review.confidence,
    )


@router.get("/g/{group}")
@steady
def group(request: Request, group: int, order: str = "surest") -> str:
    """One group's pictures in an order, for looking through and for the sweep."""
    site = site_of(request)
    check_known(site, group)
    order = order if order in ORDERS else "surest"
    rows = site.listing.rows(group, order)
    state = site.review.state
    return site.page(
        "group",
        group=group,
        title=state.name(group).capitalize() if group < 0 or not state.groups[group].name else state.name(group),
        into=None if group < 0 or state.groups[group].into is None else state.resolve(group),
        order=order,
        orders=ORDERS,
        size=len(rows),
        open=int((~state.decided[rows]).sum()),
        items=site.listing.items(rows[:60]),
    )


@router.get("/queue")
@steady
def queue(request: Request) -> str:
    """The doubtful items one after the other."""
    site = site_of(request)
    return site.page("queue", waiting=waiting(site.review))


@router.get("/compare/{a}/{b}")
@steady
def compare(request: Request, a: int, b: int) -> str:
    """Two groups side by side, and whether they are each other's second choice."""
    from coterie.app.comparing import compared

    site = site_of(request)
    for number in (a, b):
        check_group(site.review.state, number)
    if a == b:
        raise InputError("Two different groups are compared.")
    return site.page("compare", a=a, b=b, found=compared(site, a, b))


@router.get("/split/{group}")
@steady
def split(request: Request, group: int) -> str:
    """A proposal of two or more parts of a group."""
    site = site_of(request)
    check_group(site.review.state, group)
    return site.page("split", group=group, size=len(site.review.state.members(group)))


@router.get("/map")
def map_page(request: Request) -> str:
    """All items by their place, for the lasso."""
    site = site_of(request)
    from coterie.app.places import Places

    mapped = Places.of(site).summary()  # takes its time, and nothing of the state
    with site.review.guard:
        return site.page("map", mapped=mapped)


@router.get("/accept")
@steady
def accept_page(request: Request) -> str:
    """How many items can be taken as they are, by the error that may remain."""
    site = site_of(request)
    review = site.review
    found = review.claims()
    claim = standing(found)
    outside = review.base.outside
    values = np.sort(review.confidence[(review.state.label >= 0) & ~outside])[::-1]
    marks = np.unique(values[-(-np.arange(1, 21) * len(values) // 20) - 1])[::-1].tolist() if len(values) else []
    accepted = int(accepted_rows(review.base, review.state, claim, review.features).sum()) if claim else 0
    frame = len(review.state.audits[claim.number].frame) if claim else 0
    calibrated = review.base.folder.calibrated
    off = how_far_off(read_recalibration(review.path))
    return site.page(
        "accept",
        marks=marks,
        claim=claim,
        claims=found,
        accepted=accepted,
        frame=frame,
        calibrated=calibrated,
        off=off,
        far=counted(int(outside.sum()), "row") if outside.any() else None,
    )


@router.get("/audit")
@steady
def audit(request: Request) -> str:
    """The audit that is on, an item at a time and without a score, or the claims of those that have ended."""
    site = site_of(request)
    review = site.review
    items = np.where(review.base.outside, 0, review.confidence)[review.state.label >= 0]
    level = own_level(0.95, len(review.state.audits) + 1)
    proposals = [
        {"error": error, "size": size, **plan(items, size, error, level)}
        for error in (0.05, 0.10)
        for size in sorted({min(size, len(items)) for size in (150, 300)} - {0})
    ]
    found = review.claims()
    return site.page(
        "audit",
        open_audit=review.open_audit(),
        proposals=proposals,
        claims=dict(sorted(found.items(), reverse=True)),
        drawn=len(review.state.audits),
        map=recalibrated(review.base, review.state, review.features),
        accepted={n: int(accepted_rows(review.base, review.state, c, review.features).sum()) for n, c in found.items()},
        frames={n: len(review.state.audits[n].frame) for n in found},
        most=len(items),
    )


@router.get("/history")
@steady
def history(request: Request, before: int | None = None) -> str:
    """Every decision, newest first, each with its way back; 500 on a page, or the 500 before an event."""
    site = site_of(request)
    review = site.review
    last = len(review.events) if before is None else min(max(before, 1), len(review.events))
    first = max(0, last - LATEST)
    entries = [
        {
            "seq": event.seq,
            "at": event.at,
            "by": event.by,
            "type": event.type,
            "text": sentence(event, content, review.state),
            "undone": event.seq in review.state.undone,
        }
        for event, content in reversed(review.events[first:last])
    ]
    return site.page("history", entries=entries, first=first, last=last, latest=LATEST, all=len(review.events))


@router.get("/export")
@steady
def export(request: Request) -> str:
    """The formats, and the room on the disk."""
    site = site_of(request)
    return site.page("export", formats=formats(), space=space_left(site.review.path), default=site.review.path.parent)
