from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.training.seeds import generator_of, seed_of, seed_torch

places = st.lists(st.one_of(st.integers(-5, 10**6), st.sampled_from(["cdc", "moco", "views", "order"])), max_size=5)


@given(one=places, other=places)
@settings(max_examples=100, deadline=None)
def test_seeds_are_equal_exactly_where_the_places_are(one: list[int | str], other: list[int | str]) -> None:
    assert (seed_of(*one) == seed_of(*other)) == (one == other)
    assert 0 <= seed_of(*one) < 2**63


def test_a_seed_is_the_same_on_every_machine_and_in_every_version() -> None:
    # A changed number would make old checkpoints resume with other draws.
    assert seed_of(0, "cdc", 1, 2, "views") == 7349580435438667950  # sha256, first 8 bytes, halved


def test_generators_of_one_place_draw_alike() -> None:
    assert torch.equal(torch.rand(5, generator=generator_of(3, "x")), torch.rand(5, generator=generator_of(3, "x")))
    assert not torch.equal(torch.rand(5, generator=generator_of(3, "x")), torch.rand(5, generator=generator_of(4, "x")))


def test_torchs_own_generator_is_set_as_by_torch() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(3, "x"))
        expected = torch.rand(5)
        torch.rand(7)
        seed_torch(3, "x")
        assert torch.equal(torch.rand(5), expected)
        assert torch.initial_seed() == seed_of(3, "x")
