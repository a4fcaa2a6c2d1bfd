"""Settings that do nothing beside the others are said, and truly do nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coterie import Clusterer
from coterie.catalogue import method_class, method_names
from coterie.contract import Facts
from coterie.methods.cdc import CDC
from coterie.training.advice import advice_for
from coterie.training.idle import idle
from coterie.training.plan import RunSettings, make_plan

TINY = (("inner_rate", "1e-20"), ("outer_rate", "1e-30"))
IMAGES = Facts(n=200, k=3, kind="images", device="cpu", side=32)


def said(method: Any, family: str = "photo", **overrides: Any) -> list[str]:
    facts = replace(IMAGES, kind="embeddings", side=0, dim=20) if family == "vector" else IMAGES
    plan = make_plan(RunSettings(n_clusters=3, method=method, overrides=overrides), facts, "x")
    return idle(plan.stages, plan.given, family)


@pytest.mark.parametrize(
    ("method", "family", "overrides", "sentences"),
    [
        ("cdc", "photo", {"joins_above": 0.5}, ["cdc.joins_above has no effect with cdc.selection=cdc."]),
        ("cdc", "photo", {"joins_above": 0.5, "selection": "gsf"}, []),
        ("cdc", "photo", {"layout": "single"}, []),  # what the user did not set
        (
            "cdc",
            "photo",
            {"layout": "single", "cells": 9, "stop_gradient": False},
            ["cdc.cells and cdc.stop_gradient have no effect with cdc.layout=single."],
        ),
        ("nmf", "vector", {"neighbours": 3}, ["nmf.neighbours has no effect with nmf.locality=0.0."]),
        (
            "pica",
            "photo",
            {"over": 9, "over_clustering": False},
            ["pica.over has no effect with pica.over_clustering=false."],
        ),
        ("rdc", "photo", {"gap": 2.0, "accepted": 0.5}, ["rdc.accepted has no effect with rdc.gap=2.0."]),
        ("rdc", "photo", {"accepted": 0.5}, []),
        ("simclr", "photo", {"blur": 0.5}, []),
        (
            "rdc",
            "photo",
            {"border_code": "refresh"},
            ["rdc.border_code has no effect with rdc.include_border=false and rdc.border_image=clean."],
        ),
        ("rdc", "photo", {"border_code": "refresh", "border_image": "decoded"}, []),
        (
            "rdc",
            "photo",
            {"border_code": "refresh", "include_border": True, "refresh": "bank"},
            ["rdc.border_code has no effect with rdc.refresh=bank."],
        ),
        ("simclr", "glyph", {"blur": 0.5}, ["simclr.blur has no effect on letters or signs."]),
        ("secu", "vector", {"crop": 0.5}, ["secu.crop has no effect on embeddings."]),
        ("dec", "photo", {"ae.restarts": 3}, ["ae.restarts has no effect where dec comes after ae."]),
        ("ae", "photo", {"restarts": 3}, []),
        (
            "acai",
            "photo",
            {"critic_frozen": True, "critic_pairing": "all"},
            ["acai.critic_pairing has no effect with acai.critic_frozen=true."],
        ),
        (
            "acai",
            "vector",
            {"warm_up": 0.5, "interpolation_weight": 0.0},
            ["acai.warm_up has no effect with acai.interpolation_weight=0.0."],
        ),
        (
            "vae",
            "vector",
            {"warm_up": 0.5, "divergence_weight": 0.0},
            ["vae.warm_up has no effect with vae.divergence_weight=0.0."],
        ),
        (
            "conr",
            "photo",
            {"keep": 1.0, "keep_all_from": 0.5},
            ["conr.keep_all_from has no effect with conr.keep=1.0."],
        ),
        ("conr", "photo", {"keep_all_from": 0.5}, []),
        (
            "adc",
            "photo",
            {"walk_weight": 0.0, "visit_weight": 0.0, "ramp": 0.5},
            ["adc.ramp has no effect with adc.walk_weight=0.0 and adc.visit_weight=0.0."],
        ),
        ("adc", "photo", {"walk_weight": 0.0, "ramp": 0.5}, []),
        (
            "dccm",
            "photo",
            {"label_weight": 0.0, "sure_above": 0.5, "map_weight": 0.0, "judge": 9},
            [
                "dccm.sure_above has no effect with dccm.label_weight=0.0.",
                "dccm.judge has no effect with dccm.map_weight=0.0.",
            ],
        ),
        (
            "propos",
            "vector",
            {"scatter_weight": 0.0, "temperature": 0.2},
            ["propos.temperature has no effect with propos.scatter_weight=0.0."],
        ),
        (
            "pssc",
            "vector",
            {"label_weight": 0.0, "sure_above": 0.5},
            ["pssc.sure_above has no effect with pssc.label_weight=0.0."],
        ),
        (
            "spice3",
            "vector",
            {"unlabelled_weight": 0.0, "threshold": 0.5},
            ["spice3.threshold has no effect with spice3.unlabelled_weight=0.0."],
        ),
        (
            "scan3",
            "vector",
            {"labels": "start", "clean_trains": False},
            ["scan3.clean_trains has no effect with scan3.labels=start."],
        ),
        ("vade", "photo", {"learning_rate": 0}, ["vade.learning_rate is 0: what it is the rate of stays as it was."]),
        ("vade", "photo", {"learning_rate": 0, "epochs": 0}, []),
        ("vade", "photo", {"learning_rate": 1e-8}, []),
        (
            "turtle",
            "vector",
            {"outer_rate": 1e-30, "inner_rate": 1e-20},
            [f"turtle.{name} is {rate}: what it is the rate of stays as it was." for name, rate in TINY],
        ),
        (CDC(head_rate=0.0), "vector", {}, ["cdc.head_rate is 0: what it is the rate of stays as it was."]),
        (CDC(joins_above=0.5), "vector", {}, ["cdc.joins_above has no effect with cdc.selection=cdc."]),
        (CDC(selection="ppf", joins_above=0.5), "vector", {}, []),
    ],
)
def test_what_does_nothing_is_said_of_what_the_user_set(
    method: Any, family: str, overrides: dict[str, Any], sentences: list[str]
) -> None:
    assert said(method, family, **overrides) == sentences


@pytest.mark.parametrize(
    ("first", "setting", "value"),
    [("dmicc", "restarts", 3), ("dcgan", "restarts", 3), ("divclust", "answer", "single")],
)
def test_what_shapes_an_answer_does_nothing_in_a_stage_before(first: str, setting: str, value: Any) -> None:
    settings = RunSettings(n_clusters=3, method="scan", pretrain=first, overrides={f"{first}.{setting}": value})
    plan = make_plan(settings, IMAGES, "x")
    assert idle(plan.stages, plan.given, "photo") == [
        f"{first}.{setting} has no effect where scan comes after {first}."
    ]


@pytest.mark.parametrize("name", method_names())
def test_cards_name_settings_of_the_method(name: str) -> None:
    kind = method_class(name)
    method = kind()
    for one in kind.card.only_if:
        one.holds(*(getattr(method, name) for name in one.others))
        assert all(hasattr(method, setting) for setting in one.settings)
    named = (*kind.card.of_photographs, *kind.card.of_the_last, *kind.card.of_own_values)
    assert all(hasattr(method, setting) for setting in named)


@pytest.mark.parametrize(
    ("method", "idle_too"),
    [
        ("agglomerative", {"linkage": "ward", "width": 2}),
        ("kmeans", {"mini_batches": True, "iterations": 1}),
        ("nmf", {"neighbours": 1}),
        ("spectral", {"neighbours": 5, "scale": 3, "voters": 1}),
        ("cdc", {"epochs": 1, "threshold_decay": 0.0, "joins_above": 0.0}),
        ("simclr", {"epochs": 1, "blur": 1.0, "jitter": 0.0}),
        ("vae", {"epochs": 1, "divergence_weight": 0.0, "warm_up": 1.0}),
    ],
)
def test_what_is_said_to_have_no_effect_has_none(method: str, idle_too: dict[str, Any]) -> None:
    rows = np.random.default_rng(0).random((60, 8), np.float32)

    def fitted(settings: dict[str, Any]) -> Clusterer:
        return Clusterer(3, method, random_state=0, calibrate=False, device="cpu", settings=settings).fit(rows)

    found = fitted(idle_too)
    notes = " ".join(note.split(" no effect ")[0] for note in found.record_["notes"] if " no effect " in note)
    without = {name: value for name, value in idle_too.items() if f"{method}.{name}" not in notes}
    assert len(without) < len(idle_too)
    assert np.array_equal(found.predict_proba(rows), fitted(without).predict_proba(rows))


@pytest.mark.parametrize(
    ("method", "why", "choice"),
    [
        ("kmeans", "on the features of a backbone", {"backbone": "mlp"}),
        ("vmf", "on rows that were scaled one by one (views.row_norm)", {"row_norm": "l2"}),
        ("vmf", None, {}),
    ],
)
def test_centre_is_of_the_items_own_values(method: str, why: str | None, choice: dict[str, str]) -> None:
    rows = np.random.default_rng(0).random((60, 8), np.float32)
    settings: dict[str, Any] = {"distance": "cosine"} if method == "kmeans" else {}
    settings |= {f"views.{name}": value for name, value in choice.items() if name == "row_norm"}
    backbone = choice.get("backbone", "auto")

    def fitted(centre: bool) -> Clusterer:
        given = {**settings, "centre": centre}
        same: dict[str, Any] = {"random_state": 0, "calibrate": False, "device": "cpu", "backbone": backbone}
        return Clusterer(3, method, settings=given, **same).fit(rows)

    found = fitted(True)
    notes = [note for note in found.record_["notes"] if "centre has no effect" in note]
    assert notes == ([] if why is None else [f"{method}.centre has no effect {why}."])
    alike = np.array_equal(found.predict_proba(rows), fitted(False).predict_proba(rows))
    assert alike == (why is not None)


def test_advice_names_no_setting_that_does_nothing() -> None:
    assert "entropy_weight" in advice_for(CDC()).collapsed()
    assert "entropy_weight" not in advice_for(CDC(layout="single")).collapsed()


def test_a_calibration_head_that_learns_nothing_is_said() -> None:
    items = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    options: dict[str, Any] = {"method": "kmeans", "calibrate": True, "settings": {"calibrate.head_rate": 1e-20}}
    notes = Clusterer(2, **options).fit(items).record_["notes"]
    assert "calibrate.head_rate is 1e-20: what it is the rate of stays as it was." in notes
