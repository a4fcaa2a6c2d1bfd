"""`result.reviewed.parquet`: every item's group as the review left it. Derived from the log."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.outputs import remove_parts, write_atomically
from coterie.data.fingerprint import file_digest
from coterie.evaluation.recalibration import LEAST, Recalibration, recalibrate
from coterie.records.review import KEY, REVIEWED, ClaimEntry, GroupEntry, LabelsUsed, ReviewEntry, read_review
from coterie.review.audits import Claim, claim_of
from coterie.review.base import Base, read_base
from coterie.review.columns import Columns, columns_of
from coterie.review.events import NOWHERE, Open
from coterie.review.fold import replay
from coterie.review.log import FOLDER, LOG, digest, read_log
from coterie.review.state import SOURCES, Logged, State
from coterie.types import InputError

if TYPE_CHECKING:
    import pyarrow as pa

ALL_UP_TO, TOP = 256, 32  # as in result.parquet: more groups, and only the likeliest are written
EMBEDDING = "embedding.npy"


def stored_features(base: Base) -> NDArray[np.floating] | None:
    """The embedding of all items, where the run kept it or the review has computed it.

    Raises InputError for a file that is damaged or of another run.
    """
    path = base.path / FOLDER / EMBEDDING
    if path.is_file():
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (EOFError, ValueError) as error:
            raise InputError(f"{path} is damaged: remove it, it is computed again.") from error
        if found.ndim != 2 or len(found) != base.n or found.dtype.kind != "f":
            raise InputError(f"{path} has the shape {found.shape}, but the run has {base.n:,} items: remove it.")
        return np.asarray(found) if found.nbytes < 1 << 26 else found
    return base.embedding


def claims(base: Base, state: State, features: NDArray[np.floating] | None) -> dict[int, Claim]:
    """What every ended audit shows, in the order of their numbers."""
    found = {}
    for number, audit in sorted(state.audits.items()):
        if audit.ended is not None:
            then = columns_of(base, state, features, audit.columns).confidence(audit.labels)
            found[number] = claim_of(audit, np.where(base.outside, 0, then), len(state.audits))
    return found


def standing(found: dict[int, Claim]) -> Claim | None:
    """The last claim that is not void."""
    return next((claim for _, claim in sorted(found.items(), reverse=True) if claim.voided is None), None)


def accepted_rows(base: Base, state: State, claim: Claim, features: NDArray[np.floating] | None) -> NDArray[np.bool_]:
    """What a claim accepts, of the items that still have a group (n,); nothing far outside all others."""
    audit = state.audits[claim.number]
    then = columns_of(base, state, features, audit.columns).confidence(audit.labels)
    above = np.zeros(base.n, bool) if claim.threshold is None else then >= claim.threshold
    return above & (audit.labels >= 0) & (state.label >= 0) & ~base.outside


def recalibrated(base: Base, state: State, features: NDArray[np.floating] | None) -> Recalibration | None:
    """The map from the judgements of all ended audits that are not void; None for too few."""
    values, right = [], []
    for audit in state.audits.values():
        if audit.ended is None or audit.voided is not None:
            continue
        counted = audit.counted()
        rows = np.array([row for row, _ in counted], np.int64)
        values.append(columns_of(base, state, features, audit.columns).confidence(audit.labels[rows], rows))
        right.append(np.array([judgement.answer == "right" for _, judgement in counted], bool))
    if sum(map(len, values)) < LEAST:
        return None
    return recalibrate(np.concatenate(values), np.concatenate(right))


def describe(
    base: Base,
    state: State,
    events: Sequence[Logged],
    claim: Claim | None,
    accepted: NDArray[np.bool_] | None,
    not_likeliest: int,
) -> ReviewEntry:
    """What the table says of its review."""
    return ReviewEntry(
        events=len(events) - 1,
        log=digest(events),
        sha256=base.sha256,
        fingerprint=base.fingerprint,
        n=base.n,
        rejected=int((state.label < 0).sum()),
        not_likeliest=not_likeliest,
        groups=_groups(state),
        labels_used=_labels_used(state),
        claim=None if claim is None else _claim(state, claim, accepted),
    )


def _groups(state: State) -> list[GroupEntry]:
    """Every group that there is or was, with its numbers of items."""
    inside = state.label >= 0
    sizes, decided, seen = (
        np.bincount(state.label[chosen], minlength=state.next_group)
        for chosen in (inside, inside & state.decided, inside & state.seen)
    )
    return [
        GroupEntry(
            number=number,
            name=group.name,
            parents=list(group.parents),
            into=group.into,
            size=int(sizes[number]),
            decided=int(decided[number]),
            seen=int(seen[number]),
        )
        for number, group in sorted(state.groups.items())
    ]


def _labels_used(state: State) -> LabelsUsed:
    """What a person's judgements contributed to the table."""
    return LabelsUsed(
        decided=int(state.decided.sum()),
        seen=int(state.seen.sum()),
        inferred=int((state.decided & ~state.seen).sum()),
        judged=sum(len(audit.judged) for audit in state.audits.values()),
        imported=sum(entry["n"] for entry in state.imports),
        files=state.imports,
        refits=len(state.refits),
    )


