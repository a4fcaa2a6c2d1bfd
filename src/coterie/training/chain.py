"""Which stages lead to a method: the one that trains the backbone before it, and the one before that."""

from __future__ import annotations

from coterie.catalogue import method_class, method_names
from coterie.contract import Card, is_trained
from coterie.types import InputError


def chain_of(name: str, kind: str, init: str | None, *, weights: bool = False, pretrain: str = "auto") -> list[str]:
    """Names of the stages that lead to a method. Raises InputError for a `pretrain` that cannot come before it.

    A run to start from (`init`) takes the place of the stages before. So are backbone `weights` that were loaded whole,
    but for methods that inherit heads as well, which such weights lack. Most methods need no pre-training for
    embeddings.
    """
    card = method_class(name).card
    if init is not None and pretrain == "none":
        pretrain = "auto"  # both say that nothing is trained before
    if pretrain != "auto" and init is not None:
        raise InputError(f"--pretrain {pretrain} and --init both train the backbone: leave one of them out.")
    if pretrain != "auto":
        _, *rest = ["", name] if len(usual := chain_of(name, kind, None)) == 1 else usual
        following = method_class(rest[0]).card
        if pretrain != "none":
            check_pretrains(pretrain, rest[0])
            return [pretrain, *rest]
        if following.inherits:
            raise InputError(
                f"{following.title} goes on from the {' and '.join(following.inherits)} of {following.starts_from}: "
                "leave out --pretrain none."
            )
        return rest
    if card.starts_from is None or kind not in card.starts_on or init is not None or (weights and not card.inherits):
        return [name]
    return [*chain_of(card.starts_from, kind, init, weights=weights), name]


def pretraining(first: str) -> Card:
    """The card of the method that `--pretrain` names. Raises InputError where there is none."""
    try:
        return method_class(first).card
    except InputError as error:
        raise InputError(f"--pretrain is {first[:60]!r}. {error}") from error


def check_pretrains(first: str, name: str) -> None:
    """Raise InputError unless a run of `first` leaves the parts that `name` starts from."""
    card, wanted = pretraining(first), method_class(name).card.inherits
    able = [
        other
        for other in method_names()
        if other != name
        and is_trained(method_class(other))
        and method_class(other).card.trains_backbone
        and method_class(other).card.starts_from is None
        and set(wanted) <= set(method_class(other).card.gives)
    ]
    if first not in able:
        lacks = (
            f"has no {' and '.join(wanted)} to go on from"
            if set(wanted) - set(card.gives)
            else "trains no backbone first"
        )
        raise InputError(f"--pretrain is {first}, which {lacks}: {name} can start from {', '.join(able)}.")
