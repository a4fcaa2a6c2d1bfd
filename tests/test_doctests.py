"""Every public name has an example in its docstring; it runs alone, as a reader would paste it."""

from __future__ import annotations

import doctest
import inspect
from types import ModuleType
from typing import Any

import pytest
from _made import PUBLIC

import coterie
from helpers.own_methods import forgotten

NAMES = [(module, name) for module, names in PUBLIC.items() for name in names]


def described(module: ModuleType, name: str) -> dict[str, Any]:
    """A function, or a class and its public methods, by their names."""
    of = getattr(module, name)
    methods = [(called, each) for called, each in vars(of).items() if inspect.isfunction(each)]
    own = {f"{name}.{called}": each for called, each in methods if not called.startswith("_")}
    return {name: of, **(own if inspect.isclass(of) else {})}


def examples(of: Any, called: str) -> doctest.DocTest:
    return doctest.DocTestParser().get_doctest(inspect.getdoc(of) or "", {}, called, None, None)


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{module.__name__}.{name}" for module, name in NAMES])
def test_the_examples_of_a_public_name_run(module: ModuleType, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert examples(getattr(module, name), name).examples, f"{name} has no example"
    with forgotten():
        for called, of in described(module, name).items():
            found: Any = doctest.DocTestRunner().run(examples(of, called))
            assert found.failed == 0, capsys.readouterr().out


def test_every_method_of_the_clusterer_has_an_example() -> None:
    methods = described(coterie, "Clusterer")
    assert len(methods) > 8
    assert [called for called, of in methods.items() if not examples(of, called).examples] == []
