"""Everything that can be known and checked before training starts: source, settings, plan, backbone, device, folder.

A run that gets past `prepare` can only fail for reasons that training brings to light.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coterie._version import __version__
from coterie.catalogue import method_class
from coterie.choosing import settle
from coterie.contract import Card, Facts, Method, is_trained, name_of
from coterie.data.items import ChosenItems
from coterie.data.named_files import names
from coterie.data.originals import absolute_path
from coterie.data.outliers import mark_outliers, without
from coterie.deciding import check_used, resolve, with_encoder
from coterie.encoders import open_items
from coterie.judgements import Judgements, read_judgements
from coterie.networks.backbones import BackboneChoice, Start, build_backbone, check_start, choose_backbone, start_of
from coterie.networks.net import Net
from coterie.outputs import check_folder
from coterie.prediction.model import Model, load_model
from coterie.records.run import read_record
from coterie.training.device import Place, PrecisionChoice, accelerator_for, choose_precision, machine
from coterie.training.distributed import wait_for_all
from coterie.training.engine import Progress
from coterie.training.history import EpochRecord, History, read_history
from coterie.training.plan import (
    UNEQUAL_ADVICE,
    Plan,
    RunSettings,
    balance_term,
    image_size_of,
    make_plan,
    method_name,
    resolved,
)
from coterie.training.runfolder import RunFolder
from coterie.types import Family, InputError, Items, ItemSpec, Source

FEW_PHOTOS = 5000  # below: 3,000 photos of CIFAR-10 end where K-means on their pixels does
TOO_FEW = (
    "{:,} photos are few for a network that starts from random weights; it may find no more than K-means on the pixels "
    "does. Better: begin with weights (--backbone resnet18 --pretrained, or --weights FILE), with another run's "
    "backbone (--init RUN), or group what an encoder sees (--encoder efficientnet-lite0, or embeddings as .npy)."
)


@dataclass
class Watch:
    """Who looks on: a progress bar, a line of text for the user, callbacks of experiments. None of them steers.

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
    warnings: list[str] = field(default_factory=list)
    path: str | None = None  # where the source lies, absolute
    chosen_k: dict[str, Any] | None = None  # of -k auto: how the number of groups came about
    judged: Judgements | None = None  # what only the calibration head is given

    @property
    def taught(self) -> Items:
        """The items that training sees: all but those far outside the others."""
        items, left_out = self.source.items, np.asarray(self.source.outliers, np.int64)
        return ChosenItems(items, without(left_out, len(items))) if len(left_out) else items

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
                "spec": plain(asdict(source.items.spec)),
                "fingerprint": source.fingerprint,
                "family": self.family,
                "skipped": [asdict(item) for item in source.skipped],
                "notes": list(source.notes),
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
            **({} if self.chosen_k is None else {"chosen_k": self.chosen_k}),
            **({} if self.judged is None else {"labels_used": self.judged.used}),
        }


def prepare(source: Any, settings: RunSettings, out: Path | None, *, resume: bool, watch: Watch) -> Prepared:
    """Check everything that can be checked before training: settings, folder, data, plan."""
    settings = resolve(settings)
    place = accelerator_for(settings.device)
    folder = RunFolder(out, writes=place.is_main_process)
    check_folder(out, [_path_of(source), settings.init, settings.weights, settings.judged])
    folder.prepare(resume=resume)
    wait_for_all()
    try:
        return _prepare(source, settings, folder, place, resume=resume, watch=watch)
    except BaseException:
        folder.release()
        raise


def _path_of(source: Any) -> str | None:
    """Where the source lies, if it lies anywhere: an array does not, nor does a data set by its name."""
    path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    return None if path in names() else path


