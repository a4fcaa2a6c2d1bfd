"""Training curves of the report: every number that a method logs has a name and a hint for its reader."""

from __future__ import annotations

import ast
from pathlib import Path

import torch

from coterie.calibration.post_hoc import CARD
from coterie.catalogue import method_class, method_names
from coterie.objectives.selection_strategies import FlexMatch, FreeMatch, GradientFilter, ProximityFilter, WeakAnswers
from coterie.report.training import HEALTH, build_stages
from coterie.yardstick import CARD as YARDSTICK

KNOWN = {
    *HEALTH,
    *CARD.logs,
    *YARDSTICK.logs,
    *(name for method in method_names() for name in method_class(method).card.logs),
}
SOURCE = Path(__file__).parents[2] / "src" / "coterie"


def logged_names() -> set[str]:
    """The keywords of every call of `log` in the methods and what they use, and `x` and `over_x` of PICA's numbers."""
    found = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "log":
                found |= {keyword.arg for keyword in node.keywords if keyword.arg}
    return found


def test_a_setting_without_a_value_is_said_not_to_be_set() -> None:
    stages = build_stages({"stages": [{"name": "cdc", "settings": {"threshold": None, "cells": 9}}]}, [])
    assert stages[0].settings == [("threshold", "not set"), ("cells", "9")]


def test_numbers_that_methods_log_are_explained() -> None:
    names = logged_names()
    assert {"selected", "core_share"} <= names
    assert names - KNOWN == set()
    assert {name.removeprefix("over_") for name in KNOWN if name.startswith("over_")} >= {"pui", "confidence"}


def test_numbers_of_selections_are_explained() -> None:
    generator = torch.Generator().manual_seed(0)
    weak = torch.randn(40, 3, generator=generator).softmax(1)
    seen = WeakAnswers(weak, torch.arange(40), torch.randn(40, 8, generator=generator), torch.randn(3, 6), 0)
    flexible = FlexMatch(3, 0.6)
    flexible.begin(40)
    names = set()
    for strategy in (
        flexible,
        FreeMatch(3, 0.9),
        GradientFilter(3, 6, 0.5, match_label=False),
        ProximityFilter(3, 8, 0.5, match_label=False),
    ):
        names |= set(strategy(seen).numbers)
    assert names
    assert names <= set(method_class("cdc").card.logs)


def test_a_stage_has_one_curve_for_each_number_with_its_hint() -> None:
    line = {"stage": "rdc", "losses": {"latent": 1.0}, "seconds": 1.0}
    history = [{**line, "epoch": epoch, "health": {"core_share": 0.5, "unheard_of": 1.0}} for epoch in (1, 2)]
    (stage,) = build_stages(
        {"stages": [{"name": "rdc"}], "logs": {"rdc": {"core_share": ["core share", "it settles"]}}}, history
    )
    found = {curve.name: curve.hint for curve in stage.curves}
    assert found == {"loss: latent": "", "core share": "it settles", "unheard of": ""}
