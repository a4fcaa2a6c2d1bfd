"""What the backbone of a run begins with: random weights, those of a file or of timm, or another run's.

It is checked before anything is trained; what the user should know becomes a note of the plan.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from coterie.catalogue import method_class, method_names
from coterie.contract import Card, Facts, Method, heads_of, is_trained, name_of, passes_of, setting_names
from coterie.networks.backbones import BackboneChoice, Start, build_backbone, check_start, choose_backbone, start_of
from coterie.networks.draws import forms_alone
from coterie.networks.net import Net, trainable
from coterie.prediction.model import Model
from coterie.records.run import read_record
from coterie.training.chain import pretraining
from coterie.training.plan import Plan, RunSettings, check_overrides, method_name
from coterie.training.runfolder import RunFolder
from coterie.types import Family, InputError, ItemSpec, Source

FEW_PHOTOS = 5000  # below: 3,000 photos of CIFAR-10 end where K-means on their pixels does
TOO_FEW = (
    "{:,} photos are few for a network that starts from random weights; it may find no more than K-means on the pixels "
    "does. Better: begin with weights (--backbone resnet18 --pretrained, or --weights FILE), with another run's "
    "backbone (--init RUN), or group what an encoder sees (--encoder efficientnet-lite0, or embeddings as .npy)."
)


def check_beginning(settings: RunSettings) -> Card:
    """The method's card.

    Raises InputError for an unknown method or setting, and where two options set the backbone's start.
    """
    card = method_class(method_name(settings.method)).card
    given = {"--init": settings.init, "--pretrained": settings.pretrained or None, "--weights": settings.weights}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} each give the backbone its weights: leave all but one out.")
    if settings.pretrain not in ("auto", "none"):
        pretraining(settings.pretrain)
    check_overrides(settings)
    return card


def check_spaces(spec: ItemSpec, card: Card, settings: RunSettings) -> None:
    """Raise InputError for several spaces of features with a method, or an option, that takes only one."""
    if spec.spaces and not card.spaces:
        able = " or ".join(name for name in method_names() if method_class(name).card.spaces)
        raise InputError(
            f"{card.title} groups the features of one space, and {len(spec.spaces)} were given: choose --method "
            f"{able}, or give one of them."
        )
    if spec.spaces and settings.n_clusters == "auto":
        raise InputError("-k auto looks at one space of features: ask coterie choose-k about one, and give its answer.")


def size_beside(init: Model | None, settings: RunSettings, published: int | None) -> str | None:
    """A note where `published`, the image size of the preset's row, is not that of the run to start from, which stays.

    Raises InputError where the user asks for another size than that run has.
    """
    if init is None or init.spec.kind != "images" or (init.spec.height, init.spec.width) == (published, published):
        return None
    its = f"{init.spec.width}x{init.spec.height} pixels"
    if settings.image_size is not None:
        raise InputError(
            f"--image-size is {settings.image_size}, but {settings.init} was trained on images of {its}: leave it out, "
            "or start from a run of that size."
        )
    if published is None:
        return None
    return f"The images stay at {its}, as in {settings.init}; the published row has {published} a side."


def backbone_of(settings: RunSettings, card: Card, init: Model | None, spec: ItemSpec, device: str) -> BackboneChoice:
    """The backbone, by name. Raises InputError for a run to start from, or for weights, that do not fit."""
    if init is not None:
        _check_init(settings, card, init)
        return BackboneChoice(init.backbone, f"of {settings.init}")
    backbone = _backbone_for(card, settings, spec, device)
    if settings.pretrained:
        check_start(backbone, spec)
    return backbone


def with_beginning(
    plan: Plan, settings: RunSettings, backbone: BackboneChoice, spec: ItemSpec, init: Model | None
) -> Plan:
    """The plan, adapted to what its backbone begins with.

    Raises InputError where nothing could be learned, and where a stage cannot go on with the heads before it.
    """
    facts = plan.facts
    assert facts is not None
    if init is not None:
        plan = _with_its_rows(plan, settings, init)
    _check_trained(plan, backbone, loaded=facts.loaded or init is not None)
    if backbone.name == "identity":
        _check_learns(plan, settings, backbone, spec, init)
    check_inherited(plan, settings, backbone, spec, init)
    return plan


def check_inherited(
    plan: Plan, settings: RunSettings, backbone: BackboneChoice, spec: ItemSpec, init: Model | None
) -> None:
    """Raise InputError where a stage goes on with a head that would have another form than it has in the stage before.

    That would come to light only after the stage before was trained.
    """
    assert plan.facts is not None
    k = plan.facts.k
    befores: list[Method | None] = [None, *plan.stages[:-1]]
    for before, method in zip(befores, plan.stages, strict=True):
        if not method.card.inherits or (before is None and init is None):
            continue
        had = init.net if before is None and init is not None else _untrained(cast(Method, before), backbone, spec, k)
        forms = _forms(_untrained(method, backbone, spec, k), method)
        if forms != _forms(had, method):
            unlike = [
                name
                for name in _shared_names(before, method)
                if _forms(_untrained(_as_in(method, before, name), backbone, spec, k), method) != forms
            ]
            where = f"the run {settings.init}" if before is None else name_of(before)
            said = " and ".join(unlike) or "settings"
            if before is None and init is not None and init.k != k:
                said = f"-k {init.k}"
            raise InputError(
                f"{method.card.title} goes on with the {' and '.join(method.card.inherits)} of {where}, which has "
                f"another form there: give {name_of(method)} the same {said}."
            )


def _untrained(method: Method, backbone: BackboneChoice, spec: ItemSpec, k: int) -> Net:
    """The untrained net of a stage, for its form alone: it has no memory, and nothing is drawn."""
    with forms_alone():
        net = Net(build_backbone(backbone.name, spec), spec, torch.zeros(1), torch.ones(1), half=False)
        net.add(heads_of(method, net, k))
    return net


def _forms(net: Net, method: Method) -> list[dict[str, torch.Size]]:
    """The tensors' names and shapes of the heads that a method goes on with, as `net` has them."""
    heads = [net.get_submodule(head) for head in method.card.inherits]
    return [{name: value.shape for name, value in head.state_dict().items()} for head in heads]


