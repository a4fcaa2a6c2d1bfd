from __future__ import annotations

import pytest
import torch
from torch import Tensor

from coterie.data import open_source
from coterie.networks.backbones import build_backbone
from coterie.networks.features import chunk_size, clean, extract_features, some_rows
from coterie.networks.net import HalfPrecision, Net
from coterie.types import ItemSpec, Source
from coterie.views.warps import enlarged_centre


def net_for(spec: ItemSpec, *, half: bool = False) -> Net:
    torch.manual_seed(0)
    size = spec.channels if spec.kind == "images" else spec.dim
    name = "mlp" if spec.kind == "embeddings" else "small-4"
    net = Net(build_backbone(name, spec), spec, torch.full((size,), 0.3), torch.full((size,), 0.2), half=half)
    net.train()
    net.backbone(torch.randn(64, size, 8, 8) if spec.kind == "images" else torch.randn(64, size))
    return net


@pytest.fixture(scope="module")
def vectors() -> Source:
    # One more than two chunks, so that the last chunk is one row and much filling.
    return open_source(torch.randn(2 * 256 + 1, 40, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("which", ["images", "embeddings"])
def test_features_do_not_depend_on_order_neighbours_or_the_last_chunk(
    which: str, digits: Source, vectors: Source
) -> None:
    items = digits.items if which == "images" else vectors.items
    net = net_for(items.spec)
    everything = extract_features(net, items)
    assert everything.shape == (len(items), net.width)
    shuffled = torch.randperm(len(items), generator=torch.Generator().manual_seed(4))
    for rows in (shuffled, torch.tensor([5]), torch.tensor([5, 5, 0]), torch.arange(len(items) - 3, len(items))):
        assert torch.equal(extract_features(net, items, rows), everything[rows])


def test_features_are_those_of_the_clean_view_in_evaluation_mode(digits: Source) -> None:
    net = net_for(digits.items.spec)
    found = extract_features(net, digits.items)
    assert net.training  # as it was before
    net.eval()
    with torch.no_grad():
        pixels = digits.items.take(torch.arange(len(digits.items))).float() / 255
        expected = torch.stack([net.backbone((image[None] - 0.3) / 0.2)[0] for image in pixels])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_extraction_leaves_the_running_statistics_alone(digits: Source) -> None:
    net = net_for(digits.items.spec)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    extract_features(net, digits.items)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_chunks_depend_on_the_form_of_the_items_only() -> None:
    assert chunk_size(ItemSpec("embeddings", dim=9)) == chunk_size(ItemSpec("images", 3, 64, 64)) == 256
    assert chunk_size(ItemSpec("images", 3, 224, 224)) < 256


def test_clean_turns_bytes_into_normalised_numbers(digits: Source) -> None:
    net = net_for(digits.items.spec)
    raw = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    expected: Tensor = (torch.tensor([0, 0.2, 1.0]) - 0.3) / 0.2
    torch.testing.assert_close(clean(raw, net).flatten(), expected)


def test_half_features_are_those_of_the_precision_of_training(digits: Source) -> None:
    net, in_float = net_for(digits.items.spec, half=True), net_for(digits.items.spec)
    exact, half = extract_features(net, digits.items), extract_features(net, digits.items, half=True)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, atol=0.05, rtol=0.05)
    assert torch.equal(extract_features(in_float, digits.items, half=True), extract_features(in_float, digits.items))


# The net


def test_half_precision_is_for_training_only() -> None:
    torch.manual_seed(0)
    trunk = torch.nn.Linear(64, 64)
    half, full = HalfPrecision(trunk, enabled=True), HalfPrecision(trunk, enabled=False)
    x = torch.randn(8, 64)
    assert half.train()(x).dtype == torch.float32
    assert not torch.equal(half.train()(x), full.train()(x))
    torch.testing.assert_close(half.train()(x), full.train()(x), atol=0.05, rtol=0.05)
    assert torch.equal(half.eval()(x), full.eval()(x))


def test_a_head_may_not_take_a_name_that_is_taken(digits: Source) -> None:
    net = net_for(digits.items.spec)
    net.add({"cluster": torch.nn.Linear(net.width, 2)})
    assert net.cluster(torch.randn(3, net.width)).shape == (3, 2)
    for taken in ("cluster", "backbone", "mean"):
        with pytest.raises(ValueError, match=taken):
            net.add({taken: torch.nn.Identity()})


@pytest.mark.parametrize(("n", "most"), [(10, 3), (20_000, 10_000)])
def test_some_rows_are_drawn_once_and_for_all_from_the_whole_source(n: int, most: int) -> None:
    rows = some_rows(n, most)
    assert rows is not None
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(rows) == most
    assert 0 <= int(rows.min()) <= int(rows.max()) < n
    assert torch.equal(rows, some_rows(n, most))
    if n > 100:  # every second one would be all of one kind where two kinds take turns
        assert 0.45 < float((rows % 2).float().mean()) < 0.55


def test_all_rows_are_looked_at_where_there_are_no_more() -> None:
    assert some_rows(10, 10) is some_rows(9, 10) is some_rows(10, None) is None


def test_a_net_may_look_at_the_middle_of_larger_images(digits: Source) -> None:
    net = net_for(digits.items.spec)
    whole = clean(digits.items.take(torch.arange(3)), net)
    net.enlarge = 1.25
    middle = clean(digits.items.take(torch.arange(3)), net)
    wanted = (enlarged_centre(digits.items.take(torch.arange(3)).float() / 255, 1.25) - 0.3) / 0.2
    torch.testing.assert_close(middle, wanted)
    assert not torch.equal(middle, whole)
    features = extract_features(net, digits.items, torch.arange(3))
    net.enlarge = 1.0
    assert not torch.equal(features, extract_features(net, digits.items, torch.arange(3)))
