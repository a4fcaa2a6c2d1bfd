"""START HERE: one run, from a source to a result table and a report.

source -> data -> views -> network + method (stages) -> prediction -> result table -> evaluation (labels only here) ->
report. Each line of `run` is one of these steps; the folders of the package are in the same order.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import coterie
from coterie.data import Labels, open_source
from coterie.data.items import Embeddings
from coterie.evaluation import evaluate
from coterie.methods.contract import Facts, Method, name_of
from coterie.networks.backbones import BackboneChoice, build_backbone, choose_backbone
from coterie.networks.features import extract_features
from coterie.networks.heads import standardise_rows
from coterie.networks.net import Net
from coterie.objectives.kmeans import NotFinite
from coterie.prediction.bank import make_bank
from coterie.prediction.model import Model, load_model
from coterie.prediction.results import read_result, write_result
from coterie.report import gallery_rows, map_rows, project
from coterie.training.calibrate import PostHoc, calibration_net
from coterie.training.checkpoints import load_tree, save_tree, write_atomically
from coterie.training.device import PrecisionChoice, accelerator_for, choose_precision, machine
from coterie.training.distributed import share_batch_norm, wait_for_all
from coterie.training.engine import Progress, Stage, train_stage
from coterie.training.health import SMALLER_STEPS
from coterie.training.history import EpochRecord, History, read_history
from coterie.training.plan import Plan, RunSettings, make_plan, resolved
from coterie.training.runfolder import RunFolder
from coterie.training.seeds import generator_of, seed_of
from coterie.types import Assignments, CoterieError, InputError, ItemSpec, RunFailed, Source
from coterie.views.normalise import normalisation, unit_range
from coterie.views.recipes import Family


@dataclass
class RunResult:
    """A finished run: the model, its assignments, its history and its record (what `run.yaml` says)."""

    model: Model
    assignments: Assignments
    history: History
    record: dict[str, Any]
    source: Source


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


def run(
    source: Any,
    settings: RunSettings,
    out: Path | None = None,
    *,
    resume: bool = False,
    command: str = "",
    watch: Watch | None = None,
) -> RunResult:
    """Fit `source`, keep everything in the folder `out` (None: in memory). Raises InputError and RunFailed."""
    watch = watch or Watch()
    prepared = prepare(source, settings, out, resume=resume, watch=watch)
    watch.ready(prepared.source)
    folder, plan = prepared.folder, prepared.plan
    folder.update(**prepared.record(command))
    begun = time.monotonic()
    try:
        net = train(prepared, watch)
        model = Model(
            net, plan.method, settings.n_clusters, prepared.backbone.name, prepared.source.items.spec, prepared.family
        )
        if plan.calibration is not None:
            calibrate(model, prepared, watch)
        watch.say("predicting all items")
        assignments = model.predict(prepared.source, embedding=True, progress=watch.predicted)
        check_result(assignments, settings.n_clusters, prepared.warnings)
        assert assignments.embedding is not None
        groups = assignments.probabilities.argmax(1)
        model.bank = make_bank(assignments.embedding, groups, settings.n_clusters, settings.seed)
        seconds = round(time.monotonic() - begun + prepared.seconds_before, 1)
        if folder.path is not None and prepared.is_main:
            write_run_files(folder.path, model, prepared.source, assignments, store_embedding=settings.store_embedding)
    except KeyboardInterrupt:
        folder.update(status="stopped")
        raise
    except Exception as error:
        known = isinstance(error, CoterieError)
        reason = getattr(error, "reason", str(error) if known else repr(error))
        folder.update(
            status="failed", failure={"reason": reason, "advice": getattr(error, "advice", "Go on with --resume.")}
        )
        raise
    folder.update(status="done", seconds=seconds, warnings=prepared.warnings)
    return RunResult(model, assignments, prepared.history, folder.record, prepared.source)


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
        image_size=settings.image_size,
        cache=cache,
        max_skipped=settings.max_skipped,
    )
    spec = opened.items.spec
    family: Family = opened.family
    if spec.kind == "images" and settings.family != "auto":
        family = settings.family
    device = accelerator.device
    side = max(spec.height, spec.width)
    facts = Facts(len(opened.items), settings.n_clusters, spec.kind, str(device), side, spec.dim)
    plan = make_plan(settings, facts, opened.name)
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


def train(prepared: Prepared, watch: Watch) -> Net:
    """Train the stages one after the other; a stage that is done is read from the disk."""
    before = prepared.init.net if prepared.init is not None else None
    net: Net | None = None
    for method in prepared.plan.stages:
        last = method is prepared.plan.method
        name = name_of(method)
        done = prepared.folder.file("checkpoints", f"{name}.done.safetensors")
        net = build_net(prepared, method, before)
        if done is not None and done.exists():
            watch.say(f"stage {name} is done already")
            net.load_state_dict(load_tree(done, prepared.device)["net"])
        else:
            _train_one(net, method, prepared, watch, last=last)
            wait_for_all()  # before the files change that the others may still look for
            if done is not None and prepared.is_main:
                save_tree(done, {"net": net.state_dict()})
                done.with_name(f"{name}.safetensors").unlink(missing_ok=True)
        before = net
    assert net is not None
    return net


def _train_one(net: Net, method: Method, prepared: Prepared, watch: Watch, *, last: bool) -> None:
    items, settings, name = prepared.source.items, prepared.settings, name_of(method)

    def features() -> torch.Tensor:
        return extract_features(net, items).to(prepared.device)

    def warn(text: str) -> None:
        prepared.warnings.append(text)
        watch.say(text)

    stage = Stage(
        method,
        items,
        prepared.family,
        settings.n_clusters,
        settings.seed,
        prepared.plan.views,
        features,
        prepared.history,
        checkpoint=prepared.folder.file("checkpoints", f"{name}.safetensors"),
        checkpoint_seconds=settings.checkpoint_seconds,
        progress=watch.progress,
        rank=prepared.rank,
        processes=prepared.processes,
        after_epoch=list(watch.after_epoch),
        extra=prepared.source.extra,
        warn=warn,
    )
    try:
        train_stage(net, stage)
        if last:
            with torch.no_grad():
                method.finish(net, features, settings.n_clusters, generator_of(settings.seed, name, "finish"))
    except NotFinite as error:  # K-means may meet the first NaN before the losses are looked at
        raise RunFailed(f"The features of stage {name} are not finite any more.", SMALLER_STEPS.format(name)) from error


def build_net(prepared: Prepared, method: Method, before: Net | None) -> Net:
    """A net for one stage: backbone and inherited heads as the stage before left them, all other heads fresh."""
    settings, spec = prepared.settings, prepared.source.items.spec
    torch.manual_seed(seed_of(settings.seed, name_of(method), "weights"))
    fresh = before is None
    trunk = build_backbone(
        prepared.backbone.name,
        spec,
        pretrained=settings.pretrained and fresh,
        weights=settings.weights if fresh else None,
    )
    if before is not None:
        trunk.load_state_dict(before.backbone.trunk.state_dict())
    if prepared.init is not None:
        mean, std = prepared.init.net.mean, prepared.init.net.std
    else:
        # One scale for all stages: that of the first, for the others go on with its weights.
        scale = unit_range if prepared.plan.stages[0].card.scaling == "unit" else normalisation
        mean, std = scale(prepared.source.items)
    net = Net(trunk, spec, mean, std, half=prepared.precision.name == "bf16")
    net.add(method.heads(net, settings.n_clusters))
    if before is not None:
        for name in method.card.inherits:
            net.get_submodule(name).load_state_dict(before.get_submodule(name).state_dict())
    share_batch_norm(net)
    return net.to(prepared.device)


def calibrate(model: Model, prepared: Prepared, watch: Watch) -> None:
    """Let the finished run teach a calibration head on its own features, which then gives the answer.

    Features and targets are functions of the last stage, which is on the disk, so a killed run that is resumed goes on
    from the calibration's own checkpoint.
    """
    settings = prepared.plan.calibration
    assert settings is not None
    watch.say("predicting all items for the calibration head")
    said = model.predict(prepared.source, embedding=True)
    check_result(said, model.k, [])  # of a collapsed run nothing is worth calibrating
    assert said.embedding is not None
    width = said.embedding.shape[1]
    method = PostHoc(settings, said.probabilities)
    seed = seed_of(prepared.settings.seed, "calibrate", "weights")
    net = calibration_net(method, torch.zeros(width), torch.ones(width), seed)
    share_batch_norm(net)
    net.to(prepared.device)
    source = replace(prepared.source, items=Embeddings(said.embedding.numpy()), extra=None)
    _train_one(net, method, replace(prepared, source=source, family="vector"), watch, last=True)
    model.calibrate_by(net.post_hoc, settings)


def check_result(assignments: Assignments, k: int, warnings: list[str]) -> None:
    """Raise RunFailed for a result in one group; warn of groups without an item."""
    sizes = assignments.probabilities.argmax(1).bincount(minlength=k)
    if int((sizes > 0).sum()) < 2:
        raise RunFailed("The run collapsed: every item is in the same group.", "Train longer, or raise entropy_weight.")
    if empty := int((sizes == 0).sum()):
        warnings.append(f"{empty} of the {k} groups are empty: a smaller -k may suit these data.")


def write_run_files(
    out: Path, model: Model, source: Source, assignments: Assignments, *, store_embedding: bool
) -> None:
    """The model, the result table, and what the report shows beside them: a few images and a map of the items."""
    model.save(out / "model")
    write_result(out / "result.parquet", assignments if store_embedding else replace(assignments, embedding=None))
    confidence, labels = (t.numpy() for t in assignments.probabilities.max(1))
    if source.items.spec.kind == "images":
        shown = gallery_rows(labels, confidence)
        images = source.items.take(torch.from_numpy(shown.rows).long()).permute(0, 2, 3, 1).numpy()
        ids = np.array([str(assignments.ids[row]) for row in shown.rows.tolist()])
        _save_npz(out / "gallery.npz", rows=shown.rows, cluster=shown.cluster, kind=shown.kind, images=images, ids=ids)
    assert assignments.embedding is not None
    rows = map_rows(len(labels))
    _save_npz(
        out / "map.npz", rows=rows, xy=project(standardise_rows(assignments.embedding[torch.from_numpy(rows)]).numpy())
    )


def _save_npz(path: Path, **arrays: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())


def evaluate_run(out: Path, labels: Labels) -> dict[str, Any]:
    """Compare a finished run's result table with true labels and keep the numbers in `metrics.json`."""
    table = read_result(out / "result.parquet")
    by_head = {name: evaluate(labels.codes, p, class_names=labels.names) for name, p in table.heads.items()}
    answer = next(iter(by_head.values()))
    heads = {
        name: {key: value for key, value in numbers.items() if key == "sizes" or not isinstance(value, dict | list)}
        for name, numbers in by_head.items()
    }
    metrics = {**answer, "heads": heads}
    write_atomically(out / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    return metrics


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
