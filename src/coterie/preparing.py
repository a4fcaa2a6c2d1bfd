"""Everything that can be known and checked before training starts: source, settings, plan, backbone, device, folder.

A run that gets past `prepare` can only fail for reasons that training brings to light.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import coterie
from coterie.data import open_source
from coterie.methods.contract import Facts, Method, name_of
from coterie.networks.backbones import BackboneChoice, build_backbone, choose_backbone
from coterie.networks.net import Net
from coterie.prediction.model import Model, load_model
from coterie.training.device import PrecisionChoice, accelerator_for, choose_precision, machine
from coterie.training.distributed import wait_for_all
from coterie.training.engine import Progress
from coterie.training.history import EpochRecord, History, read_history
from coterie.training.plan import Plan, RunSettings, image_size_of, make_plan, resolved
from coterie.training.runfolder import RunFolder
from coterie.types import InputError, ItemSpec, Source
from coterie.views.recipes import Family


@dataclass
class Watch:
    """Who looks on: a progress bar, a line of text for the user, callbacks of experiments. None of them steers.

    `ready` sees the source before anything is trained, and may refuse it by an InputError.
    """

    ready: Callable[[Source], None] = lambda source: None
    progress: Progress | None = None
    say: Callable[[str], None] = lambda text: None
    after_epoch: list[Callable[[EpochRecord, Net], None]] = field(default_factory=list)
    predicted: Callable[[int], None] | None = None


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
    seconds_before: float = 0.0
    warnings: list[str] = field(default_factory=list)

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
                "kind": source.items.spec.kind,
                "n": len(source.items),
                "spec": asdict(source.items.spec),
                "fingerprint": source.fingerprint,
                "family": self.family,
                "skipped": [asdict(item) for item in source.skipped],
                "notes": list(source.notes),
            },
            "n_clusters": self.settings.n_clusters,
            "seed": self.settings.seed,
            "settings": plain_settings(self.settings),
            "stages": [{"name": name_of(m), "epochs": m.epochs, "settings": resolved(m)} for m in stages],
            "views": plain(asdict(self.plan.views)),
            "calibration": None if self.plan.calibration is None else plain(asdict(self.plan.calibration)),
            "backbone": asdict(self.backbone),
            "device": str(self.device),
            "processes": self.processes,
            "precision": {"value": self.precision.name, "why": self.precision.why},
            "versions": {"coterie": coterie.__version__, "torch": str(torch.__version__)},
            "machine": machine(),
            "notes": self.plan.notes,
            "warnings": self.warnings,
        }


def prepare(source: Any, settings: RunSettings, out: Path | None, *, resume: bool, watch: Watch) -> Prepared:
    """Check everything that can be checked before training: settings, folder, data, plan."""
    accelerator = accelerator_for(settings.device)
    folder = RunFolder(out, writes=accelerator.is_main_process)
    folder.prepare(resume=resume)
    wait_for_all()
    init = load_model(Path(settings.init)) if settings.init is not None else None
    cache = folder.file("cache")
    opened = open_source(
        source,
        like=init.spec if init else None,
        image_size=image_size_of(settings, source if isinstance(source, str) else ""),
        cache=cache,
        max_skipped=settings.max_skipped,
    )
    spec = opened.items.spec
    family: Family = opened.family
    if spec.kind == "images" and settings.family != "auto":
        family = settings.family
    device = accelerator.device
    side = max(spec.height, spec.width)
    facts = Facts(len(opened.items), settings.k, spec.kind, str(device), side, spec.dim)
    plan = make_plan(settings, facts, opened.name)
    if init is not None:
        plan = _with_its_rows(plan, settings, init)
    backbone = (
        BackboneChoice(init.backbone, f"of {settings.init}")
        if init
        else _backbone_for(plan.method, settings, spec, str(device))
    )
    if init is not None:
        _check_inherited(plan.method, init, str(settings.init))
    if settings.weights is not None or settings.backbone != "auto":
        # Only to hear now, and not after the stages before, of an unknown name or of weights that do not fit.
        build_backbone(backbone.name, spec, weights=settings.weights)
    folder.check_same(plain_settings(settings), opened.fingerprint)
    history = read_history(out / "history.jsonl") if out is not None else History(None)
    before = sum(record.seconds for record in history.records) if resume else 0.0
    if not accelerator.is_main_process:
        history.path = None
    precision = choose_precision(settings.precision, spec, device)
    return Prepared(
        opened,
        settings,
        plan,
        backbone,
        precision,
        device,
        family,
        folder,
        history,
        accelerator.process_index,
        accelerator.num_processes,
        init,
        before,
    )


def _with_its_rows(plan: Plan, settings: RunSettings, init: Model) -> Plan:
    """The plan with the item scaling of the run that it goes on from; an InputError where another was asked for."""
    its = init.net.row_norm
    if settings.overrides.get("views.row_norm", its) != its:
        raise InputError(
            f"views.row_norm is {settings.overrides['views.row_norm']}, but {settings.init} was trained with {its}: "
            "leave it out, or start from a run that has it."
        )
    return replace(plan, views=replace(plan.views, row_norm=its))


def _backbone_for(method: Method, settings: RunSettings, spec: ItemSpec, device: str) -> BackboneChoice:
    """The backbone that was asked for; for `auto` the method's own, where it has one, else the rule for all."""
    own, as_published = method.card.backbone, settings.preset != "practical"
    if settings.backbone == "auto" and own is not None:
        return BackboneChoice(own(spec, device, as_published), f"the one of {method.card.title}")
    return choose_backbone(settings.backbone, spec, device, as_published=as_published)


def _check_inherited(method: Method, init: Model, where: str) -> None:
    """Raise InputError when the run to start from lacks a part that the method goes on with."""
    missing = [name for name in method.card.inherits if name not in init.net.head_names]
    if missing:
        raise InputError(
            f"{where} has no {missing[0]}, which {name_of(method)} goes on with: leave --init out, or give a run of "
            f"{method.card.starts_from}."
        )


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
