"""PSSC: its terms beside slow twins, the matrix and its items, steps, what is refused, a run on more items."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.contract import Facts
from coterie.methods.pssc import (
    PSSC,
    Chosen,
    Expression,
    graph_loss,
    label_loss,
    links,
    normalised,
    weighted_reconstruction,
)
from coterie.networks.features import some_rows
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.plan import RunSettings
from coterie.types import Batch, ItemSpec
from helpers.batches import batch_of_views
from helpers.refused import refused_in_plan
from helpers.small_nets import untrained_net

K, SIZE, DIM = 3, 6, 8
SPEC = ItemSpec("embeddings", dim=DIM)
METHOD = PSSC(batch_size=SIZE)


def net_of(method: PSSC) -> Net:
    return untrained_net(method, "mlp", SPEC, K)


def a_batch() -> Batch:
    view = torch.rand(SIZE, DIM, generator=torch.Generator().manual_seed(1))
    return batch_of_views({"clean": view})


# The terms


@given(n=st.integers(2, 7), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_the_reconstruction_of_relatives_is_that_of_all_pairs_for_a_doubly_stochastic_graph(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, decoded = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    share = torch.rand(2, generator=generator, dtype=torch.float64)
    turned = torch.eye(n, dtype=torch.float64).roll(1, 0)
    graph = share[0] * torch.eye(n, dtype=torch.float64) + (1 - share[0]) * (turned + turned.T) / 2
    pairs = sum(
        float(graph[i, j] * (x[i] - decoded[j]).square().sum()) for i in range(n) for j in range(n) if graph[i, j]
    )
    assert weighted_reconstruction(x, decoded, graph).item() == pytest.approx(pairs, abs=1e-9)


def test_the_graph_is_symmetric_and_normalised_by_its_rows_sums() -> None:
    coefficients = torch.tensor([[0.0, -2.0], [1.0, 0.0]])
    graph = links(coefficients)
    assert torch.equal(graph, torch.tensor([[1.0, 1.5], [1.5, 1.0]]))
    torch.testing.assert_close(normalised(graph), graph / 2.5)


@given(n=st.integers(2, 8), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_pairs_are_drawn_to_the_pseudo_labels_as_by_the_slow_twin(n: int, seed: int) -> None:
    """The authors' code compares a vector of labels with itself, item by item, and so takes all pairs for equal."""
    generator = torch.Generator().manual_seed(seed)
    graph = 0.002 * torch.rand(n, n, generator=generator, dtype=torch.float64)
    label = torch.randint(K, (n,), generator=generator)
    expected = 0.0
    for i in range(n):
        for j in range(n):
            same = float(label[i] == label[j])
            expected += max(0.0, (1 - same) * float(graph[i, j])) + max(0.0, same * (0.001 - float(graph[i, j])))
    assert graph_loss(graph, label).item() == pytest.approx(expected, abs=1e-12)


def test_only_sure_answers_are_taught() -> None:
    p = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.05, 0.95]])
    found = label_loss(p.log(), 0.8)
    assert found.item() == pytest.approx(-(math.log(0.9) + math.log(0.95)) / 2, abs=1e-6)
    assert label_loss(p.log(), 0.96).item() == 0


# The matrix


def test_no_item_expresses_itself() -> None:
    matrix = Expression(4)
    torch.nn.init.constant_(matrix.coefficients, 2.0)
    found = matrix.square(3)
    assert torch.equal(found, 2 * (1 - torch.eye(3)))
    found.sum().backward()
    assert matrix.coefficients.grad is not None
    assert float(matrix.coefficients.grad.diagonal().abs().sum()) == 0


def test_the_matrix_is_of_items_drawn_at_random_and_always_the_same() -> None:
    net = net_of(METHOD)
    METHOD.start(net, lambda **asked: torch.zeros(50, net.width), K, torch.Generator())
    rows = some_rows(50, SIZE)
    assert rows is not None
    for seed in (0, 1):
        assert torch.equal(net.chosen.draw(SIZE, torch.Generator().manual_seed(seed)), rows)
    assert bool((net.expression.coefficients == 1e-5).all())
    assert Chosen().draw(3, torch.Generator()).tolist() == [0, 1, 2]  # before the start


