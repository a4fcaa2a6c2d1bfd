"""Everything that can be known and checked before training starts: source, settings, plan, backbone, device, folder.

A run that gets past `prepare` can only fail for reasons that training brings to light.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coterie.catalogue import method_class
from coterie.common.outputs import check_folder
from coterie.contract import Card, Facts, name_of
from coterie.data.originals import absolute_path
from coterie.networks.backbones import BackboneChoice, width_of
from coterie.networks.net import weights_digest
from coterie.prediction.model import Model, load_model
from coterie.records.review import REVIEWED
from coterie.records.run import read_record
from coterie.review.before import is_reviewed
from coterie.review.log import FOLDER, check_closed, was_reviewed
from coterie.running.beginning import (
    adapted,
    backbone_of,
    check_beginning,
    check_spaces,
    extra_items,
    few_photos,
    first_weights,
    with_beginning,
)
from coterie.running.deciding import by_items, resolve
from coterie.running.finetuning import Teacher, finetuned, lighter
from coterie.running.judgements import Judgements, read_judgements
from coterie.running.opening import opened_source, paths_of, set_of, teacher_for
from coterie.running.prepared import Prepared, Watch
from coterie.training.device import Place, accelerator_for, choose_precision
from coterie.training.distributed import wait_for_all
from coterie.training.history import History, read_history
from coterie.training.idle import unheeded
from coterie.training.plan import (
    Plan,
    RunSettings,
    balance_term,
    check_accepts,
    make_plan,
    method_name,
    unequal_advice,
)
from coterie.training.presets import unpublished
from coterie.training.runfolder import Resume, RunFolder
from coterie.types import InputError, Source


def prepare(
    source: Any,
    settings: RunSettings,
    out: Path | None,
    *,
    resume: Resume,
    watch: Watch,
    cache: Path | None = None,
) -> Prepared:
    """Check everything that can be checked before training: settings, folder, data, plan."""
    settings = resolve(settings)
    place = accelerator_for(settings.device)
    folder = RunFolder(out, writes=place.is_main_process)
    check_folder(out, [*paths_of(source), settings.init, settings.weights, settings.judged])
    folder.prepare(resume=resume)
    wait_for_all()
    try:
        return _prepare(
            source, settings, folder, place, resume=bool(resume), watch=watch, cache=folder.file("cache") or cache
        )
    except BaseException:
        folder.release()
        raise


def _prepare(
    source: Any,
    settings: RunSettings,
    folder: RunFolder,
    place: Place,
    *,
    resume: bool,
    watch: Watch,
    cache: Path | None,
) -> Prepared:
    """The run, with its folder in hand: the models it begins with, its items, the plan for them, what came before."""
    settings = calibrated_where_judged(settings)
    card = check_beginning(settings)
    init, taught_by, gone = _models(settings, folder)
    read_at = round(time.time(), 3)
    settings, opened, encode = opened_source(source, settings, cache, place, init, watch, taught_by)
    chosen = settings.by_items or bool(settings.trained_by)
    settings, said = by_items(settings, opened)
    if said:  # the items have made it another method
        card = method_class(method_name(settings.method)).card
    teacher = None
    if taught_by is not None:
        settings = replace(settings, n_clusters=taught_by.k)
        teacher = teacher_for(
            source, settings, opened, taught_by, cache if place.is_main_process else None, place, watch
        )
    check_spaces(opened.items.spec, card, settings)
    if settings.n_clusters == "auto":  # looking for their number takes a while
        check_accepts(method_name(settings.method), opened.items.spec.kind)
    settings, chosen_k = _with_k(settings, card, opened, watch)
    notes = [*gone, encode.said] if encode is not None and encode.said else gone
    name = method_name(settings.method)
    chosen = chosen and not any(setting.startswith(f"{name}.") for setting in settings.overrides)
    # The record has the settings that the user gave, by which a run with another seed is known for the same.
    asked = settings if taught_by is None else lighter(settings, len(opened.items))
    with _explained(name if chosen else None, said):
        plan, backbone = _planned(asked, card, opened, set_of(source), place, init, teacher, [*notes, *said])
    spec = opened.items.spec
    backbone, start = first_weights(settings, plan, backbone, spec, folder, resume=resume)
    changed = adapted(start, folder, resume=resume)
    plan.notes.extend(changed)
    plan.notes.extend([] if teacher is None else _said_of(teacher, str(settings.init)))
    earlier = _earlier(folder, place, resume=resume)
    judged = _judgements(settings, opened)
    plan.notes.extend([] if judged is None else judged.notes)
    prepared = Prepared(
        source=opened,
        settings=settings,
        plan=plan,
        backbone=backbone,
        precision=choose_precision(settings.precision, spec, place.device),
        device=place.device,
        family=opened.family,
        folder=folder,
        history=earlier.history,
        rank=place.process_index,
        processes=place.num_processes,
        init=init,
        start=start if teacher is None else teacher.start,
        teacher=teacher,
        seconds_before=earlier.seconds,
        embedding_seconds=None if encode is None or encode.seconds is None else encode.seconds + earlier.embedding,
        warnings=[*opened.warnings, *(text for text in earlier.warnings if text not in opened.warnings)],
        path=absolute_path(source),
        read_at=read_at,
        chosen_k=chosen_k,
        beginning=_beginning(settings, init or taught_by, changed),
        judged=judged,
    )
    record = prepared.record("")
    folder.check_same(record)
    check_review(folder.path, calibrates=record["calibration"] is not None)
    return prepared


@contextmanager
def _explained(method: str | None, said: Sequence[str]) -> Iterator[None]:
    """Let an InputError about a setting of a method that nobody named say why it is that one."""
    try:
        yield
    except InputError as error:
        if method is None or f" {method}." not in f" {error}":
            raise
        why = " ".join(said) or f"--method auto comes to {method} for such items."
        raise InputError(f"{error} {why.rstrip('.')}.") from error


def _said_of(teacher: Teacher, init: str) -> list[str]:
    """What to say of the run that teaches an encoder."""
    reviewed = (
        f"{init} was reviewed, and the encoder is taught by its groups before that: judgements never train a net."
    )
    return [finetuned(teacher), *([reviewed] if is_reviewed(Path(init)) else [])]


def check_review(out: Path | None, *, calibrates: bool) -> None:
    """Raise InputError where somebody reviews the run now, or a calibration would change what was reviewed."""
    if out is None:
        return
    check_closed(out)
    if not was_reviewed(out):
        return
    if calibrates != bool(read_record(out).get("calibration")):
        raise InputError(
            f"{out} was reviewed, and the review is of its confidences, which this command would replace by "
            f"{'calibrated' if calibrates else 'uncalibrated'} ones: give it a copy of the run without {FOLDER}/ and "
            f"{REVIEWED}."
        )


def _models(settings: RunSettings, folder: RunFolder) -> tuple[Model | None, Model | None, list[str]]:
    """The run to start from, or instead the run by whose groups an encoder is to be fine-tuned.

    Where it is gone, the folder of a run that goes on has its model; the list has a note on that.
    """
    if settings.init is None:
        assert not settings.finetune
        return None, None, []
    place, notes = Path(settings.init), list[str]()
    if (kept := folder.start_kept) is not None and folder.path is not None and not os.path.lexists(place):
        begun = read_record(folder.path).get("beginning") or {}
        if begun.get("path") == absolute_path(settings.init):  # not of a path that was mistyped
            notes = [f"{settings.init} is not there any more: the run goes on with the model that it kept of it."]
            place = kept
    model = load_model(place)
    return (None, model, notes) if settings.finetune else (model, None, notes)


def _beginning(settings: RunSettings, model: Model | None, changed: list[str]) -> dict[str, Any] | None:
    """What the backbone begins with, for the record: a run is known by its net wherever it lies, a file by its path."""
    given, notes = settings.init or settings.weights, {"notes": changed} if changed else {}
    if given is None:
        return notes or None
    path = {"path": absolute_path(given) or given, **notes}
    return path if model is None else {**path, "sha256": weights_digest(model.net)}


def _judgements(settings: RunSettings, opened: Source) -> Judgements | None:
    """What people judged of the run to start from, where that is given."""
    if settings.judged is None:
        return None
    assert settings.init is not None
    return read_judgements(settings.init, settings.judged, opened)


def _with_k(
    settings: RunSettings, card: Card, opened: Source, watch: Watch
) -> tuple[RunSettings, dict[str, Any] | None]:
    """The settings with a number for -k auto, where the method takes one, and how that number came about."""
    if settings.n_clusters != "auto" or card.without_k:
        return settings, None
    from coterie.choosing import settle  # imports scikit-learn, 1.3 s

    k, chosen = settle(opened, settings.seed, watch.say)
    return replace(settings, n_clusters=k), chosen


def _planned(
    settings: RunSettings,
    card: Card,
    opened: Source,
    published: str,
    place: Place,
    init: Model | None,
    teacher: Teacher | None,
    notes: Sequence[str],
) -> tuple[Plan, BackboneChoice]:
    """The plan for these items, with these notes and its own, and the backbone before it has weights.

    published: the named set whose rows a published preset takes.
    """
    facts, spec = _facts_of(opened, settings, place), opened.items.spec
    backbone = backbone_of(settings, card, init, spec, facts.device) if teacher is None else teacher.start.choice
    if not card.trains_backbone:
        facts = replace(facts, width=width_of(backbone, spec) if init is None else init.net.width)
    plan = make_plan(settings, facts, published)
    by_preset = plan.stages if isinstance(settings.method, str) else plan.stages[:-1]
    defaults = [said for stage in by_preset if (said := unpublished(name_of(stage), settings.preset, published))]
    plan.notes.extend([*notes, *defaults, *_notes_on(plan, settings, opened, backbone, init)])
    return with_beginning(plan, settings, backbone, spec, init), backbone


def _notes_on(
    plan: Plan, settings: RunSettings, opened: Source, backbone: BackboneChoice, init: Model | None
) -> list[str]:
    """What the user should know of a plan for these items before it is trained."""
    term = balance_term(plan.method)
    balance = [f"{term} draws groups to equal sizes; {unequal_advice(opened.items.spec)}."] if term else []
    about_items = [*few_photos(plan, opened.family, init), *extra_items(plan, opened)]
    idle = unheeded(plan, settings, opened, own_values=backbone.name == "identity")
    return [*balance, *about_items, *idle]


def _facts_of(opened: Source, settings: RunSettings, place: Place) -> Facts:
    """What presets may depend on."""
    spec, n = opened.items.spec, len(opened.items) - len(opened.outliers)
    given = settings.pretrained or settings.weights is not None or settings.finetune
    side = max(spec.height, spec.width)
    spaces = max(1, len(spec.spaces))
    return Facts(n, settings.k, spec.kind, str(place.device), side, spec.dim, spaces=spaces, loaded=given)


@dataclass(frozen=True)
class Earlier:
    """What a run has done so far: its history, seconds of epochs and of embedding, warnings that it goes on with."""

    history: History
    seconds: float = 0.0
    embedding: float = 0.0
    warnings: Sequence[str] = ()


def _earlier(folder: RunFolder, place: Place, *, resume: bool) -> Earlier:
    """What the run of a folder has done so far."""
    out = folder.path
    if out is None:
        return Earlier(History(None))
    record = read_record(out) if resume and (out / "run.yaml").exists() else {}
    warned = list(record.get("warnings") or ())  # those of a stage that is done are not found again
    history = read_history(out / "history.jsonl")
    if not place.is_main_process:
        history.path = None
    seconds = sum(one.seconds for one in history.records) if resume else 0.0
    return Earlier(history, seconds, record.get("embedding_seconds") or 0.0, warned)


def calibrated_where_judged(settings: RunSettings) -> RunSettings:
    """Judgements are for the calibration head, so there is to be one. Raises InputError where there cannot be."""
    if settings.judged is None:
        return settings
    if settings.init is None:
        raise InputError("--judged is about a finished run: give that run with --init.")
    if settings.calibrate is False:
        raise InputError("--judged is for the calibration head alone: leave --no-calibrate out.")
    return replace(settings, calibrate=True)
