"""Settings and data for a short run of any method."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from coterie.catalogue import method_class, method_names
from coterie.contract import is_trained
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.training.chain import chain_of
from coterie.training.plan import RunSettings
from coterie.types import InputError, ItemSpec, Source

K = 3
UNTRAINED = {name for name in method_names() if not is_trained(method_class(name))}
NARROW = (50, 50, 200)  # of an auto-encoder, in place of 500-500-2000
RUNS = [(name, kind) for name in method_names() for kind in method_class(name).card.accepts]


def data_of(kind: str, digits: Source) -> NDArray[Any]:
    """The digits' images, or embeddings in K groups."""
    if kind == "embeddings":
        rng = np.random.default_rng(0)
        return (rng.normal(size=(K, 70))[np.arange(90) % K] + rng.normal(size=(90, 70))).astype(np.float32)
    images: NDArray[Any] = digits.items.array  # type: ignore[attr-defined]
    return images


@functools.cache
def image_net(name: str) -> str:
    """The backbone that this method is tried with on small images: `small-4`, or its own where it refuses that one."""
    spec, kind = ItemSpec("images", 1, 8, 8), method_class(name)
    net = Net(build_backbone("small-4", spec), spec, torch.zeros(1), torch.ones(1), half=False)
    try:
        kind().heads(net, K)
    except InputError:
        assert kind.card.backbone is not None
        return kind.card.backbone(spec, "cpu", False)
    return "small-4"


@contextmanager
def narrow_where_pretrained(name: str, kind: str) -> Iterator[None]:
    """Auto-encoders of a tenth of the width, where one is trained before this method.

    Methods that begin with an auto-encoder of their own keep the widths of the papers, at which alone rounding may
    depend on the number of rows; so does VaDE, whose few narrow epochs may end in one group.
    """
    with pytest.MonkeyPatch.context() as patch:
        if name != "vade" and {"ae", "acai"} & set(chain_of(name, kind, None)[:-1]):
            patch.setattr("coterie.networks.autoencoder.WIDTHS", NARROW)
        yield


def settings_for(name: str, kind: str, *, seed: int = 0) -> RunSettings:
    stages = chain_of(name, kind, None)
    overrides = {f"{stage}.epochs": 1 for stage in stages if stage not in UNTRAINED}
    if kind == "embeddings" and name not in UNTRAINED:
        overrides[f"{name}.epochs"] = 2  # which collapses on no processor, as it may on images
    # After a single epoch all codes of a reconstruction are much the same, and what starts from them may collapse.
    overrides |= {f"{stage}.epochs": 12 for stage in stages[:-1] if stage in ("ae", "acai")}
    if name == "decnn":
        overrides["decnn.iterations"] = 6  # of 20, for its whole time: what is said of a run holds with few, too
    backbone = "mlp" if kind == "embeddings" else "auto" if name in UNTRAINED else image_net(name)
    if (name, kind) == ("vade", "images"):
        backbone = "ae"  # after so few epochs of a convolutional net rounding alone may end in one group
    return RunSettings(
        n_clusters=K, method=name, seed=seed, backbone=backbone, overrides=overrides, device="cpu", calibrate=False
    )
