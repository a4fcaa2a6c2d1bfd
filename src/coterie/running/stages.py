"""The stages of a prepared run, one after the other: each a net and a method for the engine; calibration comes last.

A stage that is done is on the disk and is not done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from coterie.algorithms.neighbours import NotFinite
from coterie.calibration import PostHoc, calibration_net
from coterie.catalogue import own_names
from coterie.common.words import in_a_line, whole_percent
from coterie.contract import Method, finish, found, heads_of, is_trained, name_of
from coterie.data.array_rows import RowIds
from coterie.data.items import ChosenItems, Embeddings
from coterie.data.outliers import usual_rows
from coterie.networks.backbones import build_backbone
from coterie.networks.features import features_of
from coterie.networks.net import Net, trainable
from coterie.prediction.model import Model, load_model
from coterie.running.beginning import epochs_of
from coterie.running.judgements import constraints_of
from coterie.running.prepared import Prepared, Watch
from coterie.training.advice import Advice, advice_for
from coterie.training.checkpoints import load_tree, restoring, save_tree
from coterie.training.distributed import share_batch_norm, wait_for_all
from coterie.training.engine import Stage, train_stage
from coterie.training.health import empty_warning, lost_warning
from coterie.training.history import EpochRecord
from coterie.training.plan import balance_term, unequal_advice
from coterie.training.seeds import generator_of, seed_of
from coterie.training.soundness import Known, divided, overlooked, sample_rows, size_warning
from coterie.types import Assignments, InputError, RunFailed, Source
from coterie.views.normalise import farthest, normalisation, normalise, unit_range

KEPT_ROWS = 64  # items that a saved model is asked again


def train(prepared: Prepared, watch: Watch) -> Net:
    """Train the stages one after the other; a stage that is done is read from the disk."""
    before = prepared.init.net if prepared.init is not None else None
    net: Net | None = None
    for method in prepared.plan.stages:
        last = method is prepared.plan.method
        name = name_of(method)
        done = prepared.folder.file("checkpoints", f"{name}.done.safetensors")
        net = build_net(prepared, method, before)
        kept = prepared.folder.file("checkpoints", f"{name}.safetensors")
        begun = any(file is not None and file.exists() for file in (done, kept))
        if prepared.teacher is not None and before is None and not begun:
            prepared.teacher.teach(net.cluster)
        if done is not None and done.exists():
            watch.say(f"stage {name} is done already")
            with restoring(done):
                saved = load_tree(done, prepared.device)
                net.load_state_dict(saved["net"])
            prepared.plan.notes.extend(_ended_early(method, saved.get("epochs", _epochs_done(method, prepared))))
        else:
            _train_one(net, method, prepared, watch, last=last)
            trained = _epochs_done(method, prepared)
            for note in _ended_early(method, trained):
                watch.say(note)
                prepared.plan.notes.append(note)
            wait_for_all()  # before the files change that the others may still look for
            if done is not None and prepared.is_main:
                save_tree(done, {"net": net.state_dict(), "epochs": trained})
                done.with_name(f"{name}.safetensors").unlink(missing_ok=True)
        before = net
    assert net is not None
    return net


def _epochs_done(method: Method, prepared: Prepared) -> int:
    """The last epoch of a stage that has just ended; of one that ended before, the history may have lost lines."""
    records = prepared.history.records
    return max((record.epoch for record in records if record.stage == name_of(method)), default=epochs_of(method))


def _ended_early(method: Method, done: int) -> list[str]:
    """The note about a stage whose own stopping rule held before its last epoch."""
    name, epochs = name_of(method), epochs_of(method)
    return [f"{name} ended after epoch {done:,} of {epochs:,}: its own stopping rule held."] if done < epochs else []


def _train_one(net: Net, method: Method, prepared: Prepared, watch: Watch, *, last: bool) -> None:
    """Train a stage by the engine; the `last` one of a run then makes its answer."""
    items, settings, name = prepared.taught, prepared.settings, name_of(method)
    features = features_of(net, items)

    def warn(text: str) -> None:
        if text not in prepared.warnings:  # a resumed run knows those of its first part
            prepared.warnings.append(text)
            prepared.folder.update(warnings=prepared.warnings)
            watch.say(text)

    stage = Stage(
        method,
        items,
        family=prepared.family,
        k=settings.k,
        seed=settings.seed,
        views=prepared.plan.views,
        features=features,
        history=prepared.history,
        checkpoint=prepared.folder.file("checkpoints", f"{name}.safetensors"),
        checkpoint_seconds=settings.checkpoint_seconds,
        progress=watch.progress,
        before=stage_before(prepared, method),
        rank=prepared.rank,
        processes=prepared.processes,
        after_epoch=list(watch.after_epoch),
        extra=prepared.source.extra,
        warn=warn,
        views_given=prepared.plan.views_given,
    )
    after = next((two for one, two in pairwise(prepared.plan.stages) if one is method), None)
    drawn = random_heads(net, method, after)
    try:
        train_stage(net, stage)
        if last:
            with torch.no_grad():
                finish(method, net, features, settings.k, generator_of(settings.seed, name, "finish"))
        if drawn and all(torch.equal(parameter, value) for parameter, value in drawn):
            what = "its groups come from" if after is None else f"{name_of(after)} goes on with its"
            warn(f"{name} has 0 epochs: {what} random weights.")
    except NotFinite as error:  # K-means or a search for neighbours may meet the first NaN before the losses show one
        if not any(is_trained(one) for one in prepared.plan.stages):
            raise  # they are the items' own values
        raise RunFailed(
            f"The features of stage {name} are not finite any more.",
            advice_for(method, half=net.backbone.enabled).smaller_steps(),
        ) from error


def random_heads(net: Net, method: Method, after: Method | None) -> list[tuple[nn.Parameter, Tensor]]:
    """The parameters, with their first values, of the heads of a stage of 0 epochs that answer, or go over to the next.

    They stay random unless the method's `start` or `finish` sets them. Without those that were taken over, and without
    a decoder, which answers nothing.
    """
    if not is_trained(method) or epochs_of(method):
        return []
    names = (method.card.answers or net.head_names) if after is None else after.card.inherits
    own = [name for name in names if name in net.head_names and name not in (*method.card.inherits, "decoder")]
    return [(parameter, parameter.detach().clone()) for parameter in trainable(*map(net.get_submodule, own))]


def build_net(prepared: Prepared, method: Method, before: Net | None) -> Net:
    """A net for one stage: backbone and inherited heads as the stage before left them, all other heads fresh."""
    settings, spec = prepared.settings, prepared.source.items.spec
    torch.manual_seed(seed_of(settings.seed, name_of(method), "weights"))
    trunk = build_backbone(prepared.backbone.name, spec)
    if before is not None:
        trunk.load_state_dict(before.backbone.trunk.state_dict())
    elif prepared.start is not None:
        trunk.load_state_dict(prepared.start.state)
    if prepared.init is not None:
        mean, std, limit = prepared.init.net.mean, prepared.init.net.std, prepared.init.net.limit
    elif spec.encoding is not None and spec.kind == "images":
        mean, std, limit = torch.tensor(spec.encoding.mean), torch.tensor(spec.encoding.std), None
    else:
        # One scale for all stages: that of the first, for the others go on with its weights.
        scale = unit_range if prepared.plan.stages[0].card.scaling == "unit" else normalisation
        mean, std = scale(prepared.taught)
        limit = farthest(prepared.taught, mean, std) if len(prepared.source.outliers) else None
    row_norm = prepared.plan.views.row_norm
    net = Net(trunk, spec, mean, std, half=prepared.precision.name == "bf16", row_norm=row_norm, limit=limit)
    if method.card.looks_at == "centre" and prepared.family == "photo":
        net.enlarge = prepared.plan.views.enlarge
    net.add(heads_of(method, net, settings.k))
    if before is not None:
        for name in method.card.inherits:
            net.get_submodule(name).load_state_dict(before.get_submodule(name).state_dict())
    share_batch_norm(net)
    return net.to(prepared.device)


def calibrate(model: Model, prepared: Prepared, watch: Watch) -> None:
    """Let the finished run teach a calibration head on its own features, which then gives the confidences.

    Features and targets are functions of the last stage, which is on the disk, so a killed run that is resumed goes on
    from the calibration's own checkpoint.
    """
    settings = prepared.plan.calibration_of(model.k)
    watch.say("predicting all items for the calibration head")
    taught = prepared.taught
    said = model.predict(replace(prepared.source, items=taught, ids=RowIds(len(taught))), embedding=True)
    check_result(said, model.k, [], advice_of(prepared))  # of a collapsed run nothing is worth calibrating
    assert said.embedding is not None
    width = said.embedding.shape[1]
    method = PostHoc(settings, said.probabilities)
    if prepared.judged is not None:
        given, notes = constraints_of(prepared.judged, said.probabilities, usual_rows(prepared.source))
        method = replace(method, given=given, features=said.embedding)
        watch.say(" ".join(notes))
        prepared.plan.notes.extend(notes)
    seed = seed_of(prepared.settings.seed, "calibrate", "weights")
    net = calibration_net(method, torch.zeros(width), torch.ones(width), seed)
    share_batch_norm(net)
    net.to(prepared.device)
    source = replace(prepared.source, items=Embeddings(said.embedding.numpy()), extra=None, outliers=())
    _train_one(net, method, replace(prepared, source=source, family="vector"), watch, last=True)
    model.calibrate_by(net.post_hoc, settings)
    if note := disagreement(net.post_hoc, said):
        watch.say(note)
        prepared.plan.notes.append(note)


@torch.no_grad()
def disagreement(head: nn.Module, said: Assignments) -> str | None:
    """A sentence where the calibration head by itself would put items into other groups than the method does."""
    assert said.embedding is not None
    head.eval()
    device = next(head.parameters()).device
    found = torch.cat([head(rows.to(device)).argmax(1).cpu() for rows in said.embedding.split(10_000)])
    n, moved = len(found), int((found != said.probabilities.argmax(1)).sum())
    if moved < 0.01 * n:
        return None
    return (
        f"{moved:,} of {n:,} items ({whole_percent(moved / n)}) have neighbours in another group: they keep the "
        "method's group, with a confidence of at most about a half."
    )


def count_groups(net: Net, prepared: Prepared, watch: Watch) -> int:
    """The number of groups that the method found itself. Raises RunFailed where it found only one."""
    method = prepared.plan.method
    k, said = found(method, net)
    if k < 2:
        raise RunFailed(said, "Give a number of groups with -k.")
    watch.say(said)
    prepared.plan.notes.append(said)
    return k


def stage_before(prepared: Prepared, method: Method) -> str | None:
    """The name of the stage before this one, None for the first; a calibration comes after all of them."""
    names = [name_of(stage) for stage in prepared.plan.stages]
    place = names.index(name_of(method)) if name_of(method) in names else len(names)
    return names[place - 1] if place else None


def advice_of(prepared: Prepared) -> Advice:
    """The advice that fits the run's own method."""
    method = prepared.plan.method
    return advice_for(method, stage_before(prepared, method), given=prepared.teacher is not None)


