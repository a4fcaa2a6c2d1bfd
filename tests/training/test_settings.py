"""Any value of any setting: a plan is made, or one sentence names the setting; nothing else, nothing is allocated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coterie.calibration import Calibration
from coterie.catalogue import method_class, method_names
from coterie.contract import Facts, is_trained, part_size_of
from coterie.methods.dec import DEC
from coterie.training.coerce import coerce
from coterie.training.plan import Plan, RunSettings, make_plan, resolved
from coterie.types import InputError
from coterie.views.settings import ViewSettings

FACTS = {
    "images": Facts(n=60, k=4, kind="images", device="cpu", side=16),
    "embeddings": Facts(n=60, k=4, kind="embeddings", device="cpu", dim=8),
}
NUMBERS = st.one_of(st.integers(), st.floats(), st.integers(-3, 70), st.floats(-1, 2))
WILD = st.sampled_from(
    [True, False, None, "", "ten", "1e18", "nan", "-1", 1e18, 1e300, 10**5000, float("inf"), 1 + 2j, {}, [], [[[1]]],
     {"a": 1}, [1, 2], (0.5, 0.1), [-1, 1], [float("nan"), 1], "12", np.int64(3),
     np.float32(0.5), np.bool_(True), object()]
)  # fmt: skip
VALUES = st.one_of(NUMBERS, WILD, st.lists(NUMBERS, min_size=1, max_size=4))
OF_STAGES = {name: method_class(name) for name in method_names()} | {"views": ViewSettings, "calibrate": Calibration}


def refused(setting: str, call: Callable[..., object], *given: object) -> str | None:
    """The sentence of an InputError, None where there is none."""
    try:
        call(*given)
    except InputError as error:
        return str(error)
    except BaseException as error:
        error.add_note(f"of {setting}")
        raise
    return None


def plan_with(method: str, overrides: dict[str, Any]) -> Plan:
    facts = FACTS[method_class(method).card.accepts[0]]
    given = RunSettings(n_clusters=4, method=method, overrides=overrides, calibrate=True)
    return make_plan(given, facts, "photos")


@pytest.mark.parametrize("stage", OF_STAGES)
@settings(max_examples=25, deadline=None)
@given(value=VALUES)
@example(value=1)
@example(value=2)
def test_any_value_of_a_setting_makes_a_plan_or_is_named(stage: str, value: object) -> None:
    method = "cdc" if stage in ("views", "calibrate") else stage
    for setting in (field.name for field in fields(OF_STAGES[stage])):  # type: ignore[arg-type]
        text = refused(setting, plan_with, method, {f"{stage}.{setting}": value})
        assert text is None or (setting in text and len(text) < 400 and "\n" not in text), (setting, text)


@settings(max_examples=25, deadline=None)
@given(value=VALUES)
def test_any_value_of_a_run_makes_a_plan_or_is_named(value: object) -> None:
    for setting in [field.name for field in fields(RunSettings) if field.name != "overrides"]:
        called = "-k" if setting == "n_clusters" else setting.replace("_", "-")
        text = refused(setting, plan_of_run, setting, value)
        assert text is None or ((called in text or setting in text) and len(text) < 400), (setting, text)


def plan_of_run(setting: str, value: object) -> None:
    run = coerce(RunSettings, {setting: value}, "run")
    make_plan(run, replace(FACTS["images"], k=run.k), "photos")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("views.enlarge", -1, "views.enlarge is -1: it must be at least 1"),
        ("moco.learning_rate", False, "moco.learning_rate is False: it takes a number"),
        ("moco.learning_rate", 0, "moco.learning_rate is 0: it must be above 0"),
        ("cdc.hidden", 10**9, "cdc.hidden is 1000000000: it must be at most"),
        ("moco.queue", 1e12, "moco.queue is 1000000000000.0: it must be at most"),
        ("cdc.head_rate", ".inf", "cdc.head_rate is '.inf': it takes a number"),
        ("cdc.head_rate", float("inf"), "cdc.head_rate is inf: it must be (at most|finite)"),
        ("cdc.entropy_weight", float("nan"), "cdc.entropy_weight is nan: it must be finite"),
        ("views.blur_sigma", [2, 1], "views.blur_sigma is .2, 1.: the first of the two must not be larger"),
        ("views.crop_scale", [0, 1], r"views.crop_scale.0. is 0: it must be above 0"),
        ("views.flip", 1.5, "views.flip is 1.5: it must be at most 1"),
        ("calibrate.restarts", "two", "calibrate.restarts is 'two': it takes a whole number"),
    ],
)
def test_what_a_number_may_be_is_said(path: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan_with("cdc", {path: value})


def test_a_settings_object_goes_the_same_way() -> None:
    for name in filter(lambda name: is_trained(method_class(name)), method_names()):
        wrong = method_class(name)(epochs=-1)  # type: ignore[call-arg]
        with pytest.raises(InputError, match=rf"{name}\.epochs is -1: it must be at least 0"):
            make_plan(RunSettings(n_clusters=4, method=wrong), FACTS[wrong.card.accepts[0]], "photos")


@pytest.mark.parametrize("given", [5, None, method_class("cdc"), ["cdc"], object()])
def test_a_method_is_a_name_or_a_settings_object(given: object) -> None:
    with pytest.raises(InputError, match=r"^method is .*give a method's name"):
        make_plan(RunSettings(n_clusters=4, method=given), FACTS["images"], "photos")


# Few items: what a preset says is brought to what they allow; only what the user set is refused


@pytest.mark.parametrize("name", method_names())
def test_a_preset_fits_few_items_or_says_what_the_method_needs(name: str) -> None:
    for n, k in [(items, groups) for items in range(2, 13) for groups in range(2, items + 1)]:
        for preset in ("practical", "paper"):
            for kind in method_class(name).card.accepts:
                run = RunSettings(n_clusters=k, method=name, preset=preset)
                facts = replace(FACTS[kind], n=n, k=k)
                if (name == "rdc" and n < 4) or (name == "spectral" and k == n):
                    with pytest.raises(InputError, match=f"the source has {n}"):
                        make_plan(run, facts, "photos")
                    continue
                for stage in make_plan(run, facts, "photos").stages:
                    if is_trained(stage):
                        assert 2 <= part_size_of(stage, n) <= stage.batch_size <= n, facts


def test_what_was_adapted_is_said_and_what_the_user_set_is_refused() -> None:
    six = replace(FACTS["embeddings"], n=6, k=2)
    plan = make_plan(RunSettings(n_clusters=2, method="rdc"), six, "x")
    assert any("neighbours 5 -> 4" in note for note in plan.notes)
    with pytest.raises(InputError, match=r"rdc\.neighbours is 5"):
        make_plan(RunSettings(n_clusters=2, method="rdc", overrides={"neighbours": 5}), six, "x")


def test_a_smaller_batch_of_the_user_takes_the_preset_with_it() -> None:
    plan = plan_with("cdc", {"cdc.batch_size": 8})
    assert part_size_of(plan.method, 8) <= 8
    with pytest.raises(InputError, match=r"cdc\.cells is 30: it must lie between 1 and the batch size, 8"):
        plan_with("cdc", {"cdc.batch_size": 8, "cdc.cells": 30})


def test_a_setting_of_two_names_has_one_value() -> None:
    facts = FACTS["embeddings"]
    run = RunSettings(n_clusters=4, method="cdc", overrides={"cells": 5, "method.cells": 5})
    assert resolved(make_plan(run, facts, "photos").method)["cells"] == 5
    with pytest.raises(InputError, match=r"cells and --set cdc\.cells are one setting, with two values"):
        make_plan(replace(run, overrides={"cells": 5, "cdc.cells": 6}), facts, "photos")


def test_a_setting_that_got_another_name_keeps_the_old_one_with_a_note() -> None:
    facts = Facts(n=2000, k=5, kind="images", device="cpu", side=32)
    plan = make_plan(RunSettings(n_clusters=5, method="dec", overrides={"dec.freedom": 2.0}), facts, "photos")
    assert plan.method == replace(plan.method, degrees_of_freedom=2.0)  # type: ignore[type-var]
    assert "dec.freedom is called dec.degrees_of_freedom now." in plan.notes
    assert plan.given["dec"] == {"degrees_of_freedom"}
    of_object = RunSettings(n_clusters=5, method=DEC(degrees_of_freedom=3.0), overrides={"dec.freedom": 2.0})
    assert resolved(make_plan(of_object, facts, "photos").method)["degrees_of_freedom"] == 2
    both = {"dec.freedom": 2.0, "dec.degrees_of_freedom": 1.0}
    with pytest.raises(InputError, match="leave freedom out"):
        make_plan(RunSettings(n_clusters=5, method="dec", overrides=both), facts, "photos")
