"""The ring of the latest rows, beside a deque."""

from __future__ import annotations

from collections import deque

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.networks.queue import Queue


@given(length=st.integers(1, 12), sizes=st.lists(st.integers(1, 12), max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_queue_holds_the_latest_rows_first_in_first_out(length: int, sizes: list[int]) -> None:
    torch.manual_seed(0)
    queue = Queue(length, 3)
    slow = deque(queue.rows.clone(), maxlen=length)
    for size in sizes:
        if size <= length:
            rows = torch.randn(size, 3)
            queue.push(rows)
            slow.extend(rows)
    assert torch.equal(queue.rows.roll(-int(queue.at), 0), torch.stack(list(slow)))


def test_a_queue_begins_with_normalised_random_rows_and_is_part_of_the_checkpoint() -> None:
    queue = Queue(50, 4)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(50))
    assert not torch.equal(queue.rows, Queue(50, 4).rows)
    assert set(queue.state_dict()) == {"rows", "at"}
