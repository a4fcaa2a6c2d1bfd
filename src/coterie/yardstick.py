"""`supervised`: what the same net reaches with labels, as a yardstick. It groups nothing and is no method.

Jia, Cheng, Liu and Hou, "Towards Calibrated Deep Clustering Network", ICLR 2025, the rows "Supervised" and "+ MoCo-v2"
of Table 1: a backbone with CDC's clustering head, taught by the cross-entropy of the strong view, from random weights
or from another run's backbone. This is the one place where labels train a net: it lies above `training`, which cannot
import them, and what it returns says that labels were used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from coterie.common.arguments import array_from, path_from, seed_from, share, text, whole_number
from coterie.common.bounds import BatchSize, Epochs, PositiveRate, Rate, Width
from coterie.common.callers import worded
from coterie.common.isolation import in_turn, isolated
from coterie.contract import Card, Facts, View, epochs_for
from coterie.data import labels_of
from coterie.data.encoding import Labels, encode
from coterie.data.flat import mark_flat
from coterie.data.items import ChosenItems
from coterie.data.outliers import mark_outliers
from coterie.data.reading import said_of
from coterie.encoders import open_items
from coterie.evaluation import evaluate
from coterie.networks.backbones import build_backbone, choose_backbone
from coterie.networks.features import features_of, stream
from coterie.networks.heads import mlp_head
from coterie.networks.net import Net, trainable
from coterie.prediction.model import Model, load_model
from coterie.running.beginning import size_beside
from coterie.training.coerce import coerce
from coterie.training.device import Place, accelerator_for, choose_precision
from coterie.training.distributed import share_batch_norm
from coterie.training.engine import Progress, Stage, train_stage
from coterie.training.history import History
from coterie.training.plan import RunSettings
from coterie.training.seeds import seed_of
from coterie.types import Batch, Family, InputError, Items, ItemSpec, Losses, Source
from coterie.views.normalise import normalisation
from coterie.views.settings import ViewSettings, practical_views

NAME = "supervised"
HELD_OUT = 0.2  # of the source, where no second one is scored
CARD = Card(
    title="Supervised",
    paper="Jia, Cheng, Liu, Hou: Towards Calibrated Deep Clustering Network",
    year=2025,
    family="reads labels",
    stage=NAME,
    url="https://openreview.net/forum?id=JvH4jDDcG3",
    views={"strong": View("strong")},
    logs={"accuracy": ("accuracy while training", "on strongly distorted views")},
)


@dataclass(frozen=True)
class Settings:
    """The paper's, from random weights; after a pre-training it has 50 epochs at 1e-4."""

    epochs: Epochs = 500
    batch_size: BatchSize = 256
    learning_rate: PositiveRate = 1e-3  # Adam, constant
    weight_decay: Rate = 1e-4
    hidden: Width = 512