def _shared_names(before: Method | None, method: Method) -> list[str]:
    """The settings that two stages both have, with different values."""
    names = [] if before is None else setting_names(type(before))
    return [
        name for name in setting_names(type(method)) if name in names and getattr(method, name) != getattr(before, name)
    ]


def _as_in(method: Method, before: Method | None, name: str) -> Method:
    return replace(cast(Any, method), **{name: getattr(before, name)})


def first_weights(
    settings: RunSettings, plan: Plan, backbone: BackboneChoice, spec: ItemSpec, folder: RunFolder, *, resume: bool
) -> tuple[BackboneChoice, Start | None]:
    """The backbone and its weights, where --pretrained or --weights asks for some.

    Raises InputError for weights that cannot be had or do not fit, and for a backbone that nobody knows.
    """
    if settings.pretrained or settings.weights is not None:
        if resume and (name := begun_with(folder, plan)) is not None:
            return replace(backbone, name=name), None
        start = start_of(backbone, spec, None if settings.weights is None else Path(settings.weights))
        return start.choice, start
    if settings.backbone != "auto" and settings.init is None:
        # Only to hear now, and not after the stages before, of an unknown name.
        with forms_alone():
            build_backbone(backbone.name, spec)
    return backbone, None


def adapted(start: Start | None, folder: RunFolder, *, resume: bool) -> list[str]:
    """What was adapted of the weights that the backbone begins with, or began with before the run was resumed."""
    if start is not None:
        return start.notes
    if not resume or folder.path is None or not (folder.path / "run.yaml").exists():
        return []
    return list((read_record(folder.path).get("beginning") or {}).get("notes") or [])


def few_photos(plan: Plan, family: Family, init: Model | None) -> list[str]:
    """A note for a user with too few photos to train a net from scratch."""
    facts = plan.facts
    assert facts is not None
    few = facts.kind == "images" and family == "photo" and init is None and _learns_from_too_few(plan, facts)
    return [TOO_FEW.format(facts.n)] if few else []


def extra_items(plan: Plan, source: Source) -> list[str]:
    """What to tell of items that a stage learns from and that are not grouped: STL-10's unlabelled images."""
    trained = [method for method in plan.stages if epochs_of(method)]
    names = " and ".join(name_of(method) for method in trained if any(one.extra for one in passes_of(method)))
    if not (names and source.extra_file):
        return []
    if source.extra is not None:
        return [f"{names}: learns from the unlabelled images of {source.name} ({source.extra_file}), too."]
    return [
        f"{names}: learns from the {len(source.items):,} images of {source.name} alone, as {source.extra_file} does "
        "not lie beside its other files; the papers' training takes those images, too."
    ]


def begun_with(folder: RunFolder, plan: Plan) -> str | None:
    """The backbone in the first stage's checkpoint, so that its first weights need not be loaded again."""
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
            f"{first.card.title} trains nothing, and backbone {backbone.name!r} would keep its random weights: "
            "give it others with --pretrained, --weights FILE or --init RUN."
        )
    plan.notes.append(f"{name_of(first)} has 0 epochs: backbone {backbone.name!r} keeps its random weights.")


def _check_learns(
    plan: Plan, settings: RunSettings, backbone: BackboneChoice, spec: ItemSpec, init: Model | None
) -> None:
    """Raise InputError for a stage that learns features alone, where the backbone has nothing to train.

    K-means' centres are no parameters; a decoder is kept for the stages that go on with it, and answers nothing.
    """
    assert plan.facts is not None
    for method in plan.stages:
        if not epochs_of(method):
            continue
        net = _untrained(method, backbone, spec, plan.facts.k)
        names = [name for name in net.head_names if name in (method.card.answers or net.head_names)]
        heads = [net.get_submodule(name) for name in names if name != "decoder"]
        if not trainable(*heads):
            way_out = "leave --backbone out"
            if init is not None:
                way_out = "leave --init out, or give a run that trained one"
            elif settings.backbone == "auto":  # the method's own
                way_out = "name another with --backbone, or leave --pretrain out"
            raise InputError(
                f"{method.card.title} trains a backbone, and 'identity', the items' own values, has nothing to train: "
                f"{way_out}."
            )


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
    """The backbone asked for; for `auto` the method's own, or else the one for such data."""
    own, as_published = card.backbone, settings.preset != "practical"
    if settings.backbone == "auto" and own is not None:
        return BackboneChoice(own(spec, device, as_published), f"the one of {card.title}")
    return choose_backbone(settings.backbone, spec, device, as_published=as_published)


def _check_init(settings: RunSettings, card: Card, init: Model) -> None:
    """Raise InputError for a run to start from that lacks what the method goes on with, or has another backbone."""
    where, name = settings.init, method_name(settings.method)
    missing = [head for head in card.inherits if head not in init.net.head_names]
    if missing:
        usual = card.starts_from
        kept = None if usual is None else method_class(usual).card.answers
        other = f"or give a run of {usual}" if kept is None or missing[0] in kept else f"and {usual} is trained first"
        raise InputError(f"{where} has no {missing[0]}, which {name} goes on with: leave --init out, {other}.")
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
