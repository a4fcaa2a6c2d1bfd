"""`run.yaml`: the record of a run, from its start on. One schema for every command that reads it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from coterie.records.files import check_plain, parse_yaml, read_entries, read_text, validated
from coterie.types import InputError

Record = dict[str, Any]

LARGEST = 32 << 20  # bytes of a run.yaml: 200,000 items left out take about half of that
CHOICE = "choose_k.json"  # of a run folder: what `choose-k` found on its features
MOST_GROUPS = 1_000_000
MOST_ITEMS = 10**12

Count = Annotated[int, Field(ge=0, le=MOST_ITEMS)]
Size = Annotated[int, Field(ge=0, le=1 << 24)]  # pixels of a side, channels, features
Seconds = Annotated[float, Field(ge=0, le=1e10)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(max_length=10_000)]


class Entries(BaseModel):
    """A strict schema: the text "3" is no number, numbers are finite. Unknown entries of newer versions are ignored."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class EncodingEntry(Entries):
    """How pictures became embeddings, as in `types.Encoding`."""

    encoder: Name
    model: Name
    weights: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: Name
    taught: Name
    size: Annotated[int, Field(ge=1, le=4096)]
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    squash: bool = False
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: Annotated[list[float], Field(min_length=3, max_length=3)] = [0.5, 0.5, 0.5]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)] = [0.5, 0.5, 0.5]
    pooling: Literal["own", "cls", "mean", "cls+mean"] = "own"
    precision: Literal["fp32", "bf16"] = "fp32"
    origin: Name = ""


class Spec(Entries):
    """The form of an item, as in `types.ItemSpec`."""

    kind: Literal["images", "embeddings"] | None = None
    channels: Size = 0
    height: Size = 0
    width: Size = 0
    dim: Size = 0
    low: float = 0.0
    high: float = 0.0
    offset: list[float] = []
    columns: list[str] = []
    chosen: bool = False
    encoding: EncodingEntry | None = None
    spaces: list[Spec] = []  # of features, one after the other
    name: Name = ""


class LeftOut(Entries):
    """An item that could not be read."""

    id: str
    reason: str


class SourceEntry(Entries):
    """What the run was fitted on."""

    name: Name = ""
    origin: Name = ""
    path: Name | None = None  # absolute, see `data.originals.absolute_path`
    kind: Literal["images", "embeddings"] | None = None
    n: Count | None = None
    spec: Spec = Spec()
    fingerprint: Name | None = None
    read_at: Annotated[float, Field(ge=0, le=1e11)] | None = None  # when its files were listed, in seconds since 1970
    family: Name | None = None
    skipped: list[LeftOut] = []
    notes: list[str] = []
    outliers: str = ""  # the rows that lie far outside all others, as "5,17-19"; training left them out


class BeginningEntry(Entries):
    """What --init or --weights named: its absolute path, and of a run the SHA-256 of its net.

    notes: what was adapted of the weights of a file or of timm's, which a resumed run does not load again.
    """

    path: Name = ""
    sha256: Name = ""
    notes: list[str] = []


class StageEntry(Entries):
    """One stage with its resolved settings."""

    name: Name
    epochs: Count | None = None
    settings: dict[str, Any] = {}
    seconds: Seconds | None = None
    status: Name | None = None


class Choice(Entries):
    """Something that coterie chose by itself, and why."""

    name: Name | None = None
    value: Name | None = None
    why: str | None = None


class Failure(Entries):
    """Why a run ended early, and what to try."""

    reason: str = ""
    advice: str = ""


class ChosenK(Entries):
    """What `choose_k` found, as in `evaluation.number_of_groups.Choice`."""

    k: Annotated[int, Field(ge=2, le=MOST_GROUPS)]
    clear: bool
    sentence: str = ""
    ticks: dict[str, int] = {}
    curve: list[dict[str, float]] = []
    notes: list[str] = []


class UsedEntry(Entries):
    """What people said that took part: how many items were judged, in which file, which rows; and merged groups."""

    judged: Count | None = None
    sha256: Name | None = None
    rows: str | None = None  # see `records.rows`
    merges: Count | None = None


