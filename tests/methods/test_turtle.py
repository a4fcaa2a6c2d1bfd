"""TURTLE: known values of its loss, the classifiers beside torch's own, one space and several, a short run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from coterie.contract import Facts
from coterie.data.spaces import Spaces
from coterie.methods.turtle import TURTLE, Classifiers, TaskEncoder, cross_entropy, entropy, learn, practical
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.pipeline import RunResult, run
from coterie.running.prepared import Watch
from coterie.running.preparing import prepare
from coterie.training.plan import RunSettings
from coterie.types import Batch, ItemSpec
from helpers.batches import batch_of_views
from helpers.vectors import groups_of_vectors

SETTINGS = RunSettings(n_clusters=3, method="turtle", device="cpu", calibrate=False)


def net_of(widths: tuple[int, ...], k: int = 3, method: TURTLE | None = None) -> Net:
    torch.manual_seed(0)
    spaces = tuple(ItemSpec("embeddings", dim=width) for width in widths) if len(widths) > 1 else ()
    spec = ItemSpec("embeddings", dim=sum(widths), spaces=spaces)
    d = sum(widths)
    net = Net(build_backbone("identity", spec), spec, torch.zeros(d), torch.ones(d), half=False)
    net.add((method or TURTLE()).heads(net, k))
    return net


def batch_of(rows: Tensor) -> Batch:
    random = torch.Generator().manual_seed(0)
    return batch_of_views({"own": rows}, generator=random)


def rows_of(n: int = 20, d: int = 6) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(1))


def losses_of(net: Net, rows: Tensor, method: TURTLE | None = None) -> dict[str, Tensor]:
    (losses,) = (method or TURTLE()).step(net, batch_of(rows))
    return dict(losses)  # type: ignore[arg-type]


def test_known_values_of_the_loss() -> None:
    tau = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    learned = torch.tensor([[0.7, 0.3], [0.4, 0.6]], dtype=torch.float64).log()
    apart, equal = float(cross_entropy(learned, tau)), float(entropy(tau.mean(0)))
    assert apart == pytest.approx(0.516662, abs=1e-6)
    assert equal == pytest.approx(0.688139, abs=1e-6)
    assert apart - 10 * equal == pytest.approx(-6.364726, abs=1e-6)
    assert float(entropy(torch.tensor([1.0, 0.0]))) == pytest.approx(0, abs=1e-30)
    logits = torch.tensor(
        [[0.0, 1.0, -200.0], [1.0, 0.5, -300.0]], requires_grad=True
    )  # a group underflows in all rows
    entropy(logits.softmax(1).mean(0)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


def test_classifiers_learn_as_by_torchs_adam() -> None:
    rows, target = rows_of(), rows_of(20, 3).softmax(1)
    layer = nn.Linear(6, 3)
    weights = (layer.weight.detach().clone(), layer.bias.detach().clone())
    found = learn(rows, weights, target, 10, 0.01)
    adam = torch.optim.Adam(layer.parameters(), 0.01)
    for _ in range(10):
        adam.zero_grad()
        cross_entropy(layer(rows), target).backward()
        adam.step()
    torch.testing.assert_close(weights[0], layer.weight.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights[1], layer.bias.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found, layer(rows).detach(), atol=1e-4, rtol=1e-4)


def test_what_was_learned_gets_no_gradient() -> None:
    net, rows = net_of((6,)), rows_of()
    losses = losses_of(net, rows)
    sum(losses.values(), torch.zeros(())).backward()
    assert list(net.classifiers.parameters()) == []
    assert all(parameter.grad is not None for parameter in net.task.parameters())
    # With the classifiers' answer for a constant, the gradient is that of the loss alone.
    said = learn(rows, net_of((6,)).classifiers.weights()[0], net.task.shares([rows])[0].detach(), 0, 0.1)
    assert not said.requires_grad


def test_a_step_is_what_the_formula_says() -> None:
    net, rows, method = net_of((4, 2)), rows_of(), TURTLE(inner_steps=3, entropy_weight=2.0, warm_start=True)
    spaces = [rows[:, :4], rows[:, 4:]]
    shares = []
    for place, z in enumerate(spaces):
        v = net.task.directions[place]
        weight = v / v.norm(dim=1, keepdim=True) * net.task.gains[place][:, None]
        shares.append((z @ weight.T + net.task.biases[place]).softmax(1))
    tau = (shares[0] + shares[1]) / 2
    apart, equal = 0.0, 0.0
    for place, z in enumerate(spaces):
        own = tuple(w.clone() for w in net.classifiers.weights()[place])
        said = learn(z, own, tau.detach(), 3, method.inner_rate).softmax(1)
        for t, p in zip(tau.tolist(), said.tolist(), strict=True):
            apart -= sum(a * math.log(b) for a, b in zip(t, p, strict=True)) / len(rows)
        equal -= sum(p * math.log(p) for p in shares[place].mean(0).tolist())
    losses = losses_of(net, rows, method)
    assert float(losses["learning"].detach()) == pytest.approx(apart, rel=1e-4)
    assert float(losses["entropy"].detach()) == pytest.approx(-2 * equal, rel=1e-4)


def test_a_space_twice_doubles_every_term() -> None:
    rows, method = rows_of(), TURTLE(warm_start=True)
    one, two = net_of((6,)), net_of((6, 6))
    for part in ("directions", "gains", "biases"):
        for own in getattr(two.task, part):
            own.data.copy_(getattr(one.task, part)[0].data)
    for weights in two.classifiers.weights():
        for own, first in zip(weights, one.classifiers.weights()[0], strict=True):
            own.copy_(first)
    single, double = losses_of(one, rows, method), losses_of(two, torch.cat([rows, rows], 1), method)
    for name in single:
        torch.testing.assert_close(double[name], 2 * single[name])


def test_the_loss_is_bounded_and_names_of_groups_do_not_count() -> None:
    rows, method = rows_of(), TURTLE(warm_start=True)
    net, other = net_of((6,), 4), net_of((6,), 4)
    order = torch.tensor([2, 0, 3, 1])
    for part in ("directions", "gains", "biases"):
        getattr(other.task, part)[0].data.copy_(getattr(net.task, part)[0].data[order])
    for own, first in zip(other.classifiers.weights()[0], net.classifiers.weights()[0], strict=True):
        own.copy_(first[order])
    one, two = losses_of(net, rows, method), losses_of(other, rows, method)
    for name in one:
        torch.testing.assert_close(one[name], two[name])
    assert float(sum(one.values()).detach()) >= -10 * math.log(4)  # type: ignore[union-attr]


def test_classifiers_begin_anew_or_go_on() -> None:
    for warm in (False, True):
        net = net_of((6,))
        before = net.classifiers.matrix0.clone()
        losses_of(net, rows_of(), TURTLE(warm_start=warm, inner_steps=1, inner_rate=1e-6))
        moved = float((net.classifiers.matrix0 - before).abs().max())
        assert (moved < 1e-4) == warm
    drawn = Classifiers((100,), 3)
    drawn.draw(torch.Generator().manual_seed(0))
    assert 0.09 < float(drawn.matrix0.abs().max()) <= 0.1


def test_the_task_encoder_begins_as_torchs_linear_layer() -> None:
    task = TaskEncoder((100,), 200)
    for own in (task.directions[0].detach(), task.biases[0].detach(), task.matrices()[0].detach()):
        assert -0.1 - 1e-6 <= float(own.min()) < -0.09
        assert 0.09 < float(own.max()) <= 0.1 + 1e-6


def test_the_answer_is_the_mean_over_spaces() -> None:
    task, rows = TaskEncoder((4, 2), 3), rows_of()
    with torch.no_grad():
        expected = torch.stack(task.shares(task.split(rows))).mean(0)
        torch.testing.assert_close(task(rows).softmax(1), expected)


def fitted(data: Any, **overrides: Any) -> RunResult:
    return run(data, replace(SETTINGS, overrides=overrides))


def test_groups_are_found() -> None:
    vectors, truth = groups_of_vectors()
    found = fitted(vectors, epochs=8, steps=20)
    assert adjusted_rand_score(truth, found.assignments.probabilities.argmax(1)) == 1.0
    assert found.model.backbone == "identity"
    assert found.history.records[-1].health["learned"] > 0.95
    assert len(found.history.records) == 8


def test_batches_hold_every_group() -> None:
    assert practical(Facts(100_000, 200, "embeddings", "cpu", dim=384))["batch_size"] == 2000
    assert practical(Facts(300, 3, "embeddings", "cpu", dim=8))["batch_size"] == 300


def test_rates_rise_for_short_features() -> None:
    rates = [practical(Facts(1000, 3, "embeddings", "cpu", dim=dim))["outer_rate"] for dim in (64, 384, 768, 1280)]
    assert rates == [0.012, 0.002, 0.001, 0.001]
    assert practical(Facts(1000, 3, "images", "cpu", side=8))["inner_rate"] == 0.012


def test_rates_of_several_spaces_are_those_of_their_mean_length() -> None:
    """Each space has its own logits: the same space given twice is to learn as fast as once."""
    once = practical(Facts(1000, 3, "embeddings", "cpu", dim=384))
    assert practical(Facts(1000, 3, "embeddings", "cpu", dim=768, spaces=2)) == once
    assert practical(Facts(1000, 3, "embeddings", "cpu", dim=768, width=768, spaces=2)) == once
    rng = np.random.default_rng(0)
    two = Spaces({name: rng.normal(size=(60, 40)).astype(np.float32) for name in "ab"})
    plan = prepare(
        two, RunSettings(n_clusters=3, method="turtle", device="cpu"), None, resume=False, watch=Watch()
    ).plan
    assert plan.stages[-1].outer_rate == practical(Facts(60, 3, "embeddings", "cpu", dim=40))["outer_rate"] == 0.0192


def test_defaults_are_the_papers() -> None:
    assert TURTLE() == TURTLE(60, 100, 10_000, 10, 1e-3, 1e-3, False, 10.0)


def test_rates_follow_the_features_that_are_grouped(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    net = RunSettings(n_clusters=3, method="moco", epochs=1, backbone="small-4", device="cpu", calibrate=False)
    run(pictures, net, tmp_path / "net")
    few = replace(SETTINGS, epochs=1, overrides={"turtle.steps": 1})
    rates = [
        run(pictures, replace(few, init=init)).record["stages"][0]["settings"]["outer_rate"]
        for init in (None, str(tmp_path / "net"))
    ]
    assert rates == [1e-3, 768e-3 / 32]
