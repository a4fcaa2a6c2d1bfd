"""The next thing to try after a failure: only settings that the stage has, and stages that the run has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from typing import Any

from coterie.common.words import capital
from coterie.contract import Method, is_trained, name_of
from coterie.training.idle import broken

FEW_EPOCHS = 10  # below which a collapse may come of too little training


@dataclass(frozen=True)
class Advice:
    """What a piece of advice may name: the settings of a stage, and the stage before it."""

    stage: str
    settings: tuple[str, ...]
    before: str | None = None  # the stage before
    half: bool = False  # it computes in bfloat16
    whole: bool = False  # a batch is all items already
    balance: str | None = None  # the setting that draws groups to equal sizes
    short: bool = False  # it trains for fewer epochs than most data take
    heavy: tuple[str, ...] = ()  # weights of losses above their defaults
    zero: tuple[str, ...] = ()  # settings that cannot be lowered
    given: bool = False  # its groups are those of the run that it fine-tunes, and so is their number

    def _set(self, *names: str) -> list[str]:
        """The settings among these that the stage has, as `--set` options."""
        return [f"--set {self.stage}.{name}" for name in names if name in self.settings]

    def _lower(self, *names: str) -> list[str]:
        """Advice to lower those of these settings that the stage has, and that are above 0."""
        return [f"lower {name}" for name in self._set(*(name for name in names if name not in self.zero))]

    def smaller_steps(self) -> str:
        """Advice after a loss that is not finite."""
        rates = [f"--set {self.stage}.{name}" for name in self.settings if name.endswith("_rate")]
        tries = [f"a smaller --set {self.stage}.{name}" for name in self.heavy]
        tries += [f"a lower learning rate ({', '.join(rates)})"] if rates else []
        if self.half:
            tries.append("--precision fp32")
        return f"Try {_joined(tries)}." if tries else "Check that all items have values of similar size."

    def collapsed(self) -> str:
        """Advice after everything went into one group."""
        tries = [f"train the stage before it, {self.before}, longer"] if self.before is not None else []
        tries += [f"raise {name}" for name in self._set("epochs") if self.short]
        tries += self._lower("boost_epochs")
        tries += [f"raise {name}" for name in self._set(self.balance or "entropy_weight", "fidelity")]
        tries += self._lower("learning_rate", "backbone_rate")[:1]
        return _sentence([*tries, "check that the items differ from each other"])

    def lost_groups(self) -> str:
        """Advice after groups fell out of use in training."""
        before = self.before
        tries = [f"train the stage before it, {before}, longer", f"compare with its own groups (--method {before})"]
        tries = tries if before is not None else []
        tries += self._lower("boost_epochs", "threshold")
        tries += [f"raise {name}" for name in self._set("at_least")]
        return _sentence([*tries, "start again with another seed"])

    def empty_groups(self) -> str:
        """Advice on groups without an item, which training did not show to be lost."""
        if not self.given:
            return "a smaller -k may suit these data."
        rates = self._lower("learning_rate")
        return f"{_joined([*rates, 'keep the groups of the run that it began with'])}."

    def same_embedding(self) -> str:
        tries = self._lower("learning_rate", "backbone_rate")[:1]
        tries += [f"raise {name}" for name in self._set("warm_up")]
        return _sentence([*tries, "give more varied items"])

    def nothing_selected(self) -> str:
        tries = [] if self.whole else [f"raise {name}" for name in self._set("batch_size")]
        tries += self._lower("threshold", "upper")
        return _sentence([*tries, "ask for fewer groups"])


def advice_for(
    method: Method, before: str | None = None, *, half: bool = False, whole: bool = False, given: bool = False
) -> Advice:
    """The advice that fits a stage; `before` is the name of the stage before it, `given` as in `Advice`."""
    settings: Any = getattr(method, "settings", method)  # a calibration keeps its settings apart
    idle = {f.name for f in fields(settings) if getattr(settings, f.name) is None}  # left out, so not at work
    idle.update(name for one in broken(method) for name in one.settings)
    at_work = tuple(f.name for f in fields(settings) if f.name not in idle)
    zero = tuple(name for name in at_work if getattr(settings, name) == 0)
    short = is_trained(method) and method.epochs < FEW_EPOCHS
    heavy = tuple(f.name for f in fields(settings) if f.name.endswith("_weight") and _above(settings, f))
    return Advice(name_of(method), at_work, before, half, whole, method.card.balance, short, heavy, zero, given)


def _above(settings: Any, field: Field[Any]) -> bool:
    """Whether a weight is above its default; one without a value, or without a default that is a number, is not."""
    value, usual = getattr(settings, field.name), field.default
    return all(isinstance(number, int | float) for number in (value, usual)) and value > usual


def _joined(parts: Sequence[str]) -> str:
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _sentence(parts: Sequence[str]) -> str:
    return f"{capital(_joined(parts))}."
