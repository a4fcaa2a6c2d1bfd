"""The events of the decisions log, one JSON object a line: what each holds, and its check when it is read back."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from coterie.records import rows as row_texts
from coterie.records.group_names import checked_name
from coterie.types import InputError

FORMAT = 1
NOWHERE = -1  # the label of an item that belongs to no group


def _rows(text: str) -> str:
    row_texts.count(text)
    return text


Rows = Annotated[str, AfterValidator(_rows)]
Group = Annotated[int, Field(ge=0, le=2_000_000)]
GroupOrNowhere = Annotated[int, Field(ge=NOWHERE, le=2_000_000)]
Row = Annotated[int, Field(ge=0, lt=10**12)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Told = Annotated[str, Field(max_length=80)] | Annotated[int, Field(ge=0, lt=1 << 63)]
# Looked at one by one or in a view; a region of the map; a range of which not all was looked at; a whole group.
How = Literal["single", "several", "lasso", "range", "group"]


class Data(BaseModel):
    """The content of an event; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Open(Data):
    """Which result the log is about."""

    format: Literal[1]
    sha256: Digest  # of result.parquet
    fingerprint: str | None
    n: Annotated[int, Field(ge=1)]
    k: Annotated[int, Field(ge=1)]


class Rename(Data):
    """Call a group by a name; an empty one takes the name away."""

    group: Group
    name: Annotated[str, AfterValidator(lambda name: checked_name(name) if name else name)]


class Merge(Data):
    """Members of `groups` at this point go to `into`; `groups` retire."""

    into: Group
    groups: Annotated[list[Group], Field(min_length=1, alias="from")]

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Part(Data):
    """A new group of a split, and its members."""

    group: Group
    rows: Rows


class Split(Data):
    """These members get new groups; what is not listed stays."""

    group: Group
    parts: Annotated[list[Part], Field(min_length=1)]
    how: Annotated[dict[Annotated[str, Field(max_length=40)], Told], Field(max_length=20)] = {}


class Move(Data):
    """A person puts these rows into the group `to`."""

    rows: Rows
    to: Group
    how: How = "several"


class Reject(Data):
    """The rows belong to none of the groups."""

    rows: Rows
    to: Literal[-1] = -1
    how: How = "several"


class Approve(Data):
    """The rows belong to `group`; those `seen` were looked at, the others inferred."""

    group: Group
    rows: Rows
    seen: Rows = ""


class Link(Data):
    """Whether two items, or all of two groups (`groups`), belong together."""

    a: Row
    b: Row
    same: bool
    groups: bool = False


class Draw(Data):
    """Fix an audit's sample, error and level before anything of it is judged."""

    audit: Annotated[int, Field(ge=1)]
    size: Annotated[int, Field(ge=1)]
    seed: Seed
    # Beyond these no number of judgements shows anything, and several audits divide what is left of the level.
    max_error: Annotated[float, Field(ge=1e-6, lt=1)]
    level: Annotated[float, Field(ge=0.5, le=1 - 1e-9)]


class Judge(Data):
    """Whether a drawn item is where it belongs: a judgement, no label until the audit has ended."""

    audit: Annotated[int, Field(ge=1)]
    row: Row
    shown: GroupOrNowhere
    answer: Literal["right", "wrong", "unsure"]
    belongs: GroupOrNowhere | None = None


class End(Data):
    """The audit is over; its result may be seen from here on."""

    audit: Annotated[int, Field(ge=1)]


class Refit(Data):
    """Labels that a head trained on the decided items gives the others."""

    sha256: Digest
    settings: dict[str, Any]
    rows: Rows
    labels: list[Group]


class Import(Data):
    """Labels that people gave elsewhere."""

    sha256: Digest
    kind: Annotated[str, Field(max_length=80)]
    rows: Rows
    labels: list[GroupOrNowhere]


class Undo(Data):
    """The targets count as if they had never happened; redo is the undo of an undo."""

    targets: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]


KINDS: dict[str, type[Data]] = {
    "open": Open,
    "rename": Rename,
    "merge": Merge,
    "split": Split,
    "move": Move,
    "reject": Reject,
    "approve": Approve,
    "link": Link,
    "draw": Draw,
    "judge": Judge,
    "end": End,
    "refit": Refit,
    "import": Import,
    "undo": Undo,
}
AUDITS = ("draw", "judge", "end")


class Event(BaseModel):
    """A line of the log. `op`: the client's id of it, which tells a retry; `after`: the last event it had seen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    v: Literal[1] = 1
    seq: Annotated[int, Field(ge=0)]
    op: Annotated[str, Field(min_length=1, max_length=64)]
    after: Annotated[int, Field(ge=-1)]
    at: Annotated[str, Field(max_length=40)]
    by: Annotated[str, Field(max_length=80)]
    type: str
    data: dict[str, Any]

    def line(self) -> bytes:
        """The event as a line of the log, with the line's end."""
        return json.dumps(self.model_dump(), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def content_of(kind: str, data: dict[str, Any]) -> Data:
    """The checked content of an event. Raises InputError."""
    if kind not in KINDS:
        raise InputError(f"There is no event {kind[:40]!r}; there are {', '.join(list(KINDS)[1:])}.")
    try:
        return KINDS[kind].model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if isinstance(own := first.get("ctx", {}).get("error"), InputError):
            raise own from error  # of a name or of rows: a sentence by itself
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"The event {kind} has a wrong entry {where or 'data'}: {first['msg']}.") from error


def plain(content: Data) -> dict[str, Any]:
    """The content as plain values, defaults included."""
    return content.model_dump(by_alias=True)
