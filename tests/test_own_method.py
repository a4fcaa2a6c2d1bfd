"""A method that is defined outside the package: the page that shows one, run as it is printed."""

from __future__ import annotations

import copy
import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import coterie
from coterie import catalogue
from coterie.cli.failing import unforeseen
from coterie.contract import Card, OnlyIf, Pass, Step
from coterie.contract.members import check_members, numbers
from coterie.networks.net import trainable
from coterie.prediction.answers import check_answers
from coterie.types import InputError, RunFailed, Source
from helpers.own_methods import forgotten

PAGE = Path(__file__).parents[1] / "docs" / "own_method.md"


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The class of the page's first block, in a file of the user's."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 46
    (tmp_path / "somewhere_else.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with forgotten():
        yield importlib.import_module("somewhere_else").SmallAutoEncoder
    del sys.modules["somewhere_else"]


def test_it_is_fitted_saved_and_loaded_like_any_other(shown: Any, digits: Source, tmp_path: Path) -> None:
    images = digits.items.array  # type: ignore[attr-defined]
    common: dict[str, Any] = {"random_state": 0, "backbone": "small-4", "device": "cpu", "calibrate": False}
    model = coterie.Clusterer(3, method=shown(epochs=1), output=tmp_path / "run", **common).fit(images)
    assert model.record_["stages"][0]["name"] == "smallautoencoder"
    loaded = coterie.load(tmp_path / "run")
    assert (loaded.predict_proba(images) == model.predict_proba(images)).all()
    by_name = coterie.Clusterer(3, method="smallautoencoder", settings={"epochs": 1}, **common).fit(images)
    assert (by_name.labels_ == model.labels_).all()


def test_a_model_of_a_method_that_is_not_known_is_refused_and_nothing_is_imported(
    shown: Any, digits: Source, tmp_path: Path
) -> None:
    images = digits.items.array  # type: ignore[attr-defined]
    coterie.Clusterer(3, method=shown(epochs=0), backbone="small-4", output=tmp_path / "run", calibrate=False).fit(
        images
    )
    catalogue._registered.clear()
    with pytest.raises(InputError, match=r"'smallautoencoder'.*coterie\.register"):
        coterie.load(tmp_path / "run")


@dataclass(frozen=True)
class CDC:
    card: ClassVar[Card] = Card("Not CDC", "nobody", 2026, "none", "https://example.org")

    def heads(self, net: Any, k: int) -> dict[str, torch.nn.Module]:
        return {}

    def logits(self, net: Any, features: Any) -> dict[str, Any]:
        return {}


def test_a_name_of_coteries_own_is_refused() -> None:
    with pytest.raises(InputError, match="another name"):
        coterie.register(CDC)
    with pytest.raises(InputError, match="no method"):
        coterie.register(dict)


POINTS = [[0.0], [0.1], [8.0], [9.0]]
MINE = Card("Mine", "nobody", 2026, "none", "https://example.org")


def carded(**entries: Any) -> Card:
    """A card with entries that the tests' own type checks would not let through, as a user's code has none."""
    card = copy.copy(MINE)
    for name, value in entries.items():
        object.__setattr__(card, name, value)
    return card


@dataclass(frozen=True)
class Mistaken:
    card: Card = MINE

    def heads(self, net: Any, k: int) -> dict[str, torch.nn.Module]:
        return {}


def test_a_card_that_would_be_a_setting_is_refused() -> None:
    with pytest.raises(InputError, match=r"`card` of Mistaken counts as a setting: annotate it as ClassVar"):
        coterie.register(Mistaken)


@dataclass(frozen=True)
class Untrained:
    """A method without any training, whose members the next test replaces."""

    card: ClassVar[Card] = MINE

    def heads(self, net: Any, k: int) -> dict[str, torch.nn.Module]:
        return {"groups": torch.nn.Linear(net.width, k)}

    def logits(self, net: Any, features: Any) -> dict[str, Any]:
        return {"softmax": net.groups(features)}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"rate": 1e-3}, r"`rate` of Wrong is a float, but the engine calls it, as rate\(progress\): give a setting"),
        ({"logits": None, "logit": Untrained.logits}, "`logit` of Wrong is called by nothing; did you mean `logits`"),
        ({"optimizer": lambda self, net: None}, "did you mean `optimiser`"),
        ({"finish": lambda self, net, features: None}, r"`finish` of Wrong .* finish\(net, features, k, generator\)"),
        ({"logits": None}, "Wrong has neither `logits` nor `predict`"),
        ({"step": lambda self, net, batch: iter(())}, "no epochs and no batch_size and no optimiser"),
        ({"optimiser": lambda self, net: None}, "`optimiser` but no `step`"),
        ({"card": "mine"}, "`card` of Wrong is a str"),
        ({"card": carded(scaling="unitt")}, "`card.scaling` of Wrong is 'unitt': input should be 'standard' or"),
        ({"card": carded(logs={"x": "hint"})}, r"`card.logs` of Wrong is \{'x': 'hint'\}: "),
        ({"card": carded(balance="weight")}, "`card.balance` of Wrong names 'weight', which is no setting of it"),
        (
            {"card": carded(only_if=(OnlyIf("steps", bool, ("weight",)),))},
            "`card.only_if` of Wrong names 'steps', which is no setting of it",
        ),
        ({"card": carded(starts_from="wrong")}, "which is the method itself"),
        ({"card": carded(views={"one": "cleam"})}, "The view 'one' of Wrong is 'cleam': known views are clean"),
        ({"card": carded(views={"index": "clean"})}, "A view of Wrong has the name 'index'"),
        ({"practical": lambda facts: {}}, "`practical` of Wrong is called without an object: make it a @staticmethod"),
    ],
)
def test_a_misspelt_or_missing_member_is_said_at_once(members: dict[str, Any], said: str) -> None:
    """The engine looks members up by name, and would train without a word what lacks one."""
    own = {**{name: vars(Untrained)[name] for name in ("card", "heads", "logits")}, **members}
    kind = type("Wrong", (), {name: of for name, of in own.items() if of is not None})
    with pytest.raises(InputError, match=said), forgotten():
        coterie.register(dataclass(frozen=True)(kind))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (("epochs", int, -1), "`epochs` of Set is -1: it takes a whole number of at least 0"),
        (("epochs", int, "3"), "`epochs` of Set is '3'"),
        (("batch_size", int, 0), "`batch_size` of Set is 0: it takes a whole number of at least 1"),
        (("size", Any, torch.zeros(2)), "setting `size` of Set is a Tensor, which no record can hold"),
    ],
)
def test_defaults_that_cannot_be_are_refused(setting: Any, said: str) -> None:
    name, of, value = setting
    own = make_dataclass("Set", [(name, of, field(default=value))], bases=(Untrained,), frozen=True)
    with forgotten(), pytest.raises(InputError, match=said):
        coterie.register(own)


