"""A method that is defined outside the package: the page that shows one, run as it is printed."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import coterie
from coterie import catalogue
from coterie.cli.failing import unforeseen
from coterie.contract import Card
from coterie.contract.members import check_members
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


MINE = Card("Mine", "nobody", 2026, "none", "https://example.org")


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
    ],
)
def test_a_misspelt_or_missing_member_is_said_at_once(members: dict[str, Any], said: str) -> None:
    """The engine looks members up by name, and would train without a word what lacks one."""
    own = {**{name: vars(Untrained)[name] for name in ("card", "heads", "logits")}, **members}
    kind = type("Wrong", (), {name: of for name, of in own.items() if of is not None})
    with pytest.raises(InputError, match=said), forgotten():
        coterie.register(dataclass(frozen=True)(kind))


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
    ],
)
def test_what_is_no_mapping_is_said(member: str, gives: Any, said: str) -> None:
    own = {"card": MINE, "heads": Untrained.heads, "logits": Untrained.logits, member: lambda *given: gives}
    with forgotten(), pytest.raises(InputError, match=said):
        coterie.Clusterer(2, method=dataclass(frozen=True)(type("Gives", (), own))()).fit([[0.0], [0.1], [8.0], [9.0]])


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
        coterie.Clusterer(2, method=Gives(), calibrate=False).fit([[0.0], [0.1], [8.0], [9.0]])


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
        coterie.Clusterer(2, method=Gives(), calibrate=False).fit([[0.0], [0.1], [8.0], [9.0]])


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
        coterie.Clusterer(2, method=method, calibrate=calibrate).fit([[0.0], [0.1], [8.0], [9.0]])


@pytest.mark.parametrize("shape", [(4, 3), (4,), (3, 2), (4, 2, 1)])
def test_answers_of_another_shape_are_said(shape: tuple[int, ...]) -> None:
    heads = {"own": torch.zeros(4, 2), "other": torch.zeros(shape)}
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
