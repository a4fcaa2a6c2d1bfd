"""The plan of a run: which stages, each with every setting resolved, before anything is trained."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, cast

from coterie.calibration import Calibration, practical_calibration
from coterie.calibration.post_hoc import CARD as calibration_card
from coterie.catalogue import method_class, method_names, own_names, register
from coterie.common.bounds import Epochs, Groups, Seconds, Seed, Share, Side
from coterie.contract import (
    Facts,
    Method,
    calibrated,
    check,
    finds_groups,
    name_of,
)
from coterie.training.chain import chain_of
from coterie.training.coerce import OPTIONS, coerce, current_names, settings_of, shown
from coterie.training.device import Precision
from coterie.training.fitting import beyond_groups, fit_to_data
from coterie.training.idle import chosen
from coterie.training.presets import IMAGE_SIZE, preset_of, published_row
from coterie.types import InputError, ItemSpec
from coterie.views.settings import ViewSettings, practical_views

OF_THE_RUN = ("store_embedding", "max_skipped", "checkpoint_seconds")  # settings of no stage that have no option
OTHER_PARTS: dict[str, type[Any]] = {"views": ViewSettings, "calibrate": Calibration}  # of a run, beside its stages


@dataclass(frozen=True)
class RunSettings:
    """What a user may set for a run; everything has a default that needs no labels."""

    n_clusters: Groups | Literal["auto"] = 8  # auto: the method is to find it
    method: Any = "cdc"  # a method's name, or its settings object
    by_items: bool = False  # of method auto: once the items are known it may become another
    trained_by: tuple[str, ...] = ()  # of method auto: the options that say that a net is to be trained
    seed: Seed = 0  # of all random numbers
    epochs: Epochs | None = None  # of the last stage; None: the preset's
    # practical | paper (the published row of a named data set, else the paper's defaults), both also as paper:DATASET;
    # text: the paper's words, where its authors' code, which is `paper`, does otherwise
    preset: str = "practical"
    init: str | None = None  # a run folder whose backbone is the start; its stages are not trained again
    finetune: bool = False  # train the encoder of `init`, a run on an encoder's embeddings, by self-labelling
    encoder: str | None = None  # of pictures, before all stages: a name, auto, none; None: auto with method auto
    pretrain: str = "auto"  # the method that trains the backbone before; auto: the one of the method's card; none
    backbone: str = "auto"  # auto: by the data; small-16, small-32, mlp, or a name of timm
    pretrained: bool = False  # timm's weights for the backbone, downloaded
    weights: str | None = None  # a local file of backbone weights
    device: str = "auto"  # auto: a GPU where there is one; cpu, cuda, cuda:1, mps
    precision: Precision = "auto"  # bf16 or fp32; auto: by the device and the data
    image_size: Side | None = None  # side in pixels to which images are resized; None: by the data
    family: Literal["auto", "photo", "glyph"] = "auto"  # photo | glyph: which distortions keep an image's meaning
    columns: str | tuple[str, ...] | None = None  # the features of a table: names, "f0..f63", "f*"; None: where plain
    overrides: Mapping[str, Any] = field(default_factory=dict)  # "method.cells": 40, "moco.epochs": 5, "views.flip": 0
    max_skipped: Share = 0.2  # share of unreadable images above which a run does not start
    # a calibration head on the features of the finished run; auto: after every method that is not calibrated by itself
    calibrate: bool | Literal["auto"] = "auto"
    judged: str | None = None  # a file of judgements about the run `init`; only the calibration head sees them
    store_embedding: bool = False  # also in result.parquet
    checkpoint_seconds: Seconds = 60.0  # between two checkpoints

    @property
    def k(self) -> int:
        """The number of groups asked for; 0 where the method is to find it."""
        return 0 if self.n_clusters == "auto" else self.n_clusters


@dataclass(frozen=True)
class Plan:
    """The resolved stages of a run, first to last."""

    stages: list[Method]
    views: ViewSettings
    notes: list[str]
    calibration: Calibration | None = None  # after the last stage, on its features
    facts: Facts | None = None
    calibration_given: Mapping[str, Any] = field(default_factory=dict)  # settings that the user chose
    views_given: frozenset[str] = frozenset()  # those of views
    given: Mapping[str, frozenset[str]] = field(default_factory=dict)  # those of each stage

    @property
    def method(self) -> Method:
        return self.stages[-1]

    @property
    def calibrated(self) -> bool:
        """Whether the run's answer is that of a head which is taught how far it can be believed."""
        return self.calibration is not None or calibrated(self.method)

    def logs(self) -> dict[str, Mapping[str, tuple[str, str]]]:
        """The report's names of the numbers that each stage logs, by stage."""
        cards = [(name_of(stage), stage.card) for stage in self.stages]
        if self.calibration is not None:
            cards.append((calibration_card.stage, calibration_card))
        return {name: card.logs for name, card in cards if card.logs}

    def calibration_of(self, k: int) -> Calibration:
        """The settings of the calibration head, for the number of groups that was found where none was asked for."""
        assert self.calibration is not None
        assert self.facts is not None
        return self.calibration if self.facts.k else calibration_for(replace(self.facts, k=k), self.calibration_given)