def check_result(
    assignments: Assignments, k: int, warnings: list[str], advice: Advice, history: Sequence[EpochRecord] = ()
) -> None:
    """Raise RunFailed for a result in one group; warn of groups without an item, and of those lost in training."""
    sizes = assignments.probabilities.argmax(1).bincount(minlength=k)
    if int((sizes > 0).sum()) < 2:
        # What was found wrong with the data is the likelier cause, and whoever calls from Python has not read it yet.
        tries = " ".join([*warnings, advice.collapsed()])
        raise RunFailed("The run collapsed: every item is in the same group.", tries)
    of_stage = [record for record in history if record.stage == advice.stage]
    if lost := lost_warning(advice, of_stage, sizes.tolist()):
        warnings.append(lost)
    if empty := empty_warning(advice, of_stage, sizes.tolist(), told=lost is not None):
        warnings.append(empty)
    if said := size_warning(sizes):
        warnings.append(said)


def check_kept(model: Model, source: Source, said: Assignments) -> None:
    """Raise InputError for a method from outside the package whose saved model would answer otherwise than the run.

    What it learned may lie outside of the net, or in a part that `card.answers` leaves out.
    """
    method = model.method
    if name_of(method) in own_names():
        return
    kind, rows = type(method).__name__, np.arange(min(KEPT_ROWS, len(source.items)))
    hint = "what it learned must be parts and buffers of the net, and `card.answers` must name all that answer"
    with TemporaryDirectory() as folder:
        model.save(Path(folder))
        few = replace(source, items=ChosenItems(source.items, rows), ids=RowIds(len(rows)))
        try:
            again = load_model(Path(folder), model.net.mean.device).predict(few).probabilities
        except Exception as error:
            raise InputError(f"The saved model of {kind} cannot answer ({in_a_line(error)}): {hint}.") from error
    if not torch.allclose(again, said.probabilities[: len(rows)], atol=1e-3):
        raise InputError(f"The saved model of {kind} answers otherwise than the run did: {hint}.")