def test_settings_that_could_change_are_refused() -> None:
    own = {name: vars(Untrained)[name] for name in ("card", "heads", "logits")}
    with forgotten(), pytest.raises(InputError, match=r"Loose can be changed: write @dataclass\(frozen=True\)"):
        coterie.register(dataclass(type("Loose", (), own)))


def test_a_setting_without_a_default_is_refused_and_a_helper_is_not() -> None:
    with forgotten():
        with pytest.raises(InputError, match="setting `size` of Sized has no default"):
            coterie.register(make_dataclass("Sized", [("size", int)], bases=(Untrained,), frozen=True))
        assert coterie.register(Untrained) is Untrained
        helper = {"card": MINE, "heads": Untrained.heads, "logits": Untrained.logits, "logit": lambda self: 0}
        coterie.register(dataclass(frozen=True)(type("Helped", (), helper)))


@pytest.mark.parametrize(
    ("member", "gives", "said"),
    [
        ("heads", [torch.nn.Linear(2, 2)], r"`heads` of Gives gave a list: .* \{name: module\}"),
        ("logits", None, r"`logits` of Gives gave nothing: .* row of k numbers"),
        ("limits", None, r"`limits` of Gives gave nothing: .* \{setting: \(least, most\)\}"),
        ("limits", {"size": 3}, r"`limits` of Gives gave size: 3; it takes \(least, most\) of a setting"),
        ("check", False, "`check` of Gives gave a bool: it must give nothing, and raise"),
        ("heads", {"groups": None}, "`heads` of Gives gave groups as a NoneType: it takes a module of torch"),
        ("heads", {"backbone": torch.nn.Linear(2, 2)}, "`heads` of Gives gave a part the name 'backbone'"),
        ("passes", Pass(), "`passes` of Gives gave a Pass: it must give a tuple of Pass"),
        ("passes", (Pass(sample="drawn"),), "`passes` of Gives names drawn, which `heads` does not give"),
    ],
)
def test_what_is_no_mapping_is_said(member: str, gives: Any, said: str) -> None:
    own = {"card": MINE, "heads": Untrained.heads, "logits": Untrained.logits, member: lambda *given: gives}
    with forgotten(), pytest.raises(InputError, match=said):
        coterie.Clusterer(2, method=dataclass(frozen=True)(type("Gives", (), own))()).fit(POINTS)


