"""What `--method auto` comes to once the items are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coterie.running.deciding import resolve
from coterie.running.prepared import Watch
from coterie.running.preparing import prepare
from coterie.training.coerce import coerce
from coterie.training.plan import RunSettings
from coterie.types import InputError

AUTO = RunSettings(n_clusters=3, method="auto", device="cpu")
LONG = np.random.default_rng(0).normal(size=(120, 160)).astype(np.float32)


def method_for(data: np.ndarray, **given: Any) -> tuple[str, str]:
    settings = coerce(RunSettings, vars(replace(AUTO, **given)), "run")
    prepared = prepare(data, settings, None, resume=False, watch=Watch())
    assert not prepared.settings.by_items
    return prepared.settings.method, " ".join(prepared.plan.notes)


@pytest.mark.parametrize("data", [LONG, LONG[:, :128], LONG[:, :1]])
def test_embeddings_are_grouped_by_a_graph_and_a_note_says_so(data):
    method, notes = method_for(data)
    assert method == "spectral"
    assert "--method cdc" in notes


def test_few_ones_are_not():
    method, notes = method_for(LONG[:60])
    assert method == "cdc"
    assert "--method cdc" not in notes


@pytest.mark.parametrize("given", [{"epochs": 2}, {"overrides": {"cdc.epochs": 2}}, {"overrides": {"batch_size": 50}}])
def test_settings_of_cdc_keep_it(given):
    assert method_for(LONG, **given)[0] == "cdc"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 2}, "--epochs: for a net that is trained, so cdc trains one. Without that spectral"),
        ({"backbone": "mlp", "preset": "paper"}, "--backbone and --preset: for a net"),
        ({"image_size": 16, "preset": "paper", "overrides": {"views.flip": 0.1}}, "--preset: for a net"),
        ({"overrides": {"views.vector_mix": 0.1, "cdc.epochs": 2}}, "--set views.vector_mix and --set cdc.epochs: for"),
    ],
)
def test_an_option_that_asks_for_a_net_is_named(given, said):
    method, notes = method_for(LONG, **given)
    assert method == "cdc"
    assert said in notes
    assert "is trained" not in method_for(LONG[:60], **given)[1]
    assert "is trained" not in method_for(LONG, **given, encoder="none")[1]


@pytest.mark.parametrize(
    "given",
    [
        {"image_size": 16},
        {"pretrain": "none"},
        {"overrides": {"views.flip": 0.1}},
        {"overrides": {"views.row_norm": "l2"}},
        {"image_size": 16, "pretrain": "none", "overrides": {"views.crop_scale": [0.5, 1.0], "spectral.members": 3}},
    ],
)
@pytest.mark.parametrize("encoder", [None, "auto", "none"])
def test_an_option_that_changes_nothing_on_embeddings_does_not_choose_their_method(given, encoder):
    method, notes = method_for(LONG, **given, encoder=encoder)
    assert method == "spectral"
    assert "for a net that is trained" not in notes
    without = "views.row_norm" in str(given) or given == {"pretrain": "none"}
    assert ("Without effect on embeddings" in notes) is not without


def test_what_a_named_encoder_takes_does_not_choose_the_method_either():
    settings = resolve(replace(AUTO, encoder="some", image_size=64, weights="w.safetensors"))
    assert (settings.by_items, settings.trained_by) == (True, ())


def test_settings_of_the_views_of_embeddings_leave_photographs_to_the_encoder():
    settings = resolve(replace(AUTO, overrides={"views.vector_mix": 0.1}))
    assert (settings.method, settings.encoder) == ("cdc", "auto")
    assert resolve(replace(AUTO, overrides={"views.row_norm": "l2"})).encoder == "auto"
    assert resolve(replace(AUTO, overrides={"views.flip": 0.1})).encoder == "none"


@pytest.mark.parametrize("here", [True, False])
def test_photographs_that_an_encoder_would_have_embedded(here, monkeypatch):
    monkeypatch.setattr("coterie.running.deciding.preferred", lambda device, n: "some" if here else "none")
    photos = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype=np.uint8)
    method, notes = method_for(photos, image_size=16)
    assert method == "cdc"
    assert ("--image-size: for a net that is trained" in notes) is here
    assert "an encoder embeds" not in method_for(photos[..., 0], image_size=16)[1]


def test_a_setting_of_the_graph_goes_with_it():
    for name in ("spectral.members", "method.members", "members"):
        assert method_for(LONG, overrides={name: 3})[0] == "spectral"


@pytest.mark.parametrize(
    ("data", "given", "said"),
    [
        (LONG, {"overrides": {"method.cels": 5}}, "cdc.cells? --set method.cels: for a net that is trained, so cdc"),
        (LONG, {"overrides": {"method.batch_size": 2}}, "must be at least 3. --set method.batch_size: for a net"),
        (LONG[:60], {"overrides": {"members": 5}}, ". --method auto comes to cdc for such items."),
        (
            LONG,
            {"overrides": {"members": 0}},
            "Setting spectral.members is 0: it must be at least 1. --set members: for embeddings",
        ),
        (LONG, {"epochs": -1}, "--epochs"),
    ],
)
def test_an_error_about_a_method_that_nobody_named_says_why_it_is_that_one(data, given, said):
    with pytest.raises(InputError) as refused:
        method_for(data, **given)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["cels", "method.batch_size", "members"])
def test_a_setting_without_a_method_is_refused_before_the_source_is_opened(name, tmp_path):
    """It was refused when all pictures were embedded."""
    with pytest.raises(InputError, match=f"--set {name}: for"):
        prepare(
            tmp_path / "nowhere", RunSettings(method="auto", overrides={name: 0}), None, resume=False, watch=Watch()
        )


def test_an_error_about_a_method_that_was_named_does_not():
    with pytest.raises(InputError, match=r"did you mean cdc.cells\?$"):
        method_for(LONG, overrides={"cdc.cels": 5})
    with pytest.raises(InputError, match=r"did you mean cdc.cells\?$"):
        method_for(LONG, method="cdc", overrides={"method.cels": 5})
