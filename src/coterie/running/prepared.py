"""A run that is ready to begin: what is known of it, its record in `run.yaml`, and the callbacks that follow it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from coterie._version import __version__
from coterie.contract import name_of
from coterie.data.outliers import usual_items
from coterie.networks.backbones import BackboneChoice, Start
from coterie.networks.net import Net
from coterie.prediction.model import Model
from coterie.records.rows import written
from coterie.running.beginning import epochs_of
from coterie.running.finetuning import Teacher
from coterie.running.judgements import Judgements
from coterie.training.device import PrecisionChoice, machine
from coterie.training.engine import Progress
from coterie.training.history import EpochRecord, History
from coterie.training.plan import Plan, RunSettings, resolved
from coterie.training.runfolder import RunFolder
from coterie.types import Family, Items, Source


@dataclass
class Watch:
    """Callbacks that follow a run: a progress bar, lines for the user, observers of experiments. None changes it.

    `timed`: who watches wants to hear beforehand how long it will take, which costs some seconds.
    `ready` sees the source before anything is trained, and may refuse it by an InputError; `begun` is called when the
    run folder has its record.
    """

    ready: Callable[[Source], None] = lambda source: None
    begun: Callable[[], None] = lambda: None
    progress: Progress | None = None
    say: Callable[[str], None] = lambda text: None
    after_epoch: list[Callable[[EpochRecord, Net], None]] = field(default_factory=list)
    predicted: Callable[[int], None] | None = None
    reading: Callable[[str, int, int], None] | None = None  # what is being read, how many of how many
    timed: bool = False
    dry: bool = False  # nothing will be trained, so a few pictures stand for what an encoder makes of all


@dataclass
class Prepared:
    """Everything that is known before training starts."""

    source: Source
    settings: RunSettings
    plan: Plan
    backbone: BackboneChoice
    precision: PrecisionChoice
    device: torch.device
    family: Family
    folder: RunFolder
    history: History
    rank: int
    processes: int
    init: Model | None
    start: Start | None = None  # the backbone's weights, where --pretrained or --weights gives them
    seconds_before: float = 0.0
    embedding_seconds: float | None = None  # of an encoder, before all stages; None without one
    warnings: list[str] = field(default_factory=list)
    path: str | None = None  # where the source lies, absolute
    read_at: float | None = None  # when that was listed, in seconds since 1970
    chosen_k: dict[str, Any] | None = None  # of -k auto: how the number of groups came about
    teacher: Teacher | None = None  # of --finetune: what a run on embeddings says, and its encoder
    beginning: dict[str, Any] | None = None  # what --init or --weights named: its path, and of a run a digest
    judged: Judgements | None = None  # what only the calibration head is given

    @property
    def taught(self) -> Items:
        """The items that training sees: all but those far outside the others."""
        return usual_items(self.source)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def record(self, command: str) -> dict[str, Any]:
        """What `run.yaml` says before training: all that is needed to run again."""
        source, stages = self.source, self.plan.stages
        return {
            "status": "running",
            "command": command,
            "source": {
                "name": source.name,
                "origin": source.origin,
                "path": self.path,
                "kind": source.items.spec.kind,
                "n": len(source.items),
                **items_of(source),
                "read_at": self.read_at,
                "family": self.family,
                "skipped": [asdict(item) for item in source.skipped],
                "notes": list(source.notes),
                **({"outliers": written(source.outliers)} if len(source.outliers) else {}),
            },
            "n_clusters": self.settings.n_clusters,
            "seed": self.settings.seed,
            "settings": plain_settings(self.settings),
            "stages": [{"name": name_of(m), "epochs": epochs_of(m), "settings": plain(resolved(m))} for m in stages],
            "logs": {name: plain(dict(logs)) for name, logs in self.plan.logs().items()},
            "views": plain(asdict(self.plan.views)),
            "calibration": None if self.plan.calibration is None else plain(asdict(self.plan.calibration)),
            "calibrated": self.plan.calibrated,
            "backbone": asdict(self.backbone),
            "device": str(self.device),
            "processes": self.processes,
            "precision": {"value": self.precision.name, "why": self.precision.why},
            "versions": {"coterie": __version__, "torch": str(torch.__version__)},
            "machine": machine(),
            "notes": self.plan.notes,
            "warnings": self.warnings,
            **({} if self.embedding_seconds is None else {"embedding_seconds": round(self.embedding_seconds, 3)}),
            **({} if self.beginning is None else {"beginning": self.beginning}),
            **({} if self.chosen_k is None else {"chosen_k": self.chosen_k}),
            **({} if self.judged is None else {"labels_used": self.judged.used}),
        }


def items_of(source: Source) -> dict[str, Any]:
    """What the record says of the items themselves: their form and the digest of their content."""
    return {"spec": plain(asdict(source.items.spec)), "fingerprint": source.fingerprint}


def plain(value: Any) -> Any:
    """Tuples as lists, so that YAML gives back what was written."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def plain_settings(settings: RunSettings) -> dict[str, Any]:
    """The user's settings as plain values; a method object stands as its name and its settings."""
    values: dict[str, Any] = plain({**vars(settings), "overrides": dict(settings.overrides)})
    if not isinstance(settings.method, str):
        values["method"] = {"name": name_of(settings.method), **resolved(settings.method)}
    return values
