"""What a method may offer beyond the core, and for each the one function that reads it.

check(facts)                     raises InputError for settings that cannot work on such data
limits(facts)                    -> {setting: (least, most)} that these data allow; a preset is brought within
start(net, features, k, generator)   once before the first epoch, not when resuming
begin_epoch(net, epoch)          before the batches of an epoch are drawn
rate(progress)                   factor on every learning rate; a mapping gives one for each group's "name"
views(), passes()                in place of the card's views, of one pass through the complete batches
part_size                        items in the scope of one optimiser step, where that is less than a batch
finish(net, features, k, generator)  once after the last epoch of the last stage, before prediction
logits(net, features)            -> {head: (n, k)}; their softmax is the answer, the first head's the main one
predict(net, features)           -> {head: (n, k)} probabilities, for methods without logits
has_logits()                     whether `logits` are more than logs of probabilities; they are unless it says no
calibrated()                     whether the first head is taught how far it can be believed
found(net)                       -> (k, a sentence), of a method whose card has `without_k`, after `finish`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from coterie.contract.card import Facts, Pass, View
from coterie.contract.members import by_name, tensors
from coterie.contract.method import Method, Trained
from coterie.networks.net import Net
from coterie.types import EpochStart, Features

ROWS = "{head: a row of k numbers for each item}"
ALL = "all"  # the name of a single optimiser


def _option(method: Method, name: str) -> Any:
    """The member of that name, None where the method has none."""
    return getattr(method, name, None)


def check(method: Method, facts: Facts) -> None:
    """Raise InputError when the settings cannot work on such data (before any training)."""
    if (own := _option(method, "check")) is not None:
        own(facts)


def limits_of(method: Method, facts: Facts) -> dict[str, tuple[int, int | None]]:
    """(least, most) of settings that must fit these data; None: no most."""
    own = _option(method, "limits")
    return {} if own is None else dict(own(facts))


def start(method: Method, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
    """Prepare a stage before its first epoch."""
    if (own := _option(method, "start")) is not None:
        own(net, features, k, generator)


def begins_epochs(method: Method) -> bool:
    """Whether there is something to renew before the batches of an epoch are drawn."""
    return _option(method, "begin_epoch") is not None


def begin_epoch(method: Method, net: Net, epoch: EpochStart) -> None:
    """Renew what is fixed during an epoch: pseudo-labels, centres, neighbours."""
    if (own := _option(method, "begin_epoch")) is not None:
        own(net, epoch)


def optimisers_of(method: Trained, net: Net) -> dict[str, Optimizer]:
    """The optimisers by name; a single one is called `all`."""
    own = method.optimiser(net)
    return {ALL: own} if isinstance(own, Optimizer) else dict(own)


def rates_of(method: Trained, progress: float, groups: list[dict[str, Any]]) -> list[float]:
    """The factor on the learning rate of each group of parameters at this share of the training (0 to 1).

    Raises KeyError for a method that gives factors by name and none for one of its groups.
    """
    own = _option(method, "rate")
    factor = 1.0 if own is None else own(progress)
    return [factor[group["name"]] if isinstance(factor, Mapping) else factor for group in groups]


def views_of(method: Method) -> dict[str, View]:
    """The views that a method needs with its settings, by the attribute of the batch."""
    own = _option(method, "views")
    views = method.card.views if own is None else own()
    return {name: View(view) if isinstance(view, str) else view for name, view in views.items()}


def passes_of(method: Method) -> tuple[Pass, ...]:
    """The passes of an epoch, in order: one through the complete batches, unless the method says otherwise."""
    own = _option(method, "passes")
    return (Pass(),) if own is None else tuple(own())


def part_size_of(method: Trained, n: int) -> int:
    """Items in the scope of one optimiser step, of batches that are no larger than `n`."""
    part = _option(method, "part_size")
    return min(method.batch_size if part is None else part, method.batch_size, n)


def finish(method: Method, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
    """Compute what prediction needs and no step has trained."""
    if (own := _option(method, "finish")) is not None:
        own(net, features, k, generator)


def gives_logits(method: Method) -> bool:
    """Whether the method gives logits, for scores that cannot be computed from probabilities."""
    own = _option(method, "has_logits")
    return _option(method, "logits") is not None and (own is None or bool(own()))


def logits_of(method: Method, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
    """Logits by head, in the order of `predict`; empty for a method without."""
    return _logits(method, net, features) if gives_logits(method) else {}


def predict(method: Method, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
    """Probabilities by head; the first is the answer, the others are reported beside it."""
    own = _option(method, "predict")
    if own is not None:
        return cast(dict[str, Tensor], by_name(method, "predict", own(net, features), ROWS))
    return {name: z.softmax(1) for name, z in _logits(method, net, features).items()}


def _logits(method: Method, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
    return tensors(method, "logits", cast(Any, method).logits(net, features), ROWS, 2)


def calibrated(method: Method) -> bool:
    """Whether the method's own confidences are calibrated; those of other methods need a calibration head."""
    own = _option(method, "calibrated")
    return own is not None and bool(own())


def finds_groups(kind: type[Method]) -> bool:
    """Whether methods of this class can find the number of groups: `heads`, `start` and `finish` then get k = 0."""
    return bool(kind.card.without_k)


def found(method: Method, net: Net) -> tuple[int, str]:
    """The number of groups that `finish` found, and a sentence on it for the user."""
    return cast(tuple[int, str], cast(Any, method).found(net))
