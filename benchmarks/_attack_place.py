"""The folder of one try of `fuzz.py`, with good data and finished runs to copy from."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path

Call = list[str]
"""Arguments of `coterie`; "load" as the first one stands for `coterie.load` in Python."""

Settings = Mapping[str, Mapping[str, str]]
"""Of each part of a run its settings, with their defaults as YAML."""


class Place:
    """The folder of one try: `sources` and finished runs to copy from, `here` to work in."""

    def __init__(self, base: Path, here: Path, rng: random.Random, settings: Settings) -> None:
        self.base, self.here, self.rng, self.settings = base, here, rng, settings

    def run(self, name: str = "") -> Path:
        """A copy of a finished run: "vectors" or "pixels"."""
        name = name or self.rng.choice(("vectors", "vectors", "pixels"))
        shutil.copytree(self.base / "runs" / name, self.here / "run")
        return self.here / "run"

    def source(self, kind: str = "") -> str:
        """A copy of good data."""
        names = {"vectors": ["vectors.npy", "vectors.parquet"], "pixels": ["pixels.npz", "photos"]}
        name = self.rng.choice(names[kind or self.rng.choice(("vectors", "pixels"))])
        (self.here / "in").mkdir(exist_ok=True)
        place = self.here / "in" / name
        if (self.base / name).is_dir():
            shutil.copytree(self.base / name, place, dirs_exist_ok=True)
        else:
            shutil.copy(self.base / name, place)
        return f"in/{name}"

    def file(self, name: str, content: bytes) -> str:
        (self.here / "in").mkdir(exist_ok=True)
        (self.here / "in" / name).write_bytes(content)
        return f"in/{name}"

    def use(self, source: str, kind: str = "vectors") -> list[Call]:
        """A command or two that read this source."""
        rng, json_too = self.rng, self.rng.choice(([], ["--json"]))
        if rng.random() < 0.35:
            self.run(kind)
            return [["predict", "run", source, "-o", "new.parquet", *json_too]]
        return [["fit", source, "-k", rng.choice(("2", "3")), "--dry-run", *json_too]]

    def after(self, kind: str) -> list[Call]:
        """A command that reads the run folder `run`."""
        rng = self.rng
        source = "in/vectors.npy" if kind == "vectors" else "in/pixels.npz"
        (self.here / "in").mkdir(exist_ok=True)
        shutil.copy(self.base / Path(source).name, self.here / source)
        shutil.copytree(self.base / "runs" / kind, self.here / "other", dirs_exist_ok=True)
        labels = self.base / f"{kind}.csv"
        shutil.copy(labels, self.here / "in" / "labels.csv")
        resume = ["fit", source, "-o", "run", "--resume", *(self.base / f"{kind}.args").read_text().split()]
        calls = [
            ["report", "run"],
            ["evaluate", "run", "--labels", "in/labels.csv", "--json"],
            ["evaluate", "run"],
            ["accept", "run", "--json"],
            ["accept", "run", "--draw", "3", "-o", "draw.csv"],
            ["compare", "run", "other", "--json", "-o", "compare.html"],
            ["compare", "other", "run"],
            ["predict", "run", source, "-o", "new.parquet", "--embedding", "--json"],
            ["evaluate", "run", "--ood", source, "--json"],
            ["fit", source, "-k", "3", "--init", "run", "--dry-run"],
            ["load", "run"],
            resume,
        ]
        return rng.sample(calls, rng.choice((1, 2, 3)))