def test_a_step_trains_coefficients_encoder_decoder_and_classifier() -> None:
    net, batch = net_of(METHOD), a_batch()
    METHOD.start(net, lambda **asked: torch.zeros(SIZE, net.width), K, torch.Generator())
    (losses,) = METHOD.step(net, batch)
    assert set(losses) == {"reconstruction", "neighbours", "expression", "label", "graph", "balance"}
    torch.stack(list(losses.values())).sum().backward()
    for part in (net.expression.coefficients, net.backbone.trunk.outer.weight, net.classify.weight):
        assert bool(part.grad.abs().sum() > 0)
    z = net.backbone(batch.clean)
    expected = 0.5 * (z - (torch.full((SIZE, SIZE), 1e-5) - 1e-5 * torch.eye(SIZE)) @ z).square().sum()
    torch.testing.assert_close(losses["expression"], expected)
    p = net.classify(z).softmax(1)
    torch.testing.assert_close(losses["balance"], METHOD.graph_weight * p.sum(0).square().sum())


def test_every_term_is_of_the_items_expressed_by_the_others_and_weighs_as_asked() -> None:
    weights = {"reconstruction": 2.0, "neighbour": 3.0, "expression": 4.0, "label": 5.0, "graph": 6.0}
    method = PSSC(batch_size=SIZE, sure_above=0.4, **{f"{name}_weight": value for name, value in weights.items()})  # type: ignore[arg-type]
    net, batch = net_of(method), a_batch()
    with torch.no_grad():
        net.expression.coefficients.normal_(0, 0.3)
    (losses,) = method.step(net, batch)
    with torch.no_grad():
        x, z = batch.clean, net.backbone(batch.clean)
        coefficients = net.expression.coefficients.clone().fill_diagonal_(0)
        decoded, logits, graph = net.decoder(coefficients @ z), net.classify(z), links(coefficients)
    p = logits.softmax(1)
    expected = {
        "reconstruction": 2 * (x - decoded).square().sum(),
        "neighbours": 3 * weighted_reconstruction(x, decoded, normalised(graph)),
        "expression": 4 * (z - coefficients @ z).square().sum() / 2,
        "label": 5 * label_loss(logits, 0.4),
        "graph": 6 * graph_loss(graph, p.argmax(1)),
        "balance": 6 * p.sum(0).square().sum(),
    }
    torch.testing.assert_close({name: value.detach() for name, value in losses.items()}, expected)


# What is refused, and a run


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 30_000}, r"pssc\.batch_size is 30,000: .* 36 GB .* at most 20,000"),
        ({"batch_size": 2}, r"pssc\.batch_size is 2: .* at least that of the 3 groups"),
        ({"kept": 1.0}, r"pssc\.kept is 1"),
    ],
)
def test_what_cannot_work_is_named_before_any_training(given: dict[str, Any], message: str) -> None:
    facts = Facts(n=70_000, k=K, kind="images", device="cpu", side=28)
    refused_in_plan("pssc", given, facts, message)


def test_items_outside_the_matrix_join_the_nearest_inside(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = (4 * rng.normal(size=(K, 10))[np.arange(120) % K] + rng.normal(size=(120, 10))).astype(np.float32)
    settings = RunSettings(
        n_clusters=K,
        method="pssc",
        backbone="mlp",
        device="cpu",
        calibrate=False,
        overrides={"pssc.batch_size": 60, "pssc.epochs": 2, "ae.epochs": 2, "ae.restarts": 1},
    )
    found = run(x, settings, tmp_path / "run")
    head: Any = found.model.net.groups
    assert len(head.means.rows) == 60
    embedding = found.assignments.embedding
    assert embedding is not None
    closest = torch.cdist(embedding, head.means.rows).argmin(1)
    assert torch.equal(found.assignments.probabilities.argmax(1), head.group.rows[closest, 0].long())
