"""JSON and pictures for the scripts: nothing here changes anything."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from coterie.app.exporting import size_of
from coterie.app.listing import MOST
from coterie.app.site import Site
from coterie.app.thumbs import Busy
from coterie.data.shrink import Unreadable
from coterie.evaluation import accept
from coterie.records import rows as row_texts
from coterie.records.group_names import upright
from coterie.report.wording import limit_percent
from coterie.review.queue import tasks, waiting
from coterie.review.sentences import sentence
from coterie.types import InputError

router = APIRouter()
HELD, LOOK = 20.0, 1.0  # seconds that a question for changes waits; after which it looks whether its page is there
Finite = Annotated[float, Query(allow_inf_nan=False)]
HEARD = 45.0  # seconds after which a tab that said nothing is gone


Answer = TypeVar("Answer", bound=Callable[..., Any])


def site_of(request: Request) -> Site:
    """The site that a request is for."""
    found: Site = request.app.state.site
    return found


def steady(answer: Answer) -> Answer:
    """Make an answer of one state: a page that had half of a decision would not hear of the other half."""

    @functools.wraps(answer)
    def made(request: Request, **given: Any) -> Any:
        with site_of(request).review.guard:
            return answer(request, **given)

    return cast(Answer, made)


@router.get("/static/{name}")
def static(request: Request, name: str) -> Response:
    """A file of the page's own: a style sheet or a module."""
    found = site_of(request).file(name)
    if found is None:
        return JSONResponse({"error": "There is no such file."}, 404)
    return Response(found[0], media_type=found[1], headers={"Cache-Control": "no-cache"})


@router.get("/items")
@steady
def items(
    request: Request, group: str = "all", order: str = "surest", offset: int = 0, limit: int = 60, undecided: int = 0
) -> dict[str, Any]:
    """A page of the rows of a group, in the order asked for."""
    site = site_of(request)
    if not 0 <= limit <= MOST or offset < 0:
        raise InputError(f"An answer has at most {MOST} rows.")
    rows = site.listing.rows(_group(site, group), order, undecided=bool(undecided))
    shown = rows[offset : offset + limit]
    return {"total": len(rows), "seq": site.review.last, "items": site.listing.items(shown)}


@router.get("/order")
@steady
def order_of(request: Request, group: str, order: str = "surest", undecided: int = 0) -> Response:
    """All rows of a group in an order, as int32: what a sweep needs before it begins."""
    site = site_of(request)
    rows = site.listing.rows(_group(site, group), order, undecided=bool(undecided))
    return Response(rows.astype("<i4").tobytes(), media_type="application/octet-stream")


@router.get("/some")
@steady
def some(request: Request, rows: str) -> dict[str, Any]:
    """These rows, in the order asked for."""
    site = site_of(request)
    try:
        wanted = np.array([int(part) for part in rows.split(",") if part], np.int64)
    except (ValueError, OverflowError):
        raise InputError(f"{rows[:60]!r} is no list of rows.") from None
    if len(wanted) > MOST or (len(wanted) and not 0 <= wanted.min() <= wanted.max() < site.review.base.n):
        raise InputError(f"An answer has at most {MOST} rows, from 0 to {site.review.base.n - 1}.")
    return {"seq": site.review.last, "items": site.listing.items(wanted)}


@router.get("/queue/next")
@steady
def queue_next(request: Request, count: int = 3, skip: str = "") -> dict[str, Any]:
    """The next items to decide, with the surest members of their likeliest groups and with similar items."""
    site = site_of(request)
    review = site.review
    skipped = row_texts.read(skip, review.base.n).tolist()
    found = tasks(review, min(max(count, 1), 10), skipped)
    answers = []
    for task in found:
        item = site.listing.items(np.array([task.row]))[0]
        examples = {int(g): site.listing.rows(int(g), "surest")[:6].tolist() for g, _ in item["top"]}
        answers.append({"item": item, "examples": examples, "near": site.listing.items(np.array(task.near, np.int64))})
    return {"seq": review.last, "waiting": waiting(review), "tasks": answers}


@router.get("/groups")
@steady
def groups(request: Request) -> dict[str, Any]:
    """All groups with their names, sizes and numbers of decided items."""
    site = site_of(request)
    return {"groups": site.groups(), "totals": site.overview.totals()}


@router.get("/changes")
async def changes(request: Request, after: int, tab: str = "", wait: Finite = HELD) -> dict[str, Any]:
    """The events after one, at once or as soon as there are any."""
    site, now = site_of(request), time.monotonic()
    if tab:
        site.people[tab[:40]] = now
    until = now + min(max(wait, 0.0), HELD)
    # A page that was left waits no more: each would keep one of the server's 40 threads from those that are there.
    while site.review.last <= after and not site.stopping.is_set() and (left := until - time.monotonic()) > 0:
        await run_in_threadpool(site.review.wait, after, min(left, LOOK))
        if await request.is_disconnected():
            break
    now = time.monotonic()
    site.people = {name: heard for name, heard in site.people.items() if now - heard < HEARD}
    return await run_in_threadpool(_news, site, after)