def _claim(state: State, claim: Claim, accepted: NDArray[np.bool_] | None) -> ClaimEntry:
    """What the audit of a claim shows, and how many items it accepts."""
    return ClaimEntry(
        audit=claim.number,
        max_error=claim.max_error,
        level=claim.level,
        own_level=claim.own_level,
        judged=claim.judged,
        wrong=claim.wrong,
        threshold=claim.threshold,
        accepted=0 if accepted is None else int(accepted.sum()),
        of=len(state.audits[claim.number].frame),
        voided=claim.voided,
    )


def build_table(base: Base, state: State, features: NDArray[np.floating] | None, events: Sequence[Logged]) -> pa.Table:
    """The reviewed table in memory; `events` are all of its log."""
    import pyarrow as pa

    columns = columns_of(base, state, features)
    width = columns.width
    dense, lower = _probabilities(base, columns, state)
    confidence = dense.pop("confidence")
    claim = standing(claims(base, state, features))
    accepted = accepted_rows(base, state, claim, features) if claim is not None else None
    judged = recalibrated(base, state, features)
    nowhere = state.label == NOWHERE
    names = [state.groups[number].name for number in range(width)]
    table: dict[str, Any] = {
        "id": pa.array(base.ids, pa.string()),
        "label": pa.array(state.label),
        "name": pa.array([names[label] if label >= 0 else "" for label in state.label.tolist()], pa.string()),
        "confidence": pa.array(confidence.astype(np.float32), mask=nowhere),
        "source": pa.array([SOURCES[code] for code in state.origin.tolist()], pa.string()),
        "decided": pa.array(state.decided),
        "seen": pa.array(state.seen),
        "accepted": pa.array(accepted) if accepted is not None else pa.nulls(base.n, pa.bool_()),
        "confidence_judged": pa.array(judged.map(confidence).astype(np.float32), mask=nowhere)
        if judged is not None
        else pa.nulls(base.n, pa.float32()),
        "model_label": pa.array(base.labels.astype(np.int32)),
        "model_confidence": pa.array(base.confidence.astype(np.float32)),
        **dense,
    }
    if base.ood_score is not None:
        table["ood_score"] = pa.array(base.ood_score)
    entry = describe(base, state, events, claim, accepted, lower)
    metadata = {
        "coterie.table": "reviewed",
        "coterie.k": str(width),
        "coterie.groups": json.dumps([{"group": g.number, "name": g.name} for g in entry.groups if g.name]),
        KEY.decode(): json.dumps(entry.model_dump(), ensure_ascii=True),
    }
    return pa.table(table).replace_schema_metadata(metadata)


def write_table(base: Base, state: State, features: NDArray[np.floating] | None, events: Sequence[Logged]) -> Path:
    """Write `result.reviewed.parquet` beside the run's result. Raises InputError for a file there of someone else."""
    return _save(base.path, build_table(base, state, features, events))


