"""A method's entry in the catalogue, and the words in which it asks for items, views and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from coterie.types import ItemSpec, Kind, Losses
from coterie.views.recipes import View

__all__ = ["Card", "Facts", "OnlyIf", "Pass", "Reading", "Step", "View", "epochs_for", "iterations_for"]


@dataclass(frozen=True)
class Reading:
    """A preset for all data: the settings that it changes, and those that single data sets change besides."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class OnlyIf:
    """Settings that do nothing unless another one has a value that passes the test, or several have such values."""

    other: str | tuple[str, ...]
    holds: Callable[..., bool]  # of the value of each of `others`
    settings: tuple[str, ...]

    @property
    def others(self) -> tuple[str, ...]:
        return (self.other,) if isinstance(self.other, str) else self.other


@dataclass(frozen=True)
class Card:
    """A method's entry in the catalogue: what `coterie methods` shows and what the engine prepares for it."""

    title: str
    paper: str  # authors and title
    year: int
    family: str
    url: str
    stage: str = ""  # its name in records and settings, if it is not the file's
    # attribute of the batch -> a recipe of `views.recipes`, or a View of the method's own; empty: nothing is
    # trained, or the method has `views`, which its settings shape
    views: Mapping[str, str | View] = field(default_factory=dict)
    # what evaluation sees of a photograph: the whole, or the middle of the image enlarged by `views.enlarge`
    looks_at: Literal["whole", "centre"] = "whole"
    starts_from: str | None = None  # the method that trains the backbone before, unless --pretrain names another
    starts_on: tuple[Kind, ...] = ("images",)  # the kinds for which it does; for others the backbone is used as it is
    trains_backbone: bool = True  # others can start from it; False where only heads are trained, on frozen features
    inherits: tuple[str, ...] = ()  # heads that are taken over from that stage, or from --init
    gives: tuple[str, ...] = ()  # heads that a later stage may take over
    scaling: Literal["standard", "unit"] = "standard"  # of the data: mean 0 and deviation 1, or values in [0, 1]
    accepts: tuple[Kind, ...] = ("images", "embeddings")
    answers: tuple[str, ...] | None = None  # the heads that prediction needs; None: all of them
    # published rows by data set: the method's settings, views.NAME, image_size
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # settings that every published row changes, where the authors' code differs from the paper
    code: Mapping[str, Any] = field(default_factory=dict)
    text: Reading | None = None  # the preset `text`: the paper's values, where the authors' code differs
    # settings with which the method finds the number of groups itself (-k auto); empty: it cannot
    without_k: Mapping[str, Any] = field(default_factory=dict)
    spaces: bool = False  # takes several spaces of features, as `data.spaces` puts them side by side
    balance: str | None = None  # the setting that weighs a term for groups of equal size
    backbone: Callable[[ItemSpec, str, bool], str] | None = None  # what `auto` means here: (form, device, as published)
    # settings that do nothing beside certain values of others, on all but photographs, in a stage that another follows,
    # or on other values than the items' own (a net's features): a run says so of those that the user set
    only_if: tuple[OnlyIf, ...] = ()
    of_photographs: tuple[str, ...] = ()
    of_the_last: tuple[str, ...] = ()
    of_own_values: tuple[str, ...] = ()
    # settings that count an item's neighbours, most of which must be of its own group
    of_one_group: tuple[str, ...] = ()
    drawn: str | None = (
        None  # the setting that says among how many items they are looked for, drawn where there are more
    )
    # number that `step` logs -> what the report calls it, and a hint how to read it
    logs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    # old name of a setting -> its new name; None: removed
    renamed: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass:
    """One way through the items within an epoch; a method may have several, each in a random order of its own.

    With `steps`, an epoch has so many batches, and the next one continues where it ended: through the items in the
    same order until all were seen, then in a new order.

    `sample` names a part of the net that says which items come, instead of each once: its `draw(count, generator)`
    gives the rows (count,) of a whole epoch. `partners` brings further items with each batch: a name, and the part of
    the net whose `rows` (n, m) hold, for every item, the rows that its partner is drawn from, anew each time. The
    parts named here may change in `start` and `begin_epoch` only, since batches are read ahead.
    """

    name: str = ""  # the value of `batch.pass_name`
    extra: bool = False  # goes through the source's extra items, too, where it has some
    keep_last: bool = False  # trains on the incomplete batch at the end, too
    shuffled: bool = True  # else batches are slices of the items in the source's order
    steps: int | None = None  # batches of this pass in an epoch; None: all there are
    sample: str | None = None
    partners: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """The losses of one step, where only some of a method's optimisers take it; empty: all of them."""

    losses: Losses
    trains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What a preset may depend on: sizes and forms, never labels."""

    n: int
    k: int  # 0: not known, the method is to find it
    kind: Kind
    device: str
    side: int = 0  # longer side of the images in pixels
    dim: int = 0  # features of the embeddings
    width: int = 0  # features of the backbone, where the method trains none; 0: not known
    spaces: int = 1  # of features, side by side
    loaded: bool = False  # the backbone begins with weights of timm's or of a file, all of them loaded


def iterations_for(facts: Facts, least: int, most: int) -> dict[str, int]:
    """Epochs and batch size of a practical preset that counts in iterations: a seventh of the items, within bounds.

    Epochs are whole, to the nearest and one at least: of 70,000 items 15 of 273 iterations, of a million one of 3,906.
    """
    batch = max(2, min(256, facts.n // 4))
    iterations = min(most, max(least, facts.n // 7))
    return {"epochs": max(1, round(iterations / (facts.n // batch))), "batch_size": batch}


def epochs_for(facts: Facts) -> dict[str, int]:
    """Epochs and batch size of a practical preset that counts in epochs: more of them for fewer items, 24 of 70,000."""
    return {
        "epochs": min(200, max(20, round(24 * (70_000 / facts.n) ** 0.3))),
        "batch_size": max(16, min(256, facts.n // 4)),
    }