def _prepare(
    source: Any, settings: RunSettings, folder: RunFolder, place: Place, *, resume: bool, watch: Watch
) -> Prepared:
    settings = calibrated_where_judged(settings)
    out, card = folder.path, check_beginning(settings)
    init = load_model(Path(settings.init)) if settings.init is not None else None
    cache = folder.file("cache")
    kept = cache if place.is_main_process else None  # each process embeds for itself, and one writes
    settings, encode = with_encoder(settings, source, kept, place.device, dry=watch.dry)
    opened = open_items(
        source,
        like=init.spec if init else None,
        encode=encode,
        device=settings.device,
        image_size=image_size_of(settings, source if isinstance(source, str) else ""),
        cache=cache,
        max_skipped=settings.max_skipped,
        progress=watch.reading,
        family=settings.family,
        columns=settings.columns,
    )
    check_used(encode, opened)
    _refuse_copies(opened)
    mark_outliers(opened)
    chosen_k = None
    if settings.n_clusters == "auto" and not card.without_k:
        k, chosen_k = settle(opened, settings.seed, watch.say)
        settings = replace(settings, n_clusters=k)
    spec = opened.items.spec
    device = place.device
    side = max(spec.height, spec.width)
    given = settings.pretrained or settings.weights is not None
    n = len(opened.items) - len(opened.outliers)
    facts = Facts(n, settings.k, spec.kind, str(device), side, spec.dim, loaded=given)
    if init is not None:
        backbone = BackboneChoice(init.backbone, f"of {settings.init}")
        _check_init(settings, card, init)
    else:
        backbone = _backbone_for(card, settings, spec, str(device))
    if settings.pretrained:
        check_start(backbone, spec)
    plan = make_plan(settings, facts, opened.name)
    if encode is not None and encode.said:
        plan.notes.append(encode.said)
    if term := balance_term(plan.method):
        plan.notes.append(f"{term} draws groups to equal sizes; {UNEQUAL_ADVICE}.")
    if spec.kind == "images" and opened.family == "photo" and init is None and _learns_from_too_few(plan, facts):
        plan.notes.append(TOO_FEW.format(n))
    if init is not None:
        plan = _with_its_rows(plan, settings, init)
    _check_trained(plan, backbone, loaded=given or init is not None)
    start = None
    if given and resume and (name := begun_with(folder, plan)) is not None:
        backbone = replace(backbone, name=name)
    elif given:
        start = start_of(backbone, spec, None if settings.weights is None else Path(settings.weights))
        backbone = start.choice
        plan.notes.extend(start.notes)
    elif settings.backbone != "auto" and init is None:
        # Only to hear now, and not after the stages before, of an unknown name.
        build_backbone(backbone.name, spec)
    earlier = read_record(out) if out is not None and resume and (out / "run.yaml").exists() else {}
    # A run that was stopped goes on with the warnings of its first part; one that was done finds its own again.
    warned = list(earlier.get("warnings") or ()) if earlier.get("status") in ("running", "stopped") else []
    history = read_history(out / "history.jsonl") if out is not None else History(None)
    before = sum(record.seconds for record in history.records) if resume else 0.0
    if not place.is_main_process:
        history.path = None
    precision = choose_precision(settings.precision, spec, device)
    prepared = Prepared(
        opened,
        settings,
        plan,
        backbone,
        precision,
        device,
        opened.family,
        folder,
        history,
        place.process_index,
        place.num_processes,
        init,
        start,
        before,
        [*opened.warnings, *(text for text in warned if text not in opened.warnings)],
        absolute_path(source),
        chosen_k,
    )
    if settings.judged is not None:
        assert settings.init is not None
        prepared.judged = read_judgements(settings.init, settings.judged, opened)
        plan.notes.extend(prepared.judged.notes)
    folder.check_same(prepared.record(""))
    return prepared


def calibrated_where_judged(settings: RunSettings) -> RunSettings:
    """Judgements are for the calibration head, so there is to be one. Raises InputError where there cannot be."""
    if settings.judged is None:
        return settings
    if settings.init is None:
        raise InputError("--judged is about a finished run: give that run with --init.")
    if settings.calibrate is False:
        raise InputError("--judged is for the calibration head alone: leave --no-calibrate out.")
    return replace(settings, calibrate=True)


def check_beginning(settings: RunSettings) -> Card:
    """The method's card. Raises InputError for an unknown method, and for two beginnings of one backbone."""
    card = method_class(method_name(settings.method)).card
    given = {"--init": settings.init, "--pretrained": settings.pretrained or None, "--weights": settings.weights}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} each give the backbone its weights: leave all but one out.")
    return card