def check_balance(assignments: Assignments, model: Model, prepared: Prepared) -> None:
    """Warn of groups that stand apart and are no groups of the result. Looks at up to 3,000 items.

    Embeddings are looked at as they come, for a net that was taught a wrong grouping may have drawn them together;
    images as the backbone sees them.
    """
    items, n = prepared.source.items, len(assignments.probabilities)
    rows = sample_rows(n)
    rows = rows[~torch.isin(rows, torch.tensor(list(prepared.source.outliers), dtype=torch.long))]
    if items.spec.kind == "embeddings":
        net = model.net
        points = normalise(items.take(rows), net.mean.cpu(), net.std.cpu(), net.row_norm)
    else:
        assert assignments.embedding is not None
        points = assignments.embedding[rows]
    if not bool(points.isfinite().all()):
        return
    labels, seed = assignments.probabilities[rows].argmax(1), prepared.settings.seed
    known: Known = {}
    inside = overlooked(points, labels, model.k, seed, known)
    marked = inside if inside is not None else divided(points, labels, model.k, seed, known)
    if marked is None:
        return
    count = round(int(marked.sum()) * n / len(rows))
    examples = ", ".join(str(assignments.ids[row]) for row in rows[marked][:3].tolist())
    text, term = f"About {count:,} of the {n:,} items ({examples}, ...) ", balance_term(prepared.plan.method)
    if inside is not None:
        text += "stand apart from all others but are no group here"
        advice = unequal_advice(items.spec) if term else "try another method or number of groups"
    else:
        text += f"are in other groups than K-means finds, whose {model.k} groups all stand apart from each other"
        advice = f"compare the result of the method kmeans{' on one of the spaces' * bool(items.spec.spaces)}"
        advice += "" if items.spec.kind == "embeddings" else " with this run as its beginning"
    text += f": {term} draws groups to equal sizes" if term else ""
    prepared.warnings.append(f"{text}; {advice}.")
