from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from coterie.contract import Facts, Method
from coterie.methods.ae import AE
from coterie.methods.dec import DEC
from coterie.methods.idec import IDEC
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.chain import chain_of
from coterie.training.checkpoints import load_tree
from coterie.training.coerce import coerce
from coterie.training.plan import RunSettings
from coterie.types import Batch, InputError, Source
from helpers import phases
from helpers.batches import batch_of_views
from helpers.phases import DATA, features_of


def net_of(method: Method) -> Net:
    return phases.net_of(method, spread=30.0)


def batch_of(net: Net, number: int = 0, shifted: Tensor = DATA) -> Batch:
    index = torch.arange(8 * number, 8 * number + 16)
    views = {"shifted": shifted[index], "clean": DATA[index]}
    return batch_of_views(views, index=index, number=number, features=features_of(net))


def trained(method: Method, steps: int = 3) -> Net:
    """What a few optimiser steps make of the same start, as the engine takes them."""
    net = net_of(method)
    optimiser = method.optimiser(net)
    for number in range(steps):
        for losses in method.step(net, batch_of(net, number)):
            optimiser.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward()
            optimiser.step()
    return net


def same(one: Net, other: Net, part: str) -> None:
    twin = dict(other.get_submodule(part).named_parameters())
    for name, p in one.get_submodule(part).named_parameters():
        torch.testing.assert_close(p, twin[name], rtol=1e-5, atol=1e-7, msg=f"{part}.{name}")


def test_with_gamma_zero_it_is_the_auto_encoder_going_on() -> None:
    ours, theirs = trained(IDEC(gamma=0.0)), trained(AE(learning_rate=1e-3))
    same(ours, theirs, "backbone")
    same(ours, theirs, "decoder")
    torch.testing.assert_close(ours.clusters.centres, net_of(IDEC()).clusters.centres)


def test_without_reconstruction_it_is_dec() -> None:
    dec = DEC(refresh_every=2)
    ours = trained(
        IDEC(gamma=1.0, reconstruction_weight=0.0, learning_rate=dec.learning_rate, momentum=0.9, refresh_every=2)
    )
    theirs = trained(dec)
    same(ours, theirs, "backbone")
    same(ours, theirs, "clusters")
    same(ours, net_of(IDEC()), "decoder")


def test_the_input_is_the_shifted_item_and_the_clean_one_is_told() -> None:
    method, shifted = IDEC(gamma=0.5), DATA.roll(1, 1)
    net = net_of(method)
    (losses,) = list(method.step(net, batch_of(net, shifted=shifted)))
    told = net.decoder(net.backbone(shifted[:16]))
    assert losses["reconstruction"].item() == pytest.approx((told - DATA[:16]).square().mean().item(), rel=1e-5)
    assert set(losses) == {"reconstruction", "divergence"}


def settings_for(method: str, **overrides: Any) -> RunSettings:
    given = {f"{method}.epochs": 1, f"{method}.batch_size": 24, **overrides}
    return RunSettings(n_clusters=4, method=method, device="cpu", family="glyph", overrides=given, calibrate=False)


CHAIN = {"ae.epochs": 1, "ae.batch_size": 24}


def test_encoder_and_decoder_go_on_from_phase_one(digits: Source, tmp_path: Path) -> None:
    data = digits.items.array  # type: ignore[attr-defined]
    chained = run(data, settings_for("idec", **CHAIN, **{"idec.epochs": 0}), tmp_path / "idec")
    phase_one = load_tree(tmp_path / "idec" / "checkpoints" / "ae.done.safetensors")["net"]
    after = chained.model.net.state_dict()
    kept = [name for name in phase_one if name.startswith(("backbone.", "decoder."))]
    assert len(kept) == 16
    assert all(torch.equal(phase_one[name], after[name]) for name in kept)

    run(data, settings_for("ae", **{"ae.batch_size": 24}), tmp_path / "ae")
    shared = replace(settings_for("idec", **{"idec.epochs": 0}), init=str(tmp_path / "ae"))
    same(run(data, shared).model.net, chained.model.net, "decoder")


def test_a_run_without_a_decoder_is_refused_before_training(digits: Source, tmp_path: Path) -> None:
    data = digits.items.array  # type: ignore[attr-defined]
    run(data, settings_for("dec", **CHAIN), tmp_path / "dec")
    with pytest.raises(InputError, match=r"has no decoder, which idec goes on with: .* a run of ae"):
        run(data, replace(settings_for("idec"), init=str(tmp_path / "dec")), tmp_path / "idec")


def test_backbone_weights_replace_phase_one_for_dec_and_not_where_a_decoder_is_needed() -> None:
    for kind in ("images", "embeddings"):
        assert chain_of("idec", kind, None) == ["ae", "idec"]
        assert chain_of("idec", kind, None, weights=True) == ["ae", "idec"]
        assert chain_of("dec", kind, None, weights=True) == ["dec"]
        assert chain_of("idec", kind, "runs/ae") == ["idec"]


@pytest.mark.parametrize("wrong", [{"refresh_every": 0}, {"gamma": -1.0}, {"gamma": 0.0, "reconstruction_weight": 0.0}])
def test_settings_that_cannot_work_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=rf"idec\.{next(iter(wrong))}"):
        coerce(IDEC, wrong, "idec").check(Facts(n=10, k=2, kind="images", device="cpu"))
