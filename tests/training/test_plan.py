from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coterie.catalogue import method_class
from coterie.contract import Facts, name_of
from coterie.methods.acai import ACAI
from coterie.methods.cdc import CDC
from coterie.methods.moco import MoCo
from coterie.methods.pica import PICA
from coterie.methods.rdc import RDC
from coterie.training.coerce import coerce
from coterie.training.plan import RunSettings, image_size_of, make_plan, resolved
from coterie.training.presets import preset_names
from coterie.types import InputError

IMAGES = Facts(n=2000, k=5, kind="images", device="cpu", side=32)
VECTORS = Facts(n=2000, k=5, kind="embeddings", device="cpu")


def settings(**values: Any) -> RunSettings:
    return RunSettings(**{"n_clusters": 5, **values})


def names(run: RunSettings, facts: Facts) -> list[type]:
    return [type(stage) for stage in make_plan(run, facts, "photos").stages]


# Stages


@pytest.mark.parametrize(
    ("run", "facts", "stages"),
    [
        (settings(), IMAGES, [MoCo, CDC]),
        (settings(), VECTORS, [CDC]),
        (settings(init="runs/x"), IMAGES, [CDC]),
        (settings(weights="w.pth"), replace(IMAGES, loaded=True), [CDC]),
        (settings(pretrained=True), IMAGES, [MoCo, CDC]),  # a wish is no weights
        (settings(method="moco"), IMAGES, [MoCo]),
        (settings(method=CDC(epochs=3)), IMAGES, [MoCo, CDC]),
    ],
)
def test_a_method_brings_the_stages_before_it_unless_there_is_a_backbone(
    run: RunSettings, facts: Facts, stages: list[type]
) -> None:
    assert names(run, facts) == stages


def test_an_unknown_method_is_answered_with_the_nearest_known() -> None:
    with pytest.raises(InputError, match="'cdd'; did you mean 'cdc'"):
        make_plan(settings(method="cdd"), IMAGES, "photos")


# Settings


