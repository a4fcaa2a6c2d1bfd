from __future__ import annotations

import torch
from torch import nn

from coterie.networks.memory import ItemTable


def test_a_table_is_empty_until_it_is_filled_and_keeps_a_copy() -> None:
    table, rows = ItemTable(3), torch.arange(12.0).view(4, 3)
    assert table.rows.shape == (0, 3)
    table.fill(rows)
    rows.zero_()
    assert table.of(torch.tensor([2, 0])).tolist() == [[6.0, 7.0, 8.0], [0.0, 1.0, 2.0]]


def test_a_checkpoint_brings_its_own_number_of_rows() -> None:
    old, new = nn.Module(), nn.Module()
    old.table, new.table = ItemTable(2), ItemTable(2)
    old.table.fill(torch.rand(5, 2))
    new.load_state_dict(old.state_dict())
    assert torch.equal(new.table.rows, old.table.rows)
    assert all(isinstance(value, torch.Tensor) for value in old.state_dict().values())
    new.table.rows.zero_()
    assert bool(old.table.rows.any())


def test_no_gradient_goes_through_a_table() -> None:
    table, rows = ItemTable(2), torch.rand(3, 2, requires_grad=True)
    table.fill(rows)
    assert not table.rows.requires_grad
    assert list(table.parameters()) == []


def test_rows_of_other_items_stay_exact_through_a_checkpoint() -> None:
    large = 2**24 + 1  # float32 has no such number
    old, new = ItemTable(2, torch.int32), ItemTable(2, torch.int32)
    old.fill(torch.tensor([[0, large], [1, 0]]))
    new.load_state_dict(old.state_dict())
    assert new.rows.dtype == torch.int32
    assert new.of(torch.tensor([0])).tolist() == [[0, large]]
