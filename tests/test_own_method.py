"""A method that is defined outside the package: the page that shows one, run as it is printed."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import coterie
from coterie import catalogue
from coterie.contract import Card
from coterie.types import InputError, Source
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


def test_methods_of_the_package_keep_their_names() -> None:
    from coterie.methods.cdc import CDC as Own

    assert coterie.register(Own) is Own
    assert catalogue.method_class("cdc") is Own
