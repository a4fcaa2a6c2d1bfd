"""Rows of a comparison that may go on from each other's runs, each made once for each seed by any number of processes.

A row is a method with its settings; a row with a `start` goes on from the run of that row and seed, so that all that
begin with one pre-training share it. Each row and seed is a run folder and then one JSON record, written whole; a
record that exists is never made again, and one of several processes makes it while the others go on with other rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from _runs import kept_once, of_stage, preset_on, row

from coterie.data import Labels
from coterie.training.plan import RunSettings


@dataclass(frozen=True)
class Line:
    """A row: the method, the row whose run it starts from, the paper's ACC for Fashion-MNIST in percent."""

    title: str
    method: str
    start: str | None = None
    paper: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def with_starts(lines: Mapping[str, Line], wanted: Sequence[str]) -> list[str]:
    """These rows and all that they start from, in the order of the table."""
    needed = set(wanted)
    for name in reversed(list(lines)):
        if name in needed and (start := lines[name].start) is not None:
            needed.add(start)
    return [name for name in lines if name in needed]


@dataclass(frozen=True)
class Rows:
    """What all rows share."""

    data: str
    source: str
    base: RunSettings  # groups, device, backbone, preset
    runs: Path
    overrides: Mapping[str, Any]
    lines: Mapping[str, Line]
    metrics: tuple[str, ...]
    labels: Labels | None = None  # for the records only; None: the source's own
    part_of: str = ""  # the named set that the source is a part of, for the published rows

    def out(self, name: str, seed: int) -> Path:
        return self.runs / f"{self.data}-{name}-{seed}"

    def settings(self, name: str, seed: int) -> RunSettings:
        line = self.lines[name]
        start = None if line.start is None else str(self.out(line.start, seed))
        mine = of_stage(self.overrides, line.method) | dict(line.settings)
        preset = preset_on(self.base.preset, line.method, self.part_of)
        return replace(self.base, method=line.method, seed=seed, init=start, overrides=mine, preset=preset)

    def record(self, name: str, seed: int, *, wait: bool) -> dict[str, Any] | None:
        """The record of a row and seed, trained where there is none; None while another process is at it."""
        path = self.runs / "records" / f"{self.data}-{name}-{seed}.json"
        return kept_once(path, lambda: self.made(name, self.settings(name, seed), self.out(name, seed)), wait=wait)

    def made(self, name: str, settings: RunSettings, out: Path) -> dict[str, Any]:
        found = row(self.source, settings, out, self.metrics, labels=self.labels)
        told, heads = found["record"], found["heads"]
        # The method's own answer: a calibration head that is taught afterwards is not.
        own = [head for head in heads if head != "cal" or told["calibration"] is None]
        return {
            "data": self.data,
            "row": name,
            "method": settings.method,
            "starts_from": self.lines[name].start,
            "n": told["source"]["n"],
            "k": settings.n_clusters,
            "seed": settings.seed,
            "seconds": found["seconds"],
            "epochs": {stage["name"]: stage["epochs"] for stage in told["stages"]},
            "skipped": len(told["source"]["skipped"]),
            "metrics": heads[own[0]],
            "heads": heads,
            "calibrated_after": told["calibration"] is not None,
            "settings": told["stages"][-1]["settings"],
            "views": told["views"],
            "backbone": told["backbone"]["name"],
            "precision": told["precision"]["value"],
            "device": told["device"],
            "machine": told["machine"],
        }

    def records(self, names: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Every record of these rows and of what they start from, by seed and row; first those nobody else is at."""
        jobs = [(name, seed) for seed in seeds for name in with_starts(self.lines, names)]
        found: dict[tuple[str, int], dict[str, Any]] = {}
        while pending := [job for job in jobs if job not in found]:
            for name, seed in pending:
                start = self.lines[name].start
                if start is None or (start, seed) in found:
                    record = self.record(name, seed, wait=False)
                    if record is not None:
                        found[name, seed] = record
            name, seed = pending[0]  # what it starts from comes before it and is there
            if (name, seed) not in found:
                record = self.record(name, seed, wait=True)
                assert record is not None
                found[name, seed] = record
        return [found[job] for job in jobs]
