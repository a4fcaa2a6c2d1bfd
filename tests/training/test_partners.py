"""Batches that bring partners of their items, that a part of the net draws, and views that a method brings itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coterie.contract import Pass, View
from coterie.data.items import Embeddings
from coterie.methods.ae import AE
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net
from coterie.training.batches import BatchMaker, batches_of
from coterie.training.passes import plan_passes
from coterie.types import Batch, ItemSpec
from coterie.views.draw import Draw
from coterie.views.recipes import make_views
from coterie.views.settings import ViewSettings

N, SIZE = 40, 16
ROWS = torch.arange(N, dtype=torch.float32)[:, None].repeat(1, 3)  # every value of an item is its number
TABLE = torch.stack([torch.arange(N), (torch.arange(N) + 1) % N, (torch.arange(N) + 7) % N], 1)


PLAIN = Pass()


class Favourites(nn.Module):
    """Draws three items only."""

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.tensor([3, 5, 8])[torch.randint(3, (count,), generator=generator)]


@dataclass(frozen=True)
class Paired(AE):
    """An auto-encoder that asks for partners."""

    wanted: Pass = PLAIN

    def passes(self) -> tuple[Pass, ...]:
        return (self.wanted,)

    def views(self) -> dict[str, Any]:
        return {"one": "clean", "other": View("clean", of="neighbour"), "too": View("clean", of="stranger")}


def batches(wanted: Pass, epoch: int = 0, rank: int = 0, processes: int = 1) -> list[Batch]:
    spec = ItemSpec("embeddings", dim=3)
    trunk: Any = nn.Identity()
    trunk.num_features = 3
    net = Net(trunk, spec, torch.zeros(3), torch.ones(3), half=False)
    neighbours = ItemTable(3)
    neighbours.fill(TABLE)
    net.add({"neighbours": neighbours, "favourites": Favourites()})
    method = Paired(wanted=wanted, batch_size=SIZE)
    plans = plan_passes(method, Embeddings(ROWS.numpy()), None, SIZE, processes)
    made: Any = lambda half=False, by=None: torch.empty(0)  # noqa: E731
    maker = BatchMaker(method, net, plans, 5, "vector", ViewSettings(), made, (), rank, processes)
    return list(batches_of(maker, epoch, 0))


PAIRS = Pass(partners={"neighbour": "neighbours"})


def test_each_item_comes_with_one_row_of_its_own_in_the_table_and_the_view_shows_it() -> None:
    for batch in batches(PAIRS):
        partner = batch.partners["neighbour"]
        assert all(int(p) in TABLE[i].tolist() for i, p in zip(batch.index, partner, strict=True))
        assert torch.equal(batch.one[:, 0].long(), batch.index)
        assert torch.equal(batch.other[:, 0].long(), partner)
        assert set(batch.views) == {"one", "other"}  # no pass brings strangers


def test_partners_are_drawn_anew_each_epoch_and_the_same_again_for_the_same_place() -> None:
    first, again, later = batches(PAIRS), batches(PAIRS), batches(PAIRS, epoch=1)
    assert all(torch.equal(a.partners["neighbour"], b.partners["neighbour"]) for a, b in zip(first, again, strict=True))
    seen = {int(i): int(p) for batch in first for i, p in zip(batch.index, batch.partners["neighbour"], strict=True)}
    moved = [(int(i), int(p)) for batch in later for i, p in zip(batch.index, batch.partners["neighbour"], strict=True)]
    assert any(seen.get(i, p) != p for i, p in moved)


def test_the_processes_share_the_partners_that_one_would_draw() -> None:
    (alone, *_), halves = batches(PAIRS), [batches(PAIRS, rank=rank, processes=2)[0] for rank in (0, 1)]
    together = {int(i): int(p) for half in halves for i, p in zip(half.index, half.partners["neighbour"], strict=True)}
    assert together == dict(zip(alone.index.tolist(), alone.partners["neighbour"].tolist(), strict=True))


def test_a_part_of_the_net_says_which_items_come() -> None:
    found = batches(Pass(sample="favourites"))
    assert len(found) == N // SIZE
    assert all(len(batch.index) == SIZE and set(batch.index.tolist()) <= {3, 5, 8} for batch in found)
    assert not torch.equal(found[0].index, batches(Pass(sample="favourites"), epoch=1)[0].index)


def draw(n: int) -> Draw:
    return Draw(torch.Generator().manual_seed(0), n)


def test_a_view_has_settings_of_its_own_unless_the_user_set_them() -> None:
    images = torch.randint(0, 256, (8, 1, 12, 12), dtype=torch.uint8)
    common, moments = ViewSettings(shift=0.0, turn=0.0), (torch.zeros(1), torch.ones(1))
    still = View("shifted")
    moving = View("shifted", {"shift": 0.4})
    plain, moved = make_views(images, [still, moving], draw(8), common, "photo", *moments)
    assert torch.equal(plain, images / 255)
    assert not torch.equal(moved, plain)
    (kept,) = make_views(images, [moving], draw(8), common, "photo", *moments, given={"shift"})
    assert torch.equal(kept, plain)


def test_a_view_may_be_a_recipe_of_the_methods_own() -> None:
    images = torch.randint(0, 256, (4, 1, 6, 6), dtype=torch.uint8)
    inverted = View({"photo": lambda pictures, draw, settings: 1 - pictures})
    (found,) = make_views(images, [inverted], draw(4), ViewSettings(), "photo", torch.zeros(1), torch.ones(1))
    torch.testing.assert_close(found, 1 - images / 255)
    with pytest.raises(ValueError, match="no recipe for items of the family 'glyph'"):
        make_views(images, [inverted], draw(4), ViewSettings(), "glyph", torch.zeros(1), torch.ones(1))
    with pytest.raises(ValueError, match="no view 'weaker'"):
        make_views(images, ["weaker"], draw(4), ViewSettings(), "photo", torch.zeros(1), torch.ones(1))