class RunRecord(Entries):
    """All of `run.yaml`. A run that has just begun lacks the last entries, one of an older version may lack more."""

    status: Name | None = None
    command: str = ""
    source: SourceEntry = SourceEntry()
    n_clusters: Annotated[int, Field(ge=1, le=MOST_GROUPS)] | Literal["auto"] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)] | None = None
    settings: dict[str, Any] = {}
    stages: list[StageEntry] = []
    # by stage: what its logged numbers are called, and a hint how to read each
    logs: dict[Name, dict[Name, Annotated[list[str], Field(min_length=2, max_length=2)]]] = {}
    views: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    calibrated: bool | None = None  # whether the confidences are; older runs do not say it
    backbone: Choice | None = None
    beginning: BeginningEntry | None = None  # of the backbone, where the user gave one
    device: Name | None = None
    processes: Count | None = None
    precision: Choice | Name | None = None
    versions: dict[str, Any] | None = None
    machine: dict[str, Any] | None = None
    notes: list[str] = []
    warnings: list[str] = []
    chosen_k: ChosenK | None = None  # of a run whose number of groups was chosen: how
    labels_used: UsedEntry | None = None
    failure: Failure | None = None
    seconds: Seconds | None = None  # of all stages, and of the answers
    embedding_seconds: Seconds | None = None  # of the encoder before, where there is one

    @model_validator(mode="after")
    def _fits(self) -> RunRecord:
        n, k = self.source.n, self.n_clusters
        if n is not None and isinstance(k, int) and k > n:
            raise ValueError(f"n_clusters is {k}, but source.n only {n}: there cannot be more groups than items")
        return self


def check_single(folder: Path) -> None:
    """Raise InputError for a folder of several runs, as `fit --runs` writes it: one of them is to be given."""
    with contextlib.suppress(OSError):
        inside = (entry.name for entry in os.scandir(folder) if os.path.lexists(os.path.join(entry.path, "run.yaml")))
        if (first := min(inside, default=None)) is not None:
            raise InputError(f"{folder} holds runs and is none itself: give one of them, such as {folder / first}.")


def record_in(folder: Path) -> Path:
    """Where the record of a run folder lies. Raises InputError for a folder without one."""
    path = folder / "run.yaml"
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        check_single(folder)
        raise InputError(
            f"{folder} holds no run.yaml, so it is no run folder: give the one that `coterie fit -o` wrote."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    return path


def read_record(folder: Path) -> Record:
    """Entries of a run folder's `run.yaml`. Raises InputError for one that does not fit the schema, or is cut off."""
    path = record_in(folder)
    text = read_text(path, LARGEST)
    content: Record = parse_yaml(text, str(path))
    if isinstance(content, dict):
        check_plain(content, str(path))
    validated(RunRecord, content, str(path))
    _check_whole(path, text, content)
    return content


def _check_whole(path: Path, text: str, record: Record) -> None:
    """Raise InputError where the end of what a run wrote is missing, which is YAML all the same."""
    if "command" not in record:  # the second entry that a run writes
        return
    if not text.endswith("\n") or (record.get("status") == "done" and "seconds" not in record):
        raise InputError(f"{path} is cut off at its end: take it from a whole copy of the run, or fit again.")


def check_finished(run: Path) -> None:
    """Raise InputError for a run folder that has no model yet, and say how far it came, or whose record is damaged."""
    # A model that was saved without a run has none.
    status = read_record(run).get("status") if os.path.lexists(run / "run.yaml") else None
    if status is not None and not (run / "model").is_dir():
        raise InputError(f"The run in {run} has no model, its status is {status!r}: finish it with fit --resume.")


def read_choice(folder: Path, record: Record) -> Record | None:
    """How many groups there are: what `choose-k` said of this run's features, else what `-k auto` found, or None."""
    found: Record | None = read_entries(ChosenK, folder / CHOICE, LARGEST)
    return record.get("chosen_k") if found is None else found


def groups_of(record: Record) -> int | None:
    """The number of groups in a record; None while the method has not found it yet."""
    stated = record.get("n_clusters")
    return stated if isinstance(stated, int) else None


def judgements_in(record: Record) -> int:
    """How many judgements of people took part in a run: judged items, and groups that somebody merged.

    A run with any stands in no table of label-free numbers.
    """
    used = record.get("labels_used")
    if not isinstance(used, dict) or not used:
        return 0
    return max(1, sum(used.get(name) or 0 for name in ("judged", "merges")))