@dataclass(frozen=True)
class Gives(Untrained):
    """A trained method whose losses and logits are what `loss` and `answer` make of them."""

    epochs: int = 1
    batch_size: int = 2
    card: ClassVar[Card] = replace(MINE, views={"clean": "clean"})
    loss: ClassVar[Any] = None
    answer: ClassVar[Any] = None

    def optimiser(self, net: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(trainable(net.groups), 0.1)

    def step(self, net: Any, batch: Any) -> Iterator[Any]:
        error = net.groups(net.backbone(batch.clean)).square()
        yield {"own": error.mean()} if self.loss is None else type(self).loss(error)

    def logits(self, net: Any, features: Any) -> dict[str, Any]:
        rows = net.groups(features)
        return {"softmax": rows if self.answer is None else type(self).answer(rows)}


@pytest.mark.parametrize(
    ("member", "gives", "said"),
    [
        ("loss", lambda error: {"own": error}, r"`step` of Gives gave own as a tensor of torch.float32 with the shape"),
        ("loss", lambda error: {"own": 3.0}, "`step` of Gives gave own as a float"),
        ("loss", lambda error: {"own": error.mean().detach()}, "gave own, which depends on nothing that is trained"),
        ("loss", lambda error: {}, "gave no loss"),
        ("answer", lambda rows: rows[:, 0], r"`logits` of Gives gave softmax as a tensor .* with the shape"),
        ("answer", lambda rows: rows.long(), "gave softmax as a tensor of torch.int64"),
        ("answer", lambda rows: rows.numpy(), "gave softmax as a ndarray"),
    ],
)
def test_losses_and_logits_that_are_no_such_tensors_are_said(
    member: str, gives: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gives, member, staticmethod(gives))
    with forgotten(), pytest.raises(InputError, match=said):
        coterie.Clusterer(2, method=Gives(), calibrate=False).fit(POINTS)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (lambda self, net, batch: iter(()), "`step` of Gives yielded no losses in the whole first epoch, so nothing"),
        (lambda self, net, batch: None, "`step` of Gives returned a NoneType: it takes `yield` and a dictionary"),
    ],
)
def test_a_step_that_trains_nothing_is_said(steps: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gives, "step", steps)
    with forgotten(), pytest.raises(InputError, match=said):
        coterie.Clusterer(2, method=Gives(), calibrate=False).fit(POINTS)


@pytest.mark.parametrize(
    ("member", "gives", "said"),
    [
        ("optimiser", lambda net: None, "`optimiser` of Gives gave nothing: it must give an optimiser of torch"),
        ("optimiser", lambda net: [], "`optimiser` of Gives gave a list"),
        (
            "optimiser",
            lambda net: torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), 0.1),
            "`optimiser` of Gives trains with all what is no part of the net",
        ),
        ("rate", lambda progress: None, "`rate` of Gives gave nothing: it must give a number from 0 on"),
        ("rate", lambda progress: -1.0, "`rate` of Gives gave -1.0"),
        ("rate", lambda progress: {"net": 1.0}, "`rate` of Gives gave a dict"),
    ],
)
def test_what_training_cannot_take_is_said(member: str, gives: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gives, member, lambda self, given: gives(given), raising=False)
    with forgotten(), pytest.raises(InputError, match=said):
        coterie.Clusterer(2, method=Gives(), calibrate=False).fit(POINTS)


def test_an_optimiser_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = staticmethod(lambda error: Step({"own": error.mean()}, trains=("judge",)))
    monkeypatch.setattr(Gives, "loss", loss)
    with forgotten(), pytest.raises(InputError, match="`step` of Gives trains judge, but `optimiser` gave all"):
        coterie.Clusterer(2, method=Gives(), calibrate=False).fit(POINTS)


@pytest.mark.parametrize("number", [0.5, 1, torch.tensor(0.5)])
def test_plain_numbers_are_recorded_and_vectors_are_refused(number: Any) -> None:
    assert float(numbers(Gives(), "batch.log", {"own": number})["own"]) == float(number)
    with pytest.raises(InputError, match=r"`batch.log` of Gives gave own as a tensor of .* with the shape \(3,\)"):
        numbers(Gives(), "batch.log", {"own": torch.zeros(3)})