def test_overrides_go_to_their_stages_and_method_stands_for_the_last() -> None:
    given = {"method.cells": 7, "moco.epochs": 3, "cdc.hidden": 64, "views.flip": 0.0, "head_rate": 0.5}
    plan = make_plan(settings(overrides=given, epochs=9), IMAGES, "photos")
    moco, cdc = plan.stages
    assert isinstance(moco, MoCo)
    assert isinstance(cdc, CDC)
    assert (moco.epochs, cdc.epochs, cdc.cells, cdc.hidden, cdc.head_rate, plan.views.flip) == (3, 9, 7, 64, 0.5, 0.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method.cels": 7}, r"cdc\.cels; did you mean cdc\.cells"),
        ({"moco.quue": 7}, r"moco\.quue; did you mean moco\.queue"),
        ({"views.flp": 1}, r"views\.flp; did you mean views\.flip"),
        ({"method.zzzzz": 7}, r"cdc\.zzzzz; known are epochs, "),
        ({"mocco.epochs": 7}, r"'mocco' .* did you mean moco"),
        ({"qqqq.epochs": 7}, r"'qqqq' .* this run has moco, cdc, views"),
        ({"method.cells": "many"}, r"cdc\.cells is 'many': it takes a whole number"),
        ({"method.layout": "triple"}, r"cdc\.layout is 'triple': it takes 'dual'"),
        ({"method.cells": 2.5}, r"cdc\.cells is 2\.5: it takes a whole number"),
        ({"method.epochs": -1}, r"cdc\.epochs is -1"),
        ({"method.batch_size": 1}, r"cdc\.batch_size is 1"),
        ({"method.cells": 0}, r"cdc\.cells is 0"),
        ({"method.hidden": 3}, r"cdc\.hidden is 3"),
        ({"moco.queue": 2}, r"moco\.queue is 2"),
    ],
)
def test_a_wrong_setting_is_named_before_any_training(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(settings(overrides=given), IMAGES, "photos")


def test_the_epochs_of_the_run_are_taken_and_said_where_the_last_stage_has_others() -> None:
    plan = make_plan(settings(overrides={"method.epochs": 3}, epochs=4), IMAGES, "photos")
    assert resolved(plan.stages[-1])["epochs"] == 4
    assert "--epochs 4 was taken, and not cdc.epochs=3." in plan.notes
    plan = make_plan(settings(overrides={"cdc.epochs": 4, "moco.epochs": 3}, epochs=4), IMAGES, "photos")
    assert [resolved(stage)["epochs"] for stage in plan.stages] == [3, 4]
    assert not any("was taken, and not" in note for note in plan.notes)


def test_settings_of_a_stage_that_does_not_run_are_an_error() -> None:
    with pytest.raises(InputError, match="moco"):
        make_plan(settings(overrides={"moco.epochs": 3}), VECTORS, "vectors")


def test_plain_values_become_typed_settings() -> None:
    found = coerce(CDC, {"cells": "12", "threshold": 1, "stop_gradient": "false"}, "cdc")
    assert (found.cells, found.threshold, found.stop_gradient) == (12, 1.0, False)
    assert coerce(CDC, resolved(found), "cdc") == found


def test_a_ready_made_method_keeps_its_settings() -> None:
    given = CDC(cells=11, epochs=4, batch_size=500, hidden=33)
    assert make_plan(settings(method=given, preset="paper"), VECTORS, "x").stages == [given]
    assert make_plan(settings(method=given, epochs=2), VECTORS, "x").stages == [replace(given, epochs=2)]


# Presets


def test_the_paper_preset_is_the_row_of_a_named_set_or_the_papers_defaults() -> None:
    many = replace(VECTORS, n=60_000)
    assert make_plan(settings(preset="paper"), many, "photos").stages == [CDC()]
    assert make_plan(settings(preset="paper"), many, "stl10").stages == [CDC(cells=150)]
    assert make_plan(settings(preset="paper:stl10"), many, "photos").stages == [CDC(cells=150)]


def test_views_are_those_of_the_published_rows_of_all_stages() -> None:
    for name in ("spice", "spice3"):  # SPICE-2 alone, and before SPICE-3, whose row has no hole
        plan = make_plan(settings(method=name, preset="paper:stl10"), replace(IMAGES, n=13_000, side=96), "photos")
        assert plan.views.cutout == 32
    assert make_plan(settings(method="spice3", preset="paper"), replace(IMAGES, n=60_000), "x").views.cutout == 16


def test_where_the_code_does_other_than_the_paper_says_both_are_presets() -> None:
    many = replace(VECTORS, n=60_000)

    def stages(method: str, preset: str, source: str = "photos") -> list[Any]:
        return make_plan(settings(method=method, preset=preset), many, source).stages

    text = RDC(refresh="bank", stop="no_increase", widest=None)
    assert stages("rdc", "text") == [ACAI(), text]
    assert stages("rdc", "text", "breastmnist")[1] == replace(text, core_ratio=0.6, gap=0.7)
    assert stages("rdc", "text:breastmnist")[1] == replace(text, core_ratio=0.6, gap=0.7)
    first, second = stages("rdc", "paper", "fashion-mnist")
    assert (first.alpha_folded, first.critic_pairing, first.critic_frozen, first.order) == (
        False,
        "all",
        True,
        "source",
    )
    assert (second.core_ratio, second.neighbours, second.gap_from, second.stop) == (0.6, 4, "running", "never")
    assert stages("rdc", "paper")[1] == replace(second, core_ratio=None, gap=None)
    assert stages("dynae", "paper:rdc-code")[1].lower_once
    assert stages("dynae", "paper")[0] == first
    assert preset_names(ACAI.card) == ["paper", "text"]
    with pytest.raises(InputError, match=r"Unknown preset 'text:photos': .*, text, text:pneumoniamnist"):
        stages("rdc", "text:photos")
    with pytest.raises(InputError, match=r"Unknown preset 'text': use practical, paper, paper:mnist.* or paper:rdc"):
        stages("dynae", "text")


def test_a_published_row_says_the_size_of_the_images_and_the_user_has_the_last_word() -> None:
    assert image_size_of(settings(), "imagenet10") is None
    assert image_size_of(settings(preset="paper"), "imagenet10") == 224
    assert image_size_of(settings(preset="paper"), "photos") is None
    assert image_size_of(settings(preset="paper:imagenet10"), "photos") == 224
    assert image_size_of(settings(preset="paper:imagenet10", method="pica"), "photos") == 96
    assert image_size_of(settings(preset="paper:imagenet10", method=PICA()), "photos") == 96
    assert image_size_of(settings(preset="paper", image_size=64), "imagenet10") == 64
    # No row of SCAN's: the size of the MoCo-v2 before it, as in CDC's comparison; a run to start from has its own.
    assert image_size_of(settings(preset="paper", method="scan"), "imagenet10") == 224
    assert image_size_of(settings(preset="paper", method="scan", init="runs/moco"), "imagenet10") is None
    images = replace(IMAGES, n=200_000, side=224)
    assert make_plan(settings(preset="paper"), images, "imagenet10").method == CDC(
        batch_size=500, sub_batch=125, cells=150
    )


@pytest.mark.parametrize("preset", ["papers", "paper:photos", ""])
def test_an_unknown_preset_lists_the_known(preset: str) -> None:
    with pytest.raises(InputError, match=r"use practical, paper, .*paper:stl10"):
        make_plan(settings(preset=preset), VECTORS, "photos")


# Sizes


def test_a_batch_larger_than_the_data_is_an_error_where_it_was_asked_for() -> None:
    with pytest.raises(InputError, match=r"cdc\.batch_size is 5000, .* only 2000 items: use at most 2000"):
        make_plan(settings(overrides={"cdc.batch_size": 5000}), VECTORS, "x")


def test_a_part_larger_than_its_batch_is_said() -> None:
    plan = make_plan(settings(overrides={"cdc.batch_size": 500, "cdc.sub_batch": 5000}), VECTORS, "x")
    assert "cdc: sub_batch 5000 is more than there can be, and works as 500." in plan.notes


def test_a_batch_larger_than_the_data_is_adapted_where_a_preset_asked_for_it() -> None:
    plan = make_plan(settings(preset="paper"), replace(VECTORS, n=600), "x")
    assert plan.stages == [CDC(batch_size=600)]
    assert plan.notes == ["cdc: batch_size 1000 -> 600, the number of items."]
    tight = make_plan(settings(preset="paper", n_clusters=2, overrides={"cdc.hidden": 8}), replace(VECTORS, n=30), "x")
    assert tight.stages == [CDC(batch_size=30, sub_batch=30, cells=30, hidden=8)]


@pytest.mark.parametrize(
    ("k", "n", "message"), [(1, 10, "at least 2"), (0, 10, "at least 2"), (11, 10, "only 10 items")]
)
def test_the_number_of_groups_must_be_possible(k: int, n: int, message: str) -> None:
    with pytest.raises(InputError, match=f"-k is {k}.*{message}"):
        make_plan(settings(n_clusters=k), replace(VECTORS, n=n, k=k), "x")


@pytest.mark.parametrize("name", ["n_clusters", "epochs", "device", "overides", "precision"])
def test_run_settings_are_checked_like_a_methods(name: str) -> None:
    wrong: dict[str, Any] = {"n_clusters": "x", "epochs": "x", "device": 3, "overides": {}, "precision": "fp17"}
    known = {"n_clusters": r"-k \(n_clusters\) is", "overides": "overides; did you mean overrides"}
    with pytest.raises(InputError, match=known.get(name, f"--{name} is")):
        coerce(RunSettings, {name: wrong[name]}, "run")


@pytest.mark.parametrize(
    ("method", "pretrain", "stages"),
    [
        ("cdc", "auto", ["moco", "cdc"]),
        ("cdc", "none", ["cdc"]),
        ("cdc", "ae", ["ae", "cdc"]),
        ("dec", "acai", ["acai", "dec"]),
        ("scan3", "byol", ["byol", "scan", "scan3"]),
        ("scan3", "none", ["scan", "scan3"]),
        ("pica", "moco", ["moco", "pica"]),
    ],
)
def test_the_stage_before_may_be_another_method_or_none(method: str, pretrain: str, stages: list[str]) -> None:
    plan = make_plan(RunSettings(n_clusters=5, method=method, pretrain=pretrain), IMAGES, "photos")
    assert [name_of(stage) for stage in plan.stages] == stages


@pytest.mark.parametrize(
    ("method", "pretrain", "init", "said"),
    [
        ("idec", "none", None, "leave out --pretrain none"),
        ("idec", "moco", None, "has no decoder to go on from"),
        ("cdc", "dec", None, "trains no backbone first"),
        ("cdc", "finch", None, "trains no backbone first: cdc can start from acai, "),
        ("cdc", "temi", None, "trains no backbone first"),
        ("cdc", "mocoo", None, "did you mean 'moco'"),
        ("cdc", "moco", "runs/x", "leave one of them out"),
    ],
)
def test_a_stage_that_cannot_come_before_is_refused(method: str, pretrain: str, init: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_plan(RunSettings(n_clusters=5, method=method, pretrain=pretrain, init=init), IMAGES, "photos")


@pytest.mark.parametrize("name", ["spectral", "scan", "spice3", "temi"])
def test_neighbours_beyond_a_mean_group_are_told_of_where_the_user_or_a_paper_set_them(name: str) -> None:
    facts = replace(VECTORS, n=300, k=10)

    def said(neighbours: int | None, preset: str = "practical") -> list[str]:
        overrides = {} if neighbours is None else {f"{name}.neighbours": neighbours}
        asked = settings(method=name, n_clusters=10, preset=preset, overrides=overrides)
        return [note for note in make_plan(asked, facts, "x").notes if "a mean group has" in note]

    few = f"{name}.neighbours is 30, and a mean group has 30 items: the farther neighbours are of other groups"
    assert [note.startswith(few) for note in said(30)] == [True]
    assert said(29) == said(None) == []
    assert bool(said(None, "paper")) == (method_class(name)().neighbours >= 30)


def test_neighbours_among_landmarks_are_held_against_a_mean_group_of_landmarks() -> None:
    facts = replace(VECTORS, n=1_000_000, k=1000)

    def said(**given: int) -> list[str]:
        overrides = {f"spectral.{name}": value for name, value in given.items()}
        asked = settings(method="spectral", n_clusters=1000, overrides=overrides)
        return [note for note in make_plan(asked, facts, "x").notes if "a mean group has" in note]

    of = "spectral.neighbours is 25, and a mean group has 20 items of the 20,000 of spectral.landmarks: the farther"
    assert [note.startswith(of) for note in said(neighbours=25)] == [True]
    assert said(neighbours=19) == said(neighbours=25, landmarks=100_000) == []