def method_name(given: Any) -> str:
    """The name of a method, given as its name or as a settings object; the object's class is then registered.

    Raises InputError for anything else.
    """
    if isinstance(given, str):
        return given
    if isinstance(given, type) or not is_dataclass(given) or not isinstance(given, Method):
        what = f"the class {given.__name__}" if isinstance(given, type) else f"{given!r:.80}"
        raise InputError(
            f"method is {what}: give a method's name, such as 'cdc', or its settings, such as CDC(cells=40)."
        )
    register(type(given))
    return name_of(given)


def check_overrides(settings: RunSettings) -> None:
    """Raise InputError for single settings that are wrong whatever the source holds, before pictures are embedded.

    Where method auto may still come to several, those without a stage's name wait for the plan.
    """
    last = "" if settings.by_items or settings.trained_by else method_name(settings.method)
    for path, value in settings.overrides.items():
        stage, _, setting = path.rpartition(".")
        if not stage and setting in (*OPTIONS, "n_clusters"):
            continue
        stage = last if stage in ("method", "") else stage
        if stage in OTHER_PARTS:
            coerce(OTHER_PARTS[stage], {setting: value}, stage)
        elif stage in own_names():
            settings_of(method_class(stage), {setting: value}, stage)
    if last and settings.epochs is not None:
        settings_of(method_class(last), {"epochs": settings.epochs}, last)


def make_plan(settings: RunSettings, facts: Facts, source_name: str) -> Plan:
    """Resolve every setting of every stage. Raises InputError before anything is trained."""
    given, name = settings.method, method_name(settings.method)
    if settings.n_clusters == "auto":
        check_finds(name)
    else:
        check_clusters(settings.n_clusters, facts.n)
    names = chain_of(name, facts.kind, settings.init, weights=facts.loaded, pretrain=settings.pretrain)
    check_accepts(name, facts.kind)
    notes: list[str] = []
    overrides = _by_stage(settings.overrides, names)
    for stage in names:
        overrides[stage] = current_names(method_class(stage), overrides[stage], stage, notes)
    chosen_by_user = {stage: frozenset(overrides[stage]) for stage in names}
    if not isinstance(given, str):
        chosen_by_user[names[-1]] |= chosen(given)
    stages: list[Method] = []
    for stage in names:
        values = dict(overrides[stage])
        last = stage == names[-1]
        if last and settings.epochs is not None:
            if values.setdefault("epochs", settings.epochs) != settings.epochs:
                notes.append(f"--epochs {settings.epochs} was taken, and not {stage}.epochs={shown(values['epochs'])}.")
            values["epochs"] = settings.epochs
        if last and not isinstance(given, str):
            method = settings_of(type(given), {**_asdict(given), **values}, stage)
        else:
            values = {**_finding(stage, settings, last=last), **values}
            preset = preset_of(stage, settings.preset, facts, source_name, last=last)
            method = settings_of(method_class(stage), {**preset, **values}, stage)
        stages.append(fit_to_data(method, stage, values, facts, notes))
    fitted_to_data = settings.preset == "practical"
    for method in stages:
        check(method, facts)
        stage = name_of(method)
        notes += beyond_groups(method, stage, chosen_by_user[stage] if fitted_to_data else None, facts)
    if settings.preset == "practical":
        views = practical_views(facts.side, facts.dim)
    else:
        rows = [published_row(stage, settings.preset, source_name, last=stage == names[-1]) for stage in names]
        published = {key: value for row in rows for key, value in row.items() if key.startswith("views.")}
        views = {key.removeprefix("views."): value for key, value in published.items()}
    calibration = _calibration(overrides["calibrate"], facts, settings.calibrate, stages[-1])
    view_settings = coerce(ViewSettings, {**views, **overrides["views"]}, "views")
    given_views = frozenset(overrides["views"])
    return Plan(stages, view_settings, notes, calibration, facts, overrides["calibrate"], given_views, chosen_by_user)


def unequal_advice(spec: ItemSpec) -> str:
    """What to do about groups of very different sizes where a term draws them to equal ones.

    Of a group of 1 % that stands apart, ae, dec and vade find what cdc shares out (docs/methods/cdc.md).
    """
    which = "give ae, dec or vade one of the spaces" if spec.spaces else "take ae, dec or vade"
    return f"for very unequal groups {which}, which have no such term"


def balance_term(method: Method) -> str | None:
    """The setting, such as cdc.entropy_weight, by which the method draws groups to equal sizes, where it is not 0."""
    name = method.card.balance
    return f"{name_of(method)}.{name}" if name is not None and getattr(method, name) > 0 else None


