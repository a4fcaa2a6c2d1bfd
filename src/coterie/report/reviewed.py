"""The section "Review": what people decided about the run, and how much of it they saw. The run's own numbers stay."""

from __future__ import annotations

from dataclasses import dataclass

from coterie.common.words import counted
from coterie.records.review import ClaimEntry, ReviewEntry, read_review
from coterie.report.headline import Tile
from coterie.report.read import ReadRun
from coterie.report.wording import count, percent


@dataclass(frozen=True)
class ReviewedGroup:
    """A group as the review left it. `change` says where it came from or went, "" for one that stayed."""

    number: int
    name: str
    size: int
    decided: int
    seen: int
    change: str


@dataclass(frozen=True)
class ReviewSection:
    """What the section says."""

    tiles: list[Tile]
    sentences: list[str]
    groups: list[ReviewedGroup]


def build_review(folder: ReadRun) -> ReviewSection | None:
    """The section; None for a run without a review. Raises InputError for a table that is damaged."""
    entry = read_review(folder.path)
    if entry is None or entry.events == 0:
        return None
    used = entry.labels_used
    tiles = [
        Tile(percent(used.decided / entry.n), "decided", f"{count(used.decided)} of {count(entry.n)} {folder.kind}"),
        Tile(count(used.seen), "looked at", "one by one or in a view"),
        Tile(count(used.inferred), "inferred", "decided with what was looked at", "doubt" if used.inferred else ""),
        Tile(count(entry.rejected), "in no group", "rejected by a person"),
    ]
    return ReviewSection(tiles, _sentences(entry, folder.kind), [_group(entry, g.number) for g in entry.groups])


def _sentences(entry: ReviewEntry, kind: str) -> list[str]:
    found = []
    if entry.claim is not None:
        found.append(claim_sentence(entry.claim))
    else:
        found.append("No audit stands behind these labels, so nobody knows how many of them are wrong.")
    if entry.labels_used.imported:
        found.append(f"{counted(entry.labels_used.imported, 'label was', 'labels were')} imported.")
    if entry.labels_used.refits:
        found.append(f"The head was trained again {counted(entry.labels_used.refits, 'time')} on what was decided.")
    if entry.not_likeliest:
        found.append(
            f"Merges made another group the likelier one for {count(entry.not_likeliest)} {kind} that nobody decided; "
            "the review moves nobody."
        )
    found.append("All other numbers on this page are those of the model, before the review.")
    return found


def claim_sentence(claim: ClaimEntry) -> str:
    """The claim that the last audit supports."""
    if claim.voided:
        return f"The claim of audit {claim.audit} does not hold any more: {claim.voided}."
    if claim.threshold is None:
        return f"Audit {claim.audit} accepted nothing: {claim.wrong} of {claim.judged} judged items were wrong."
    return (
        f"{count(claim.accepted)} of {count(claim.of)} accepted; at most {percent(claim.max_error)} of them wrong, "
        f"with {percent(claim.level)} confidence (audit {claim.audit}, {claim.judged} judged)."
    )


def _group(entry: ReviewEntry, number: int) -> ReviewedGroup:
    group = next(one for one in entry.groups if one.number == number)
    change = f"went into {group.into}" if group.into is not None else ""
    if group.parents and group.into is None:
        change = f"split from {', '.join(map(str, group.parents))}"
    return ReviewedGroup(number, group.name, group.size, group.decided, group.seen, change)
