"""DeCNN as a method; its layers are tested in tests/networks/test_deconvolution.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from coterie.algorithms.kmeans import kmeans
from coterie.methods.decnn import DeCNN
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.plan import RunSettings
from coterie.types import Batch, InputError, ItemSpec, Source
from helpers.batches import batch_of_views
from helpers.phases import touched_by_step

SPEC = ItemSpec("images", 1, 8, 8)
METHOD = DeCNN(iterations=30, fidelity=2.0)
SETTINGS = RunSettings(n_clusters=3, method="decnn", device="cpu", epochs=1, family="glyph", calibrate=False)


def net_of(method: DeCNN = METHOD) -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone("decnn-3", SPEC), SPEC, torch.zeros(1), torch.ones(1), half=False)
    net.add(method.heads(net, 3))
    method.start(net, lambda half=False, by=None, most=None: torch.zeros(0), 3, torch.Generator())
    return net.train()


def batch_of(size: int = 16) -> Batch:
    views = {"clean": torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(1))}
    return batch_of_views(views, per_epoch=9)


def test_a_step_moves_the_filters_of_both_layers() -> None:
    assert touched_by_step(METHOD, net_of(), batch_of()) == [{"backbone"}]


def test_the_losses_are_both_layers_costs_at_their_maps() -> None:
    net, batch = net_of(), batch_of()
    (losses,) = list(METHOD.step(net, batch))
    net = net_of()
    coder = net.backbone.trunk.convolutions
    images = coder.even(batch.clean)
    first = coder.first.codes(images, 2.0, 30)
    second = coder.second.codes(first, 2.0, 30)
    for name, layer, given, codes in (("first", coder.first, images, first), ("second", coder.second, first, second)):
        rest = layer.rebuild(codes) - given
        torch.testing.assert_close(losses[f"{name}_error"], rest.square().sum() / 16)  # λ/2 is 1
        torch.testing.assert_close(losses[f"{name}_size"], codes.abs().sum() / 16)
        explained = 1 - rest.square().sum() / given.square().sum()
        torch.testing.assert_close(batch.logged[f"{name}_explained"], explained.detach())
        assert float(batch.logged[f"{name}_active"]) == pytest.approx(float((codes != 0).float().mean()))


def test_the_second_layer_teaches_the_first_nothing() -> None:
    net = net_of()
    (losses,) = list(METHOD.step(net, batch_of()))
    net.zero_grad(set_to_none=True)
    losses["second_error"].backward()
    coder = net.backbone.trunk.convolutions
    assert coder.first.filters.grad is None
    assert bool(coder.second.filters.grad.any())


def test_filters_stay_within_length_1() -> None:
    net, batch = net_of(), batch_of()
    coder = net.backbone.trunk.convolutions
    taken = METHOD.step(net, batch)
    next(taken)
    with torch.no_grad():
        coder.first.filters.mul_(5)  # as a step may leave them
    assert list(taken) == []
    assert float(coder.first.filters.detach().flatten(2).norm(dim=2).max()) < 1.00001


def test_steps_lower_the_cost() -> None:
    """Of the first layer, whose images stay the same; with so small steps the cost cannot but fall."""
    net, batch, costs = net_of(), batch_of(), []
    optimiser = METHOD.optimiser(net)
    for _ in range(12):
        for losses in METHOD.step(net, batch):
            costs.append(float((losses["first_error"] + losses["first_size"]).detach()))
            optimiser.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimiser.step()
    assert costs[-1] < 0.98 * costs[0]


def test_a_run_remembers_how_its_maps_are_found_and_groups_them_by_k_means(digits: Source) -> None:
    overrides = {"fidelity": 3.0, "iterations": 5}
    found = run(digits.items.array, replace(SETTINGS, overrides=overrides))  # type: ignore[attr-defined]
    net = found.model.net
    assert found.model.net.width == 16 * 14
    coder = net.backbone.trunk.convolutions
    assert (float(coder.fidelity), int(coder.iterations)) == (3.0, 5)
    embedding = found.assignments.embedding
    assert embedding is not None
    distances = (embedding - net.groups.centres[found.assignments.probabilities.argmax(1)]).square().sum()
    expected = kmeans(embedding, 3, generator=torch.Generator().manual_seed(0), restarts=20)
    assert float(distances) == pytest.approx(expected.inertia, rel=0.02)


def test_another_backbone_is_refused(digits: Source) -> None:
    with pytest.raises(InputError, match="DeCNN's features are the codes of its own two layers"):
        run(digits.items.array, replace(SETTINGS, backbone="small-4"))  # type: ignore[attr-defined]
