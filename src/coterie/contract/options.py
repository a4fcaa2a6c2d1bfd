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

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from coterie.contract.card import Facts, Pass, Step, View
from coterie.contract.members import by_name, check_views, gave, tensors
from coterie.contract.method import Method, Trained
from coterie.networks.net import Net
from coterie.types import EpochStart, Features, InputError

ROWS = "{head: a row of k numbers for each item}"
ALL = "all"  # the name of a single optimiser


def _option(method: Method, name: str) -> Any:
    """The member of that name, None where the method has none."""
    return getattr(method, name, None)


def check(method: Method, facts: Facts) -> None:
    """Raise InputError when the settings cannot work on such data (before any training)."""
    if (own := _option(method, "check")) is not None and (said := own(facts)) is not None:
        raise gave(method, "check", said, "nothing, and raise coterie.types.InputError where settings cannot work")


def limits_of(method: Method, facts: Facts) -> dict[str, tuple[int, int | None]]:
    """(least, most) of settings that must fit these data; None: no most.

    Raises InputError for bounds of another form.
    """
    own = _option(method, "limits")
    limits = {} if own is None else by_name(method, "limits", own(facts), "{setting: (least, most)}")
    for name, bounds in limits.items():
        if not hasattr(method, name) or not isinstance(bounds, tuple) or len(bounds) != 2:
            raise InputError(
                f"`limits` of {type(method).__name__} gave {name}: {bounds!r:.80}; it takes (least, most) of a setting."
            )
    return dict(limits)


def heads_of(method: Method, net: Net, k: int) -> dict[str, nn.Module]:
    """The parts that a method adds to the net. Raises InputError for what is none, and where the card names others."""
    given = by_name(method, "heads", method.heads(net, k), "{name: module}")
    kind = type(method).__name__
    for name, part in given.items():
        if not isinstance(part, nn.Module):
            raise InputError(f"`heads` of {kind} gave {name} as a {type(part).__name__}: it takes a module of torch.")
        if not str(name).isidentifier() or hasattr(net, name):
            raise InputError(f"`heads` of {kind} gave a part the name {name!r}, which is taken, or no name of Python.")
    for wanted in passes_of(method):
        names = [*([] if wanted.sample is None else [wanted.sample]), *wanted.partners.values()]
        if unknown := [name for name in names if name not in given]:
            raise InputError(f"`passes` of {kind} names {', '.join(unknown)}, which `heads` does not give.")
    # A method may leave one of several answers out by its settings, but not all.
    lacking = [name for name in method.card.inherits if name not in given]
    if method.card.answers and not set(method.card.answers) & set(given):
        lacking += method.card.answers
    if lacking:
        raise InputError(
            f"`card` of {kind} names {', '.join(lacking)}, which `heads` does not give ({', '.join(given)})."
        )
    return dict(given)


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
    """The optimisers by name; a single one is called `all`.

    Raises InputError for parameters that are no part of the net.
    """
    own = method.optimiser(net)
    named = {ALL: own} if isinstance(own, Optimizer) else own
    if not (isinstance(named, Mapping) and named and all(isinstance(one, Optimizer) for one in named.values())):
        raise gave(method, "optimiser", own, "an optimiser of torch, or {name: optimiser}")
    parts = {id(parameter) for parameter in net.parameters()}
    for name, one in named.items():
        if not all(id(parameter) in parts for group in one.param_groups for parameter in group["params"]):
            raise InputError(
                f"`optimiser` of {type(method).__name__} trains with {name} what is no part of the net, so no model "
                "would hold it: give it as one of `heads`."
            )
    return dict(named)


def trained_by(method: Trained, step: Step, optimisers: Mapping[str, Optimizer]) -> list[Optimizer]:
    """The optimisers that take a step. Raises InputError for a name that `optimiser` did not give."""
    names = (step.trains,) if isinstance(step.trains, str) else step.trains
    if unknown := [name for name in names if name not in optimisers]:
        raise InputError(
            f"`step` of {type(method).__name__} trains {', '.join(map(str, unknown))}, but `optimiser` gave "
            f"{', '.join(optimisers)}."
        )
    return [optimisers[name] for name in names or optimisers]


def rates_of(method: Trained, progress: float, groups: list[dict[str, Any]]) -> list[float]:
    """The factor on the learning rate of each group of parameters at this share of the training (0 to 1).

    Raises InputError for what is no factor, or where factors are by name and one of the groups has none.
    """
    own = _option(method, "rate")
    factor = 1.0 if own is None else own(progress)
    factors: list[Any] = [factor.get(group.get("name")) if isinstance(factor, Mapping) else factor for group in groups]
    if not all(isinstance(one, int | float) and 0 <= one < math.inf for one in factors):
        raise gave(method, "rate", factor, "a number from 0 on, or one for the name of each group of parameters")
    return factors


def views_of(method: Method) -> dict[str, View]:
    """The views that a method needs with its settings, by the attribute of the batch."""
    own = _option(method, "views")
    views = method.card.views if own is None else by_name(method, "views", own(), "{name: view}")
    check_views(type(method), views)
    return {name: View(view) if isinstance(view, str) else view for name, view in views.items()}


def passes_of(method: Method) -> tuple[Pass, ...]:
    """The passes of an epoch, in order: one through the complete batches, unless the method says otherwise."""
    own = _option(method, "passes")
    passes = (Pass(),) if own is None else own()
    if not isinstance(passes, list | tuple) or not passes or not all(isinstance(one, Pass) for one in passes):
        raise gave(method, "passes", passes, "a tuple of Pass")
    return tuple(passes)


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
        return tensors(method, "predict", own(net, features), ROWS, 2)
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