def table_of_log(run: Path) -> pa.Table:
    """The reviewed table of a run's log, in memory. Raises InputError for a log that cannot be read or does not fit."""
    events, _ = read_log(run / FOLDER / LOG)
    base = read_base(run)
    check_same(base, events)
    return build_table(base, replay(events, base.labels, base.k, base.names), stored_features(base), events)


def _save(run: Path, table: pa.Table) -> Path:
    import pyarrow.parquet as pq

    path = run / REVIEWED
    if os.path.lexists(path):
        read_review(run)  # raises unless it is a table of a review
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    remove_parts(path.parent, path.name)  # of a review that was killed
    write_atomically(path, sink.getvalue())
    return path


def reviewed_table(run: Path) -> Path | None:
    """The run's reviewed table, written again where its log is another since; None for a run without a review.

    For commands that read a review without holding it. Raises InputError for a log that cannot be read, NotWritten
    where the table cannot be written.
    """
    events, _ = read_log(run / FOLDER / LOG)
    if len(events) == 1:
        return None
    there = read_review(run)
    if events:
        before, current = opening(events).sha256, _says(there, events)
    elif there is not None:
        before, current = there.sha256, True
    else:
        return None
    if (run / "result.parquet").is_file():
        _check_unchanged(before, file_digest(run / "result.parquet"))
    if current:
        return run / REVIEWED
    return _save(run, table_of_log(run))


def is_current(run: Path) -> bool:
    """Whether the run has a reviewed table that is of its log as it is now. Raises InputError for a damaged log."""
    events, _ = read_log(run / FOLDER / LOG)
    return _says(read_review(run), events) if events else read_review(run) is not None


def _says(there: ReviewEntry | None, events: Sequence[Logged]) -> bool:
    logs = ("", digest(events))  # "": of a version that did not say which
    return there is not None and there.events == len(events) - 1 and there.log in logs


def opening(events: Sequence[Logged]) -> Open:
    """The first event of a log, which says of what result the review is."""
    content = events[0][1]
    assert isinstance(content, Open)  # `read_log` refuses another
    return content


def check_same(base: Base, events: Sequence[Logged]) -> None:
    """Raise InputError for a log of another result than the run has now."""
    opened = opening(events)
    _check_unchanged(opened.sha256, base.sha256)
    if (opened.n, opened.k) != (base.n, base.k):
        raise InputError(f"The review is of {opened.n:,} items in {opened.k} groups, the run has other numbers.")


def _check_unchanged(before: str, now: str) -> None:
    """Raise InputError where the SHA-256 of `result.parquet` is another than that of a review."""
    if before != now:
        raise InputError(
            f"result.parquet has changed since the review began ({before[:4]}…, now {now[:4]}…): review a copy of the "
            "run that you judged."
        )


def _probabilities(base: Base, columns: Columns, state: State) -> tuple[dict[str, Any], int]:
    """The columns of probabilities, the confidences under "confidence", and how many labels are not the likeliest."""
    import pyarrow as pa

    width, confidence, lower = columns.width, np.empty(base.n), 0
    whole = np.empty((base.n, width if width <= ALL_UP_TO else TOP), np.float32)
    tops = None if width <= ALL_UP_TO else np.empty(whole.shape, np.int32)
    free = ~state.decided & (state.label >= 0)
    for start, p in columns.blocks():
        part = slice(start, start + len(p))
        labels = state.label[part]
        value = p[np.arange(len(p)), np.maximum(labels, 0)]
        confidence[part] = np.minimum(value, 1)
        lower += int(((p.max(axis=1) > value + 1e-6) & free[part]).sum())
        if tops is None:
            whole[part] = p
        else:
            tops[part] = np.argsort(-p, axis=1, kind="stable")[:, :TOP]
            whole[part] = np.take_along_axis(p, tops[part].astype(np.int64), axis=1)

    def lists(matrix: NDArray[Any]) -> Any:
        return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])

    if tops is None:
        return {"confidence": confidence, "probabilities": lists(whole)}, lower
    rest = np.maximum(1 - whole.sum(axis=1), 0)
    found = {"confidence": confidence, "top_labels": lists(tops), "top_probabilities": lists(whole)}
    return found | {"remainder": pa.array(rest.astype(np.float32))}, lower