def _news(site: Site, after: int) -> dict[str, Any]:
    with site.review.guard:
        found = [
            {"seq": event.seq, "type": event.type, "by": event.by, "op": event.op, "text": told(site, event.seq)}
            for event, _ in site.review.events[after + 1 : after + 201]
        ]
        totals = site.overview.totals()
    return {"events": found, "totals": totals, "tabs": len(site.people), "broken": len(site.pictures.broken)}


@router.get("/thumb/{row}")
async def thumb(request: Request, row: int) -> Response:
    """A small picture of a row."""
    return await _picture(request, row, large=False)


@router.get("/image/{row}")
async def image(request: Request, row: int) -> Response:
    """A large picture of a row."""
    return await _picture(request, row, large=True)


@router.get("/points")
def points(request: Request) -> Response:
    """The map: for each point row, x, y, group, whether its place is exact, confidence; 20 bytes, little-endian."""
    from coterie.app.places import Places

    site = site_of(request)
    places = Places.of(site)  # the first time takes its time
    kind = np.dtype([("row", "<i4"), ("x", "<f4"), ("y", "<f4"), ("group", "<i2"), ("exact", "<i2"), ("sure", "<f4")])
    found = np.empty(len(places.rows), kind)
    found["row"], found["x"], found["y"] = places.rows, places.xy[:, 0], 1 - places.xy[:, 1]
    found["exact"] = places.exact
    with site.review.guard:
        found["group"] = np.minimum(site.review.state.label[places.rows], 32767)
        found["sure"] = site.review.confidence[places.rows]
    return Response(found.tobytes(), media_type="application/octet-stream")


@router.get("/accept/at")
@steady
def accept_at(request: Request, threshold: Finite) -> dict[str, Any]:
    """What a threshold accepts, group by group: the numbers of `coterie accept`."""
    site = site_of(request)
    review = site.review
    label, confidence = review.state.label, review.confidence
    inside = label >= 0
    chosen = accept.accepted_items(confidence[inside], threshold) & ~review.base.outside[inside]
    shares = accept.by_cluster(label[inside].astype(np.int64), confidence[inside], chosen, review.state.next_group)
    count = int(chosen.sum())
    expected = float((1 - confidence[inside][chosen]).mean()) if count else None
    live = set(review.state.live)
    rows = [{**share, "name": review.state.name(share["cluster"])} for share in shares if share["cluster"] in live]
    return {
        "threshold": threshold,
        "shown": limit_percent(threshold),
        "accepted": count,
        "n": int(inside.sum()),
        "expected_error": expected,
        "groups": rows,
    }


@router.get("/audit/next")
@steady
def audit_next(request: Request) -> dict[str, Any]:
    """The next item of the open audit and its place in the sample; nothing of the result so far."""
    site = site_of(request)
    audit = site.review.open_audit()
    if audit is None:
        return {"audit": None}
    place = audit.next_place
    answer: dict[str, Any] = {"audit": audit.draw.audit, "place": place, "size": len(audit.sample), "item": None}
    answer["voided"] = audit.voided
    if place < len(audit.sample):
        row = int(audit.sample[place])
        shown = int(audit.labels[row])
        answer["item"] = {
            "row": row,
            "id": upright(site.review.base.ids[row]),
            "shown": shown,
            "name": site.review.state.name(shown),
        }
        group = site.review.state.resolve(shown)
        answer["examples"] = site.listing.rows(group, "surest")[:6].tolist()
        answer["ahead"] = audit.sample[place + 1 : place + 4].tolist()
    return answer


@router.get("/export/size")
@steady
def export_size(request: Request, to: str, only: str = "") -> dict[str, int | None]:
    """How many items an export would take, and about how many bytes."""
    return size_of(site_of(request), to, only)


@router.get("/jobs")
def jobs(request: Request) -> dict[str, Any]:
    """The running and the last jobs, with their progress."""
    return {"jobs": [job.shown() for job in site_of(request).jobs.last.values()]}


def told(site: Site, seq: int) -> str:
    """One event in a sentence."""
    return sentence(*site.review.events[seq], site.review.state)


def _group(site: Site, text: str) -> int | None:
    """The group of a query; None for all of them. Raises InputError."""
    if text == "all":
        return None
    try:
        group = int(text)
    except ValueError:
        raise InputError(f"{text[:40]!r} is no group.") from None
    check_known(site, group)
    return group


def check_known(site: Site, group: int) -> None:
    """Raise InputError for a number that no group ever had; -1 is that of the rejected items."""
    if group != -1 and group not in site.review.state.groups:
        raise InputError(f"There is no group {group}.")


async def _picture(request: Request, row: int, *, large: bool) -> Response:
    site = site_of(request)
    if not 0 <= row < site.review.base.n:
        return JSONResponse({"error": "There is no such item."}, 404)
    try:
        content = await (site.thumbs.image(row) if large else site.thumbs.thumb(row))
    except Unreadable as error:
        return JSONResponse({"error": str(error)}, 410)
    except Busy:
        return JSONResponse({"error": "Too many pictures are waiting: try again."}, 503, {"Retry-After": "1"})
    keep = "private, max-age=31536000, immutable" if request.query_params.get("v") == site.version else "no-store"
    return Response(content, media_type="image/webp", headers={"Cache-Control": keep})
