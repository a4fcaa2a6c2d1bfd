from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coterie.algorithms.kmeans import kmeans
from coterie.networks.heads import PrototypeHead, SteadyLinear, begin_small, mlp_head, projector, standardise_rows


def test_standardised_rows_are_centred_divided_by_the_unbiased_deviation_and_of_length_one() -> None:
    z = 3 + 10 * torch.rand(20, 9, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([(row - row.mean()) / row.std(unbiased=True) for row in z])
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(standardise_rows(z), expected)


@given(scale=st.floats(1e-2, 1e2), shift=st.floats(-10, 10))
@settings(max_examples=30, deadline=None)
def test_standardising_forgets_each_rows_scale_and_offset(scale: float, shift: float) -> None:
    z = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(standardise_rows(scale * z + shift), standardise_rows(z), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("value", [3.0, 0.1, 1.7, -1000.3])
def test_a_constant_row_becomes_zero(value: float) -> None:
    """Of 512 times 0.1 the rounded mean left 1e-8 in each place, which became a row of length 1."""
    for width in (5, 64, 384, 512, 1280):
        assert torch.equal(standardise_rows(torch.full((2, width), value)), torch.zeros(2, width))


def test_the_heads_layers_are_those_of_the_paper() -> None:
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    head = mlp_head(6, 5, 3)
    assert all(map(isinstance, head, kinds))
    assert head[0].bias is not None
    assert head[3].bias is not None
    assert head(torch.randn(4, 6)).shape == (4, 3)
    assert all(map(isinstance, projector(6, 5, 3, batch_norm=True), kinds))
    assert nn.BatchNorm1d not in [type(layer) for layer in projector(6, 5, 3)]


@pytest.mark.parametrize("k", [2, 3, 10, 20])
@pytest.mark.parametrize(("width", "hidden"), [(32, 12), (70, 22), (256, 449), (513, 7)])
def test_an_items_answer_does_not_depend_on_its_place_in_the_batch(width: int, hidden: int, k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(256, width, generator=generator)
    mlp, prototypes = mlp_head(width, hidden, k).eval(), PrototypeHead(width, k)
    prototypes.place(torch.randn(k, width, generator=generator), features, torch.arange(256) % k)
    places = torch.randperm(256, generator=generator)
    for head in (mlp, prototypes):
        with torch.inference_mode():
            assert torch.equal(head(features[places]), head(features)[places])


def test_training_and_evaluation_mode_compute_the_same_product() -> None:
    layer, x = SteadyLinear(9, 4), torch.randn(5, 9)
    torch.testing.assert_close(layer.eval()(x), layer.train()(x))
    torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias)


def blobs(n: int = 60, d: int = 12, k: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    centres = 4 * torch.randn(k, d, generator=generator)
    return centres[torch.arange(n) % k] + torch.randn(n, d, generator=generator)


def test_prototype_logits_are_those_of_a_spherical_mixture() -> None:
    features, k = blobs(), 3
    rows = standardise_rows(features)
    found = kmeans(rows, k, generator=torch.Generator().manual_seed(0))
    head = PrototypeHead(12, k)
    head.place(found.centres, features, found.labels)

    rest = torch.stack([row - found.centres[label] for row, label in zip(rows, found.labels, strict=True)])
    eigenvalues = torch.linalg.eigvalsh(rest.T @ rest / len(rest))
    effective = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()  # participation ratio
    variance = eigenvalues.sum() / effective
    for row, logits in zip(rows, head(features), strict=True):
        expected = torch.stack([-(row - centre).square().sum() / (2 * variance) for centre in found.centres])
        torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-3)


def test_a_prototype_head_answers_with_the_groups_of_k_means() -> None:
    features = blobs()
    found = kmeans(standardise_rows(features), 3, generator=torch.Generator().manual_seed(0))
    head = PrototypeHead(12, 3)
    head.place(found.centres, features, found.labels)
    assert torch.equal(head(features).argmax(1), found.labels)
    assert not list(head.parameters())


def test_items_on_their_centres_do_not_divide_by_zero() -> None:
    features = torch.eye(4).repeat(3, 1)
    centres = standardise_rows(torch.eye(4))
    head = PrototypeHead(4, 4)
    head.place(centres, features, torch.arange(4).repeat(3))
    p = head(features).softmax(1)
    assert torch.isfinite(p).all()
    assert torch.equal(p.argmax(1), torch.arange(4).repeat(3))


def test_a_head_that_begins_small_says_next_to_nothing() -> None:
    torch.manual_seed(0)
    head = projector(40, 50, 30, batch_norm=True)
    begin_small(head)
    first, last = head[0], head[-1]
    assert float(first.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    assert float(last.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    assert not first.bias.any()
    assert not last.bias.any()
