"""What a run folder holds, as the report needs it. Every file but `run.yaml` may be missing: a run can fail early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.outputs import typed
from coterie.records import Record, groups_of, read_record
from coterie.records.arrays import read_arrays
from coterie.records.files import is_there
from coterie.records.history import read_lines
from coterie.records.metrics import read_metrics
from coterie.records.recalibration import FILE, TABLE
from coterie.records.table import check_ids, labels_of, open_table, reading
from coterie.types import InputError


@dataclass(frozen=True)
class Result:
    """`result.parquet`: group and confidence of every item in memory, the rest read where asked for."""

    path: Path
    labels: NDArray[np.int64]
    confidence: NDArray[np.float64]

    def ids(self, rows: NDArray[np.integer]) -> list[str]:
        """The ids of some rows, in the order asked for."""
        found = dict(self._values("id", rows))
        return [str(found[int(row)]) for row in rows]

    def runners_up(self, rows: NDArray[np.integer]) -> dict[int, tuple[int, float]]:
        """The likeliest group of some rows beside their own, and its probability: row -> (group, probability)."""
        if len(rows) == 0:
            return {}
        with reading(self.path):
            return self._runners_up(rows)

    def _runners_up(self, rows: NDArray[np.integer]) -> dict[int, tuple[int, float]]:
        found = {}
        if "probabilities" in self._columns:
            for row, p in self._values("probabilities", rows):
                if len(p) > 1:
                    others = np.array(p)
                    others[self.labels[row]] = -1  # where two are equal, sorting could give the item's own again
                    group = int(others.argmax())
                    found[row] = (group, float(p[group]))
        elif {"top_labels", "top_probabilities"} <= self._columns:
            groups = dict(self._values("top_labels", rows))
            for row, p in self._values("top_probabilities", rows):
                if len(p) > 1:
                    found[row] = (int(groups[row][1]), float(p[1]))
        return found

    @cached_property
    def _columns(self) -> set[str]:
        with open_table(self.path) as file:
            return set(file.schema_arrow.names)

    def _values(self, column: str, rows: NDArray[np.integer]) -> Iterator[tuple[int, Any]]:
        """Stream one column and yield (row, value) of the asked rows, so that memory does not grow with the file."""
        wanted, start = np.unique(rows), 0
        with open_table(self.path, column) as file:
            for batch in file.iter_batches(columns=[column]):
                inside = wanted[(wanted >= start) & (wanted < start + len(batch))]
                values = batch.column(0)  # taken one by one: pyarrow's `take` of an array imports pandas
                yield from ((row, values[row - start].as_py()) for row in inside.tolist())
                start += len(batch)


@dataclass(frozen=True)
class Gallery:
    """`gallery.npz`: the items picked by `gallery_rows`, with their pictures."""

    rows: NDArray[np.int64]
    cluster: NDArray[np.int64]
    kind: NDArray[np.int64]
    images: NDArray[np.uint8]  # (m, h, w, c)
    ids: list[str]


@dataclass(frozen=True)
class ReadRun:
    """A run folder in memory; what only the report needs is read where it asks for it."""

    path: Path
    run: Record  # run.yaml
    result: Result | None
    metrics: Record | None

    @cached_property
    def history(self) -> list[Record]:
        """The epochs of all stages."""
        return read_lines(self.path / "history.jsonl")

    @cached_property
    def gallery(self) -> Gallery | None:
        """The items whose pictures were kept."""
        return _gallery(self.path / "gallery.npz", self.result)

    @cached_property
    def map(self) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """Rows and their places in the plane."""
        return _map(self.path / "map.npz", self.result)

    @property
    def kind(self) -> str:
        """What an item is called: "images" or "embeddings"."""
        source = self.run.get("source") or {}
        if (source.get("spec") or {}).get("encoding"):
            return "images"  # embedded by coterie
        return str((source.get("spec") or {}).get("kind") or source.get("kind") or "images")

    @property
    def calibrated(self) -> bool:
        """Whether the confidences are calibrated; for older runs the method decides."""
        stated = self.run.get("calibrated")
        if isinstance(stated, bool):
            return stated
        last = (self.run.get("stages") or [{}])[-1]
        by_itself = last.get("name") == "cdc" and (last.get("settings") or {}).get("layout", "dual") == "dual"
        return self.run.get("calibration") is not None or by_itself

    @property
    def n_clusters(self) -> int:
        """The number of groups asked for or found; 0 while it is not known."""
        stated = groups_of(self.run)
        if stated is None and self.result is not None:
            return int(self.result.labels.max(initial=-1)) + 1
        return int(stated or 0)


def read_run(path: Path) -> ReadRun:
    """Read what is there. Raises InputError where the folder is no run, a file of it cannot be read, or two differ."""
    run = read_record(path)
    result = _result(path / "result.parquet", run.get("source", {}).get("n"), groups_of(run))
    return ReadRun(path, run, result, read_metrics(path / "metrics.json"))


def read_finished(path: Path) -> tuple[ReadRun, Result]:
    """A run that has its result. Raises InputError for one that is not finished, and says how far it came."""
    folder = read_run(path)
    status = folder.run.get("status")
    if status != "done" or folder.result is None:
        state = f"its status is {status!r}" if status != "done" else "it has no result.parquet"
        raise InputError(f"The run in {path} is not finished, {state}: finish it with coterie fit ... --resume.")
    return folder, folder.result


def read_recalibrated(folder: ReadRun) -> Result:
    """The result with the confidences corrected by a judged sample. Raises InputError where there is none."""
    found = _result(folder.path / TABLE, folder.run.get("source", {}).get("n"), groups_of(folder.run))
    run = folder.path
    if found is None or not is_there(run / FILE):  # a recalibration that was killed leaves a table without its map
        raise InputError(
            f"{run} has no {TABLE} with its map: coterie recalibrate {typed(run)} --judged FILE makes both."
        )
    if folder.result is None or not (found.labels == folder.result.labels).all():
        raise InputError(f"{found.path} does not fit result.parquet: recalibrate the run again.")
    return found


def _result(path: Path, n: int | None, k: int | None) -> Result | None:
    if not is_there(path):
        return None
    with open_table(path, "id", "label", "confidence") as file:
        check_ids(path, file.read(columns=["id"])["id"])
        labels, confidence = labels_of(path, file.read(columns=["label", "confidence"]), k)
    if n is not None and len(labels) != n:
        raise InputError(f"{path} has {len(labels):,} rows, but run.yaml says source.n is {n:,}: they are of two runs.")
    return Result(path, labels, confidence) if len(labels) else None


def _gallery(path: Path, result: Result | None) -> Gallery | None:
    form = {"rows": ("iu", 1), "cluster": ("iu", 1), "kind": ("iu", 1), "images": ("u", 4), "ids": ("U", 1)}
    arrays = read_arrays(path, form)
    if arrays is None or result is None:
        return None
    images, rows, cluster = arrays["images"], arrays["rows"].astype(np.int64), arrays["cluster"].astype(np.int64)
    if len({len(array) for array in arrays.values()}) > 1 or images.dtype != np.uint8 or 0 in images.shape[1:]:
        raise InputError(f"{path} is damaged: its arrays do not fit each other.")
    if not _rows_fit(rows, result) or not (result.labels[rows] == cluster).all():
        raise InputError(f"{path} does not fit result.parquet: they are of two runs.")
    return Gallery(rows, cluster, arrays["kind"].astype(np.int64), images, [str(item) for item in arrays["ids"]])


def _map(path: Path, result: Result | None) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    arrays = read_arrays(path, {"rows": ("iu", 1), "xy": ("f", 2)})
    if arrays is None or result is None:
        return None
    rows, xy = arrays["rows"].astype(np.int64), arrays["xy"].astype(np.float32)
    if xy.shape != (len(rows), 2) or not np.isfinite(xy).all():
        raise InputError(f"{path} is damaged: it needs two finite numbers for each row.")
    if not _rows_fit(rows, result):
        raise InputError(f"{path} does not fit result.parquet: they are of two runs.")
    return rows, xy


def _rows_fit(rows: NDArray[np.int64], result: Result) -> bool:
    return len(rows) == 0 or (int(rows.min()) >= 0 and int(rows.max()) < len(result.labels))