@pytest.mark.parametrize("answers", [lambda p: 2 * p, lambda p: torch.tensor([[-0.5, 1.5]]).expand(len(p), 2)])
def test_rows_that_are_no_probabilities_are_said_before_they_are_written(answers: Any, tmp_path: Path) -> None:
    def rows(self: object, net: Any, features: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"own": answers(net.groups(features).softmax(1))}

    method = dataclass(frozen=True)(type("Gives", (), {"card": MINE, "heads": Untrained.heads, "predict": rows}))()
    with forgotten(), pytest.raises(InputError, match="`predict` of Gives gave own with a row from"):
        coterie.Clusterer(2, method=method, calibrate=False, output=tmp_path / "run").fit(POINTS)
    assert not (tmp_path / "run" / "result.parquet").exists()


class Forgetful(torch.nn.Module):
    """Remembers the middle of the items outside of what a checkpoint holds."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.sum(1, keepdim=True) - getattr(self, "middle", 0.0)


@pytest.mark.parametrize(
    ("answers", "said"),
    [(None, "answers otherwise than the run did: what it learned"), (("other",), "cannot answer .*groups")],
)
def test_a_saved_model_that_could_not_answer_is_said_at_the_end_of_the_fit(
    answers: tuple[str, ...] | None, said: str, tmp_path: Path
) -> None:
    def finish(self: object, net: Any, features: Any, k: int, generator: Any) -> None:
        net.groups.middle = float(features().sum(1).mean())

    def logits(self: object, net: Any, features: torch.Tensor) -> dict[str, torch.Tensor]:
        side = net.groups(features)
        return {"softmax": torch.cat([side, -side], dim=1)}

    own = {
        "card": replace(MINE, answers=answers),
        "heads": lambda self, net, k: {"groups": Forgetful(), "other": torch.nn.Linear(1, 1)},
        "logits": logits,
        "finish": finish,
    }
    method = dataclass(frozen=True)(type("Gives", (), own))()
    points = [[0.0], [0.1], [0.2], [9.0]]
    with forgotten(), pytest.raises(InputError, match=f"The saved model of Gives {said}"):
        coterie.Clusterer(2, method=method, calibrate=False, output=tmp_path / "run").fit(points)
    assert not (tmp_path / "run" / "result.parquet").exists()


@pytest.mark.parametrize("calibrate", [True, False])
@pytest.mark.parametrize(
    ("heads", "said"), [([], "of Gives gave no head"), (["own"], "probabilities of item 3 are no numbers")]
)
def test_answers_that_are_no_probabilities_are_said(heads: list[str], said: str, calibrate: bool) -> None:
    def rows(self: object, net: object, features: torch.Tensor) -> dict[str, torch.Tensor]:
        p = torch.full((len(features), 2), 0.5)
        p[3] = torch.nan
        return dict.fromkeys(heads, p)

    own = {"card": MINE, "heads": Untrained.heads, "predict": rows}
    method = dataclass(frozen=True)(type("Gives", (), own))()
    with forgotten(), pytest.raises((InputError, RunFailed), match=said):
        coterie.Clusterer(2, method=method, calibrate=calibrate).fit(POINTS)


@pytest.mark.parametrize("shape", [(4, 3), (4,), (3, 2), (4, 2, 1)])
def test_answers_of_another_shape_are_said(shape: tuple[int, ...]) -> None:
    heads = {"own": torch.full((4, 2), 0.5), "other": torch.full(shape, 0.5)}
    with pytest.raises(InputError, match=r"of Untrained gave other with the shape .* 4 items and 2 groups: .*\(4, 2\)"):
        check_answers(Untrained(), heads, 4, 2)
    check_answers(Untrained(), {"own": heads["own"]}, 4, 2)


def test_an_error_in_a_users_file_is_not_called_one_of_coterie(shown: Any) -> None:
    with pytest.raises(AttributeError) as caught:
        shown().optimiser(None)
    assert "somewhere_else.py:" in unforeseen(caught.value)
    assert "error of coterie itself" not in unforeseen(caught.value)
    assert "error of coterie itself" in unforeseen(ValueError("x"))


def test_methods_of_the_package_have_the_members_that_are_asked_of_others() -> None:
    for name in catalogue.own_names():
        check_members(catalogue.method_class(name))


def test_methods_of_the_package_keep_their_names() -> None:
    from coterie.methods.cdc import CDC as Own

    assert coterie.register(Own) is Own
    assert catalogue.method_class("cdc") is Own
