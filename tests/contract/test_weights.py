"""The weight of a loss multiplies that loss and no other, in every method: an option that is dropped, or lands on the
wrong term, changes no shape and raises nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from coterie.catalogue import method_class, method_names
from coterie.contract import Step, Trained, is_trained
from coterie.data.items import Embeddings
from coterie.networks.backbones import build_backbone
from coterie.networks.features import features_of
from coterie.networks.net import Net
from coterie.training.batches import batches_of
from coterie.training.engine import Stage, Training
from coterie.training.history import History
from coterie.types import Family, Items, Source
from coterie.views.settings import ViewSettings
from helpers.small_runs import K, data_of, image_net

# Weights by another name, and those within a logarithm, which are tested with their method.
OTHERS, NO_FACTOR = {("idec", "gamma"), ("dac", "consistency")}, {("iic", "entropy_weight"), ("jule", "pair_weight")}
SIZES = {"batch_size": 24, "hidden": 9, "projector_hidden": 9, "predictor_hidden": 9, "projector_out": 5, "cells": 6}
# So that every loss is there from the first batch on.
FROM_THE_START: dict[str, dict[str, Any]] = {
    "acai": {"warm_up": 0.0},
    "adc": {"ramp": 0.0},
    "adec": {"discriminator_epochs": 0},
    "dccm": {"sure_above": 0.0, "part": 24},
    "dac": {"part": 24},
    "depict": {"pretraining": 0.0},
    "divclust": {"clusterings": 3},
    "pica": {"over": 5},
    "propos": {"warm_up": 0.0, "restarts": 1},
    "pssc": {"sure_above": 0.0},
    "rdc": {"neighbours": 3},
    "spice3": {"at_least": 1.0, "labelled": 8, "neighbours": 5, "threshold": 0.0},
    "tcl": {"epochs": 2, "boost_epochs": 0},
    "turtle": {"inner_steps": 2, "steps": 1},
    "vae": {"warm_up": 0.0},
}


def weights() -> list[tuple[str, str]]:
    found = [
        (name, field.name)
        for name in method_names()
        if is_trained(method_class(name)())
        for field in fields(method_class(name))  # type: ignore[arg-type]
    ]
    named = [(name, weight) for name, weight in found if weight.endswith("_weight") or (name, weight) in OTHERS]
    return [one for one in named if one not in NO_FACTOR]


def losses_of(name: str, method: Trained, digits: Source) -> dict[str, Tensor]:
    """All losses of the first batch, before any step is taken."""
    kind = method.card.accepts[-1]
    data = data_of(kind, digits)
    items: Items = Embeddings(data) if kind == "embeddings" else digits.items
    spec = items.spec
    backbone = ("ae" if method.card.scaling == "unit" else "mlp") if kind == "embeddings" else image_net(name)
    torch.manual_seed(0)
    width = spec.dim or spec.channels
    net = Net(build_backbone(backbone, spec), spec, torch.zeros(width), torch.ones(width), half=False)
    net.add(method.heads(net, K))
    family: Family = "glyph" if kind == "images" else "vector"
    stage = Stage(method, items, family, K, 0, ViewSettings(), features_of(net, items), History(None))
    training = Training(net, stage, method)
    training.begin()
    training.begin_epoch()
    batch = next(batches_of(training.maker, 0, 0))
    found: dict[str, Tensor] = {}
    for step in itertools.islice(method.step(net, batch), 3):
        found |= {key: value.detach() for key, value in (step.losses if isinstance(step, Step) else step).items()}
    return found


@pytest.mark.parametrize(("name", "weight"), weights())
def test_a_weight_multiplies_its_losses_and_leaves_the_others(name: str, weight: str, digits: Source) -> None:
    kind: Any = method_class(name)
    known = {field.name: field for field in fields(kind)}
    small = {
        key: value for key, value in {"epochs": 1, **SIZES, **FROM_THE_START.get(name, {})}.items() if key in known
    }
    method = kind(**small)
    value = getattr(method, weight)
    once, thrice = (losses_of(name, replace(method, **{weight: factor * value}), digits) for factor in (1.0, 3.0))
    assert once.keys() == thrice.keys()
    changed = {key for key in once if not torch.equal(once[key], thrice[key])}
    assert changed
    for key in changed:
        torch.testing.assert_close(thrice[key], 3 * once[key], rtol=1e-4, atol=1e-6, msg=key)