def begun_with(folder: RunFolder, plan: Plan) -> str | None:
    """The backbone that the first stage has a checkpoint of: what it began with need not be loaded once more."""
    first = name_of(plan.stages[0])
    files = [folder.file("checkpoints", f"{first}{end}.safetensors") for end in ("", ".done")]
    if folder.path is None or not any(file is not None and file.exists() for file in files):
        return None
    return (read_record(folder.path).get("backbone") or {}).get("name")


def _check_trained(plan: Plan, backbone: BackboneChoice, *, loaded: bool) -> None:
    """Raise InputError for a method that trains nothing on random weights; a note where the user asked for 0 epochs."""
    first = plan.stages[0]
    if loaded or backbone.name in ("identity", "mlp") or epochs_of(first):
        return
    if not is_trained(first):
        raise InputError(
            f"{first.card.title} trains nothing, and backbone {backbone.name!r} would stay as it was drawn at random: "
            "give it weights with --pretrained, --weights FILE or --init RUN."
        )
    plan.notes.append(f"{name_of(first)} has 0 epochs: backbone {backbone.name!r} begins at random weights.")


def _refuse_copies(source: Source) -> None:
    """Raise InputError where every picture is the same; of others, the first two are usually all that is read."""
    items, at = source.items, 1
    if items.spec.kind != "images":
        return
    first = items.take(torch.tensor([0], device="cpu"))
    while at < len(items):
        rows = torch.arange(at, min(2 * at, at + 256, len(items)), device="cpu")
        if bool((items.take(rows) != first).any()):
            return
        at += len(rows)
    raise InputError(f"All {len(items)} pictures of {source.name} are the same, so there is nothing to cluster.")


def _learns_from_too_few(plan: Plan, facts: Facts) -> bool:
    """Whether a network is to learn features of photos from random weights with too few of them."""
    return facts.n < FEW_PHOTOS and not facts.loaded and any(epochs_of(method) for method in plan.stages)


def _with_its_rows(plan: Plan, settings: RunSettings, init: Model) -> Plan:
    """The plan with the item scaling of the run that it goes on from; an InputError where another was asked for."""
    its = init.net.row_norm
    if settings.overrides.get("views.row_norm", its) != its:
        raise InputError(
            f"views.row_norm is {settings.overrides['views.row_norm']}, but {settings.init} was trained with {its}: "
            "leave it out, or start from a run that has it."
        )
    return replace(plan, views=replace(plan.views, row_norm=its))


def _backbone_for(card: Card, settings: RunSettings, spec: ItemSpec, device: str) -> BackboneChoice:
    """The backbone that was asked for; for `auto` the method's own, where it has one, else the rule for all."""
    own, as_published = card.backbone, settings.preset != "practical"
    if settings.backbone == "auto" and own is not None:
        return BackboneChoice(own(spec, device, as_published), f"the one of {card.title}")
    return choose_backbone(settings.backbone, spec, device, as_published=as_published)


def _check_init(settings: RunSettings, card: Card, init: Model) -> None:
    """Raise InputError for a run to start from that lacks what the method goes on with, or has another backbone."""
    where, name = settings.init, method_name(settings.method)
    missing = [head for head in card.inherits if head not in init.net.head_names]
    if missing:
        raise InputError(
            f"{where} has no {missing[0]}, which {name} goes on with: leave --init out, or give a run of "
            f"{card.starts_from}."
        )
    if settings.backbone not in ("auto", init.backbone):
        raise InputError(
            f"{where} brings its own backbone, {init.backbone!r}: leave --backbone {settings.backbone} out."
        )
    if init.backbone == "identity" and init.spec.kind in card.starts_on and card.starts_from is not None:
        raise InputError(
            f"{where} trained no backbone (it grouped the items' own values), and {name} goes on with one: leave "
            f"--init out, or give a run of {card.starts_from}."
        )


def epochs_of(method: Method) -> int:
    """The epochs of a stage; 0 of one that takes no steps."""
    return method.epochs if is_trained(method) else 0


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