@dataclass(frozen=True)
class Supervised:
    """What the engine trains: the settings, and the class of every item that is taught."""

    settings: Settings
    labels: Int[Tensor, " n"]

    card: ClassVar[Card] = CARD

    @property
    def epochs(self) -> int:
        return self.settings.epochs

    @property
    def batch_size(self) -> int:
        return self.settings.batch_size

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"cluster": mlp_head(net.width, self.settings.hidden, k)}

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained, settings = trainable(net.backbone, net.cluster), self.settings
        return torch.optim.Adam(trained, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy of the strong view alone; ln k at random weights."""
        logits = batch.gather(net.cluster(net.backbone(batch.strong)))
        label = batch.gather(self.labels[batch.index.cpu()].to(logits.device))
        batch.log(accuracy=(logits.argmax(1) == label).float().mean())
        yield {"cross_entropy": functional.cross_entropy(logits, label)}

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"softmax": net.cluster(features)}


@dataclass(frozen=True)
class Yardstick:
    """The answers of a net trained with labels, on the items that it is scored on."""

    classes: list[str]  # (c,)
    rows: NDArray[np.int64]  # (m,) of the source, or of the test source
    labels: NDArray[np.int64]  # (m,) into `classes`
    probabilities: NDArray[np.float32]  # (m, c)
    labels_used: int  # items that were taught
    held_out: bool  # whether none of the scored items was taught
    seconds: float
    settings: Settings
    backbone: str
    notes: tuple[str, ...] = ()  # what the source was taken for, and what of it was left out

    @property
    def accuracy(self) -> float:
        """Share of the scored items whose most probable class is theirs: no matching, so never above `acc`."""
        return float((self.probabilities.argmax(1) == self.labels).mean())

    def metrics(self) -> dict[str, Any]:
        """The numbers of `coterie.evaluate`, and `accuracy`."""
        found = evaluate(self.labels, self.probabilities, class_names=self.classes)
        return {**found, "accuracy": self.accuracy, "labels_used": self.labels_used}


@isolated
@in_turn
def supervised(
    source: Any,
    labels: Any = None,
    *,
    held_out: float | None = None,
    init: str | os.PathLike[str] | None = None,
    test: Any = None,
    test_labels: Any = None,
    backbone: str = "auto",
    image_size: int | None = None,
    random_state: int | np.integer | np.random.RandomState | None = 0,
    settings: dict[str, Any] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Yardstick:
    """Train a net with the labels of a source and score it on items that it was not taught.

    source: as for `Clusterer.fit`. labels: (n,) names or whole numbers, None, NaN or "" where they are not known;
    None: those that come with the source. test, test_labels: a second source that is scored; without one `held_out` of
    the items (None: 0.2), drawn by the seed, are kept from training and scored (0: the taught items themselves, as the
    paper has it for two of its sets). init: a run folder whose backbone is the start, and in whose form and scale the
    items are read; its pre-training may have seen the scored images, though never their labels. image_size: side in
    pixels to which images are resized, as for `Clusterer`. settings: of `coterie.yardstick.Settings`, over a practical
    number of epochs.

    Raises InputError for input that cannot work, before training.

    >>> import numpy as np
    >>> from coterie import supervised
    >>> labels = np.arange(60) % 3
    >>> points = 9 * np.eye(3)[labels] + np.random.default_rng(0).normal(size=(60, 3))
    >>> found = supervised(points, labels, held_out=0.2, settings={"epochs": 1})
    >>> found.probabilities.shape, found.labels_used, found.held_out
    ((12, 3), 48, True)
    """
    backbone, apart = text(backbone, "backbone"), share_apart(held_out, test, test_labels)
    _check_arguments(settings, progress)
    size, place = check_options(image_size, settings or {}, device)
    start = _start(init, backbone, size)
    # As `fit --init` opens its source: in the form that the run was fitted on, through its encoder where it had one.
    opened = open_items(
        source, like=None if start is None else start.spec, image_size=size, device=device, family="auto"
    )
    known, spec = _labels(labels, source, opened), opened.items.spec
    if size is not None and spec.kind != "images":
        opened.notes.append(f"Without effect on {spec.kind}: --image-size.")
    seed = seed_from(random_state)
    taught, scored = _split(np.flatnonzero(known.codes >= 0), apart, seed)
    taught = _without_outliers(opened, taught)
    if len(np.unique(known.codes[taught])) < 2:
        raise InputError(f"The labels of {opened.name} have fewer than two classes: there is nothing to learn.")
    k = len(known.names)
    chosen = _settings(settings or {}, len(taught), k, spec, str(place.device), start)
    lesson = Lesson(
        Supervised(chosen, torch.from_numpy(known.codes[taught])),
        ChosenItems(opened.items, taught),
        opened.family,
        k,
        backbone=choose_backbone(backbone, spec, str(place.device)).name if start is None else start.backbone,
        start=None if start is None else start.net,
        seed=seed,
        place=place,
    )
    exam, sources = Exam(opened.items, known.codes, scored), [opened]
    if test is not None:
        other = open_items(test, like=spec, device=device)
        exam, sources = _exam(other, test, test_labels, known.names), [opened, other]
    began = time.monotonic()
    probabilities = _answers(_trained(lesson, progress), exam)
    return Yardstick(
        known.names,
        exam.rows,
        exam.codes[exam.rows],
        probabilities,
        labels_used=len(taught),
        held_out=test is not None or apart > 0,
        seconds=time.monotonic() - began,
        settings=chosen,
        backbone=lesson.backbone,
        notes=tuple(note for one in sources for note in _said_of(one)),
    )


@dataclass(frozen=True)
class Lesson:
    """What is taught, and to which net: a new one with that backbone, or one that goes on from a run's."""

    method: Supervised
    items: Items
    family: Family
    k: int
    backbone: str
    start: Net | None
    seed: int
    place: Place


@dataclass(frozen=True)
class Exam:
    """What is scored: `rows` of `items`, whose classes are `codes`."""

    items: Items
    codes: NDArray[np.int64]  # one for each item
    rows: NDArray[np.int64]


def check_options(image_size: int | None, settings: dict[str, Any], device: str) -> tuple[int | None, Place]:
    """The image size and the device. Raises InputError for what is wrong whatever the source holds."""
    size = None if image_size is None else whole_number(image_size, "image_size", 4, 10_000)
    coerce(Settings, settings, NAME)
    return size, accelerator_for(device)


def _check_arguments(settings: object, progress: object) -> None:
    """Raise InputError for settings that are no mapping, and for a progress that follows no stage."""
    if settings is not None and not isinstance(settings, Mapping):
        raise InputError(f"settings are {repr(settings)[:80]}: they take a dict from names of settings to values.")
    if progress is not None and not isinstance(progress, Progress):
        raise InputError(f"progress is {repr(progress)[:80]}: it takes an object with begin, step and epoch.")


def _without_outliers(opened: Source, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """These rows without those far outside the others, which the source's warnings then name."""
    mark_outliers(opened)
    mark_flat(opened)
    return np.setdiff1d(rows, np.asarray(opened.outliers, np.int64))


def _start(init: str | os.PathLike[str] | None, backbone: str, size: int | None) -> Model | None:
    """The model of the run to start from. Raises InputError where another backbone or image size is asked for, too."""
    if init is None:
        return None
    start = load_model(path_from(init, "init"))
    size_beside(start, RunSettings(init=os.fspath(init), image_size=size), None)
    if backbone not in ("auto", start.backbone):
        raise InputError(f"{init} brings its own backbone, {start.backbone!r}: leave --backbone {backbone} out.")
    return start


def _settings(given: dict[str, Any], n: int, k: int, spec: ItemSpec, device: str, start: Model | None) -> Settings:
    """The given settings over practical ones for `n` taught items of `k` classes. Raises InputError."""
    side = max(spec.height, spec.width)
    facts = Facts(n, k, spec.kind, device, side, spec.dim, loaded=start is not None)
    practical: dict[str, Any] = {**epochs_for(facts), **({} if start is None else {"learning_rate": 1e-4})}
    return coerce(Settings, {**practical, **given}, NAME)


def _trained(lesson: Lesson, progress: Progress | None) -> Net:
    """The net, taught by the engine that trains every stage."""
    net, items, spec = _net(lesson), lesson.items, lesson.items.spec
    views = {**practical_views(max(spec.height, spec.width), spec.dim), "row_norm": net.row_norm}
    stage = Stage(
        lesson.method,
        items,
        family=lesson.family,
        k=lesson.k,
        seed=lesson.seed,
        views=coerce(ViewSettings, views, "views"),
        features=features_of(net, items),
        history=History(None),
        progress=progress,
        rank=lesson.place.process_index,
        processes=lesson.place.num_processes,
    )
    train_stage(net, stage)
    return net


def _answers(net: Net, exam: Exam) -> NDArray[np.float32]:
    """The probabilities (m, c) of the items that are scored."""
    rows = torch.from_numpy(exam.rows)
    p = stream(net, exam.items, lambda view: net.cluster(net.backbone(view)).softmax(1), rows=rows)
    return torch.cat(list(p)).numpy()


def _net(lesson: Lesson) -> Net:
    """The net as it begins: weights drawn by the seed, or the backbone and the scale of a run's net."""
    spec, start, device = lesson.items.spec, lesson.start, lesson.place.device
    torch.manual_seed(seed_of(lesson.seed, NAME, "weights"))
    trunk = build_backbone(lesson.backbone, spec)
    half = choose_precision("auto", spec, device).name == "bf16"
    if start is None:
        net = Net(trunk, spec, *normalisation(lesson.items), half=half)
    else:
        trunk.load_state_dict(start.backbone.trunk.state_dict())
        net = Net(trunk, spec, start.mean, start.std, half=half, row_norm=start.row_norm, limit=start.limit)
    net.add(lesson.method.heads(net, lesson.k))
    share_batch_norm(net)
    return net.to(device)


def _labels(given: Any, source: Any, opened: Source) -> Labels:
    """The labels of a source, in its order. Raises InputError where there are none, or not one for each item."""
    if isinstance(given, Labels):
        found: Labels | None = given
    elif given is None:
        found = labels_of(source, opened.ids)
    else:
        listed = array_from(given, "labels")
        if listed.ndim != 1:
            raise InputError(f"The labels are {repr(given)[:80]}: give one for each item, in a row.")
        found = encode(listed.tolist())
    if found is None:
        raise InputError(f"{opened.name} carries no labels, and this learns from labels: give them.")
    if len(found.codes) != len(opened.items):
        raise InputError(f"There are {len(found.codes)} labels for {len(opened.items)} items: give one for each.")
    return found


def share_apart(held_out: float | None, test: Any, test_labels: Any) -> float:
    """The share of the source that is kept for scoring. Raises InputError for what says nothing beside the rest."""
    if test is None and test_labels is not None:
        raise InputError("test_labels are the labels of test, which was not given: give both or neither.")
    if held_out is None:
        return HELD_OUT if test is None else 0.0
    if test is not None:
        raise InputError("held_out is a share of the source, and with test that is scored: leave one of them out.")
    if share(held_out, "held_out") == 1:
        raise InputError(f"held_out is {held_out}: it is a share of the items, from 0 to below 1.")
    return float(held_out)


def _split(rows: NDArray[np.int64], held_out: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that are taught and those that are scored; all of them both where nothing is held out."""
    count = round(held_out * len(rows))
    if held_out == 0:
        return rows, rows
    if not 0 < count < len(rows):
        raise InputError(f"held_out is {held_out}: of {len(rows)} labelled items that leaves none on one side.")
    apart = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    return np.setdiff1d(rows, apart), apart


def _said_of(opened: Source) -> list[str]:
    notes = [note for note in opened.notes if "--family" not in note]  # which `supervised` does not have
    return [worded(said) for said in (*opened.warnings, *said_of(opened.skipped), *notes)]


def _exam(opened: Source, test: Any, given: Any, names: list[str]) -> Exam:
    """A second source, its classes by their place in `names`, and the rows whose class is known and was taught."""
    found = _labels(given, test, opened)
    place = {name: code for code, name in enumerate(names)}
    codes = np.array([place.get(found.names[code], -1) if code >= 0 else -1 for code in found.codes], np.int64)
    rows = np.flatnonzero(codes >= 0)
    if not len(rows):
        raise InputError(f"No item of {opened.name} has one of the {len(names)} classes that were taught.")
    return Exam(opened.items, codes, rows)