def _calibration(
    given: Mapping[str, Any], facts: Facts, asked: bool | Literal["auto"], method: Method
) -> Calibration | None:
    """The calibration head's settings; None where there is to be none."""
    wanted = not calibrated(method) if asked == "auto" else asked
    if wanted:
        return calibration_for(facts, given)
    if given:
        why = f"{name_of(method)} is calibrated by itself" if asked == "auto" else "nothing is to be calibrated"
        raise InputError(f"Setting calibrate.{next(iter(given))} is set, but {why}: add --calibrate, or leave it out.")
    return None


def calibration_for(facts: Facts, given: Mapping[str, Any]) -> Calibration:
    """The settings of a calibration head: those given, and the practical ones for the rest. Raises InputError."""
    settings = coerce(Calibration, {**practical_calibration(facts), **given}, "calibrate")
    if "cells" not in given:  # of a batch that the user made smaller there are no more mini-clusters than items
        settings = replace(settings, cells=min(settings.cells, settings.batch_size))
    settings.check(facts)
    return settings


def image_size_of(settings: RunSettings, source_name: str) -> int | None:
    """The side in pixels to which images are brought: the user's, else that of the preset's published row, if any.

    A method without a row of the set takes the size at which the stage before it is published.
    """
    if settings.image_size is not None or settings.preset == "practical":
        return settings.image_size
    name, loaded = method_name(settings.method), settings.pretrained or settings.weights is not None
    names = chain_of(name, "images", settings.init, weights=loaded, pretrain=settings.pretrain)
    rows = [published_row(stage, settings.preset, source_name, last=stage == name) for stage in reversed(names)]
    return next((row[IMAGE_SIZE] for row in rows if IMAGE_SIZE in row), None)


def check_several(k: int) -> None:
    """Raise InputError for fewer than two groups."""
    if k < 2:
        raise InputError(f"-k is {k}: at least 2 groups are needed.")


def check_clusters(k: int, n: int) -> None:
    """Raise InputError for fewer than two groups, and for more than there are items."""
    check_several(k)
    if k > n:
        raise InputError(f"-k is {k}, but the source has only {n} items: use a smaller one.")


def check_finds(name: str) -> None:
    """Raise InputError for a run without a number of groups whose method needs one."""
    if not finds_groups(method_class(name)):
        able = [other for other in method_names() if finds_groups(method_class(other))]
        raise InputError(f"Method {name!r} needs the number of groups (-k 10); {' or '.join(able)} can find it.")


def _finding(stage: str, settings: RunSettings, *, last: bool) -> Mapping[str, Any]:
    return method_class(stage).card.without_k if last and settings.n_clusters == "auto" else {}


def check_accepts(name: str, kind: str) -> None:
    """Raise InputError for items of a kind, images or embeddings, that the method does not read."""
    accepts = method_class(name).card.accepts
    if kind not in accepts:
        raise InputError(f"Method {name!r} takes {' or '.join(accepts)}, but the source holds {kind}.")


def _settings_of(stage: str) -> set[str]:
    return {field.name for field in fields(cast(Any, method_class(stage)))} | set(method_class(stage).card.renamed)


def _by_stage(overrides: Mapping[str, Any], names: list[str]) -> dict[str, dict[str, Any]]:
    """Sort `stage.setting` overrides by stage; `method` stands for the last one.

    Raises InputError for an unknown stage, and for two values of one setting under two names.
    """
    sorted_out: dict[str, dict[str, Any]] = {name: {} for name in [*names, *OTHER_PARTS]}
    named: dict[tuple[str, str], str] = {}
    for path, value in overrides.items():
        stage, _, setting = path.rpartition(".")
        if not stage and setting in (*OPTIONS, "n_clusters") and setting not in _settings_of(names[-1]):
            option = "-k" if setting == "n_clusters" else f"--{setting.replace('_', '-')}"
            raise InputError(f"{setting} is no setting of {names[-1]}: give it as {option}.")
        stage = names[-1] if stage in ("method", "") else stage
        if stage not in sorted_out:
            near = difflib.get_close_matches(stage, list(sorted_out), n=1)
            hint = f"did you mean {near[0]}?" if near else f"this run has {', '.join(sorted_out)}."
            raise InputError(f"Unknown part {stage!r} in the setting {path}; {hint}")
        other = named.setdefault((stage, setting), path)
        if other != path and repr(sorted_out[stage][setting]) != repr(value):
            raise InputError(f"--set {other} and --set {path} are one setting, with two values: leave one out.")
        sorted_out[stage][setting] = value
    return sorted_out


def _asdict(method: Method) -> dict[str, Any]:
    return asdict(cast(Any, method))


def resolved(method: Method) -> dict[str, Any]:
    """All settings of a method as plain values, for `run.yaml`."""
    return _asdict(method)
