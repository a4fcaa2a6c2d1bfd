"""What a run folder holds, as the report needs it. Every file but `run.yaml` may be missing: a run can fail early."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.types import InputError

Record = dict[str, Any]


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
        """The second likeliest group of some rows and its probability: row -> (group, probability)."""
        if len(rows) == 0:
            return {}
        found = {}
        if "probabilities" in self._columns:
            for row, p in self._values("probabilities", rows):
                if len(p) > 1:
                    group = int(np.argsort(p)[-2])
                    found[row] = (group, float(p[group]))
        elif {"top_labels", "top_probabilities"} <= self._columns:
            groups = dict(self._values("top_labels", rows))
            for row, p in self._values("top_probabilities", rows):
                if len(p) > 1:
                    found[row] = (int(groups[row][1]), float(p[1]))
        return found

    @cached_property
    def _columns(self) -> set[str]:
        import pyarrow.parquet as pq

        return set(pq.read_schema(self.path).names)

    def _values(self, column: str, rows: NDArray[np.integer]) -> Iterator[tuple[int, Any]]:
        """Stream one column and yield (row, value) of the asked rows, so that memory does not grow with the file."""
        import pyarrow.parquet as pq

        wanted, start = np.unique(rows), 0
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(columns=[column]):
                inside = wanted[(wanted >= start) & (wanted < start + len(batch))]
                yield from zip(inside.tolist(), batch.column(0).take(inside - start).to_pylist(), strict=True)
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
class RunFolder:
    """A run folder in memory."""

    path: Path
    run: Record  # run.yaml
    history: list[Record]
    result: Result | None
    metrics: Record | None
    gallery: Gallery | None
    map: tuple[NDArray[np.int64], NDArray[np.float32]] | None  # rows and their places

    @property
    def kind(self) -> str:
        """What an item is called: "images" or "embeddings"."""
        source = self.run.get("source") or {}
        return str((source.get("spec") or {}).get("kind") or source.get("kind") or "images")

    @property
    def n_clusters(self) -> int:
        """The number of groups asked for or found; 0 while it is not known."""
        stated = self.run.get("n_clusters")
        stated = None if stated == "auto" else stated
        if stated is None and self.result is not None:
            return int(self.result.labels.max(initial=-1)) + 1
        return int(stated or 0)


def read_run(path: Path) -> RunFolder:
    """Read what is there. Raises InputError where the folder is no run, or a file of it cannot be read."""
    return RunFolder(
        path=path,
        run=read_record(path),
        history=_history(path / "history.jsonl"),
        result=_result(path / "result.parquet"),
        metrics=_metrics(path / "metrics.json"),
        gallery=_gallery(path / "gallery.npz"),
        map=_map(path / "map.npz"),
    )


def read_finished(path: Path) -> tuple[RunFolder, Result]:
    """A run that has its result. Raises InputError for one that is not finished, and says how far it came."""
    folder = read_run(path)
    status = folder.run.get("status")
    if status != "done" or folder.result is None:
        state = f"its status is {status!r}" if status != "done" else "it has no result.parquet"
        raise InputError(f"The run in {path} is not finished, {state}: finish it with coterie fit ... --resume.")
    return folder, folder.result


def read_record(path: Path) -> Record:
    """`run.yaml` alone. Raises InputError where there is none, or it cannot be read."""
    import yaml

    if not (path / "run.yaml").is_file():
        raise InputError(f"{path} holds no run.yaml: give the folder that a run was written to.")
    try:
        run = yaml.safe_load((path / "run.yaml").read_text(encoding="utf-8"))
        if not isinstance(run, dict):
            raise ValueError("it is no mapping")
    except (yaml.YAMLError, ValueError) as error:
        raise _unreadable(path / "run.yaml", error) from error
    return run


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read ({error}): delete it or run again.")


def _history(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break  # a run that was killed while it wrote leaves its last line half
    return [record for record in records if isinstance(record, dict)]


def _result(path: Path) -> Result | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, columns=["label", "confidence"])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise _unreadable(path, error) from error
    labels = table["label"].to_numpy().astype(np.int64)
    confidence = table["confidence"].to_numpy().astype(np.float64)
    return Result(path, labels, confidence) if len(labels) else None


def _metrics(path: Path) -> Record | None:
    if not path.is_file():
        return None
    try:
        metrics: Record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unreadable(path, error) from error
    return metrics


def _gallery(path: Path) -> Gallery | None:
    arrays = _arrays(path)
    if arrays is None:
        return None
    return Gallery(
        rows=arrays["rows"].astype(np.int64),
        cluster=arrays["cluster"].astype(np.int64),
        kind=arrays["kind"].astype(np.int64),
        images=arrays["images"],
        ids=[str(item) for item in arrays["ids"]],
    )


def _map(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    arrays = _arrays(path)
    return None if arrays is None else (arrays["rows"].astype(np.int64), arrays["xy"].astype(np.float32))


def _arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    import zipfile

    if not path.is_file():
        return None
    try:
        # Arrays of Python objects would be pickles, which may run code: not read.
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error
