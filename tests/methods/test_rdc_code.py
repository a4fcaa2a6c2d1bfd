"""R-DC as its authors' code runs it: the golden values were read off that code's lines, run on ten points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.algorithms.geometry import linear_dimension
from coterie.algorithms.neighbours import nearest
from coterie.contract import Facts
from coterie.data.items import Embeddings
from coterie.methods.acai import ACAI
from coterie.methods.rdc import RDC
from coterie.networks.autoencoder import flat
from coterie.objectives.interpolation import critic_loss, draw_mixing
from coterie.objectives.proximity import TEXT, Proximity, Rules, density_ratio, proximity
from coterie.training.coerce import coerce
from coterie.training.passes import plan_passes
from coterie.types import InputError
from helpers.phases import DATA, batch_of, features_of, net_of, steps

TEN = torch.tensor(
    [[0, 0], [1, 0], [0, 1.1], [1.2, 1.3], [0.4, 0.5], [5, 5], [5.1, 5], [5, 5.2], [5.3, 5.3], [9, 9]],
    dtype=torch.float64,
)
CODE = Rules("running", "own_code")
BELOW = Rules("running", "own_code", "below", "left_out")


def found(z: torch.Tensor, m: int, core_ratio: float, gap: float, rules: Rules = CODE) -> Proximity:
    distance, neighbour = by_sorting(z, m)
    return proximity(z, distance, neighbour, core_ratio, gap, rules=rules)


def by_sorting(z: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Neighbours by a stable sort of all distances, so that ties come in the order of the items."""
    apart = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    distance, neighbour = apart.sort(dim=1, stable=True)
    return distance[:, :m], neighbour[:, :m]


def accepts(result: Proximity, neighbour: torch.Tensor, item: int) -> list[int]:
    return neighbour[item][result.reliable[item]].tolist()


def core(result: Proximity) -> set[int]:
    return set(result.core.nonzero().flatten().tolist())


def place(result: Proximity, item: int) -> list[float]:
    return [round(x, 6) for x in result.centroid[item].tolist()]


def test_neighbours_and_ratios() -> None:
    distance, neighbour = by_sorting(TEN, 4)
    assert neighbour.tolist() == [
        [4, 1, 2, 3], [4, 0, 3, 2], [4, 0, 3, 1], [4, 2, 1, 0], [0, 2, 1, 3],
        [6, 7, 8, 3], [5, 7, 8, 3], [5, 6, 8, 3], [7, 6, 5, 9], [8, 7, 6, 5],
    ]  # fmt: skip
    expected = [0.3619, 0.5254, 0.4851, 0.6395, 0.5660, 0.0189, 0.0186, 0.0367, 0.0604, 0.9250]
    assert density_ratio(distance).tolist() == pytest.approx(expected, abs=5e-5)
    ours, _ = nearest(TEN.float(), 4)
    torch.testing.assert_close(ours.double(), distance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("core_ratio", "items"), [(0.6, {3, 9}), (0.5, {1, 3, 4, 9}), (0, set(range(10))), (1, set())])
def test_core_items(core_ratio: float, items: set[int]) -> None:
    assert core(found(TEN, 4, core_ratio, 0.6)) == items


def test_the_published_thresholds() -> None:
    _, neighbour = by_sorting(TEN, 4)
    code, text = found(TEN, 4, 0.6, 0.6), found(TEN, 4, 0.6, 0.6, TEXT)
    assert accepts(code, neighbour, 3) == [4, 2, 1]
    assert place(code, 3) == [0.466667, 0.533333]
    assert accepts(code, neighbour, 9) == []
    assert place(code, 9) == [9, 9]
    assert accepts(text, neighbour, 9) == [8, 7, 6, 5]
    assert place(text, 9) == [5.1, 5.125]


def test_the_order_of_the_items_counts_in_the_code() -> None:
    back = TEN.flip(0)
    result, (_, neighbour) = found(back, 4, 0.6, 0.6), by_sorting(back, 4)
    assert [9 - j for j in accepts(result, neighbour, 6)] == [4, 2]
    assert place(result, 6) == [0.2, 0.8]
    assert accepts(result, neighbour, 0) == []


def test_the_last_item_sets_the_scale() -> None:
    moved = TEN.clone()
    moved[9] = torch.tensor([5.05, 5.1])
    result, (_, neighbour) = found(moved, 4, 0.6, 0.6), by_sorting(moved, 4)
    assert core(result) == {3, 8}
    assert accepts(result, neighbour, 3) == []
    assert sorted(accepts(result, neighbour, 8)) == [5, 6, 7, 9]
    assert place(result, 8) == [5.0375, 5.075]


def test_other_thresholds() -> None:
    _, neighbour = by_sorting(TEN, 4)
    code, text = found(TEN, 4, 0.5, 0.3), found(TEN, 4, 0.5, 0.3, TEXT)
    assert [accepts(code, neighbour, i) for i in (1, 3, 4, 9)] == [[4, 0], [], [0, 2, 1], []]
    assert place(code, 1) == [0.2, 0.25]
    assert place(code, 4) == [0.333333, 0.366667]
    assert accepts(text, neighbour, 3) == [4, 2, 1]
    assert accepts(text, neighbour, 9) == [8, 7]
    assert place(text, 9) == [5.15, 5.25]
    every = found(TEN, 4, -1, 0.6)
    assert [accepts(every, neighbour, i) for i in range(10)] == [
        [4, 1, 2], [4, 0], [4, 0, 3], [4, 2], [0, 2, 1, 3], [6, 7, 8], [5, 7, 8], [5, 6, 8], [7, 6, 5], [],
    ]  # fmt: skip


def test_without_a_limit_all_rules_are_one() -> None:
    result = found(TEN, 4, -1, math.inf)
    assert place(result, 0) == [0.65, 0.725]
    assert place(result, 9) == [5.1, 5.125]


@given(st.integers(0, 500), st.sampled_from(["own", "running", "global", "zero"]), st.integers(2, 5))
@settings(deadline=None, max_examples=15)
def test_any_rule_is_the_texts_without_a_limit(seed: int, gap_from: str, m: int) -> None:
    z = torch.rand(30, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    one, other = found(z, m, 0.5, math.inf, Rules(gap_from, "own_code")), found(z, m, 0.5, math.inf, TEXT)  # type: ignore[arg-type]
    assert torch.equal(one.centroid, other.centroid)


@given(st.integers(0, 500), st.floats(0.0, 0.9), st.floats(0.05, 0.6))
@settings(deadline=None, max_examples=25)
def test_the_running_minimum_is_that_of_a_loop(seed: int, core_ratio: float, gap: float) -> None:
    z = torch.rand(40, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    distance, neighbour = by_sorting(z, 4)
    result = proximity(z, distance, neighbour, core_ratio, gap, rules=CODE)
    smallest = float(distance[-1, 0])
    for i in range(len(z)):
        kept = []
        if bool(result.core[i]):
            for j in range(4):
                smallest = min(smallest, float(distance[i, j]))
                if float(distance[i, j]) - smallest < gap:
                    kept.append(int(neighbour[i, j]))
            assert accepts(result, neighbour, i) == kept
            torch.testing.assert_close(result.centroid[i], z[kept].mean(0) if kept else z[i])


@given(st.integers(0, 500))
@settings(deadline=None, max_examples=10)
def test_running_is_global_where_the_last_item_has_the_smallest_distance(seed: int) -> None:
    z = torch.rand(30, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z[29] = z[3] + 1e-6
    one, other = found(z, 4, 0.5, 0.2), found(z, 4, 0.5, 0.2, Rules("global", "own_code"))
    assert torch.equal(one.reliable[one.core], other.reliable[other.core])


def test_two_real_neighbours() -> None:
    _, neighbour = by_sorting(TEN, 2)
    result = found(TEN, 2, 0.6, 0.1)
    assert core(result) == {0, 1, 2, 3, 4, 7, 8, 9}
    assert [accepts(result, neighbour, i) for i in (0, 1, 2, 3, 4, 7, 8, 9)] == [
        [4],
        [],
        [4],
        [],
        [0, 2],
        [5, 6],
        [],
        [],
    ]
    assert place(result, 4) == [0, 0.55]
    assert place(result, 7) == [5.05, 5]
    loose = found(TEN, 2, 0.3, 0.5)
    assert core(loose) == set(range(10))
    assert place(loose, 3) == [0.4, 0.5]
    assert accepts(loose, neighbour, 9) == []


def test_the_inverted_core_test() -> None:
    result = found(TEN, 2, 0.9, 1.0, BELOW)
    assert core(result) == set(range(10)) - {3, 9}
    for item, wanted in {
        0: [0.7, 0.25],
        1: [0.2, 0.25],
        2: [0.2, 0.25],
        5: [5.05, 5.1],
        6: [5, 5.1],
        8: [5.05, 5.1],
    }.items():
        assert place(result, item) == wanted


def test_the_scale_of_the_code_changes_what_is_accepted() -> None:
    _, neighbour = by_sorting(TEN, 4)
    small, large = found(TEN * 0.1, 4, 0.6, 0.6), found(TEN * 10, 4, 0.6, 0.6)
    assert core(small) == core(large) == {3, 9}
    assert place(small, 3) == [0.035, 0.04]
    assert place(small, 9) == [0.51, 0.5125]
    assert accepts(large, neighbour, 3) == [4]
    assert accepts(large, neighbour, 9) == []


def test_copies_are_neither_core_nor_border_in_the_inverted_variant() -> None:
    z = torch.tensor([[0, 0], [0, 0], [0, 0], [1, 0], [1, 0.5], [3, 3]], dtype=torch.float64)
    result = found(z, 2, 0.9, 1.0, BELOW)
    assert core(result) == {3, 4, 5}
    assert result.counted.tolist() == [False] * 3 + [True] * 3
    assert result.core_share == 1.0
    assert place(result, 3) == [0.5, 0.25]
    assert place(result, 4) == [0.5, 0]
    assert place(result, 5) == [3, 3]
    assert core(found(z, 2, 0.9, 1.0, Rules(copies="core"))) >= {0, 1, 2}
    assert not core(found(z, 2, 0.9, 1.0, Rules(copies="border"))) & {0, 1, 2}


@pytest.mark.parametrize(
    ("n", "slices"), [(10, [(0, 4), (4, 8), (8, 10), (0, 4)]), (8, [(0, 4), (4, 8), (0, 4), (4, 8)])]
)
def test_fixed_slices_go_round(n: int, slices: list[tuple[int, int]]) -> None:
    (way,) = plan_passes(RDC(order="source", epoch_steps=2), Embeddings(np.zeros((n, 1), np.float32)), None, 4, 1)
    seen = [rows for epoch in (0, 1) for rows in way.batches(0, "rdc", epoch)]
    assert [rows.tolist() for rows in seen] == [list(range(*piece)) for piece in slices]


@given(st.integers(5, 60), st.integers(2, 9), st.integers(1, 25))
@settings(deadline=None, max_examples=25)
def test_short_epochs_go_on_where_the_last_one_ended(n: int, size: int, steps: int) -> None:
    size, items = min(size, n), Embeddings(np.zeros((n, 1), np.float32))
    (way,) = plan_passes(RDC(epoch_steps=steps), items, None, size, 1)
    (plain,) = plan_passes(RDC(), items, None, size, 1)
    seen = [rows for epoch in range(4) for rows in way.batches(7, "rdc", epoch)]
    wanted = [rows for number in range(4 * steps // plain.steps + 1) for rows in plain.batches(7, "rdc", number)]
    assert [rows.tolist() for rows in seen] == [rows.tolist() for rows in wanted[: 4 * steps]]


def test_the_critics_of_the_code_and_of_the_text() -> None:
    said, alpha = torch.tensor([0.2, 0.6]), torch.tensor([0.1, 0.5])
    real = torch.zeros(2)
    assert float(critic_loss(said, alpha, real, all_pairs=True).mean()) == pytest.approx(0.09)
    assert float(critic_loss(said, alpha, real).mean()) == pytest.approx(0.01)
    folded, plain = (draw_mixing(1000, torch.Generator().manual_seed(0), folded=f) for f in (True, False))
    torch.testing.assert_close(folded, torch.minimum(plain, 1 - plain))
    assert float(plain.max()) > 0.9


def test_a_critic_on_all_pairs_learns_something_else() -> None:
    (_, own), (_, pairs) = (
        list(steps(m, net_of(m), batch_of(net_of(m)))) for m in (ACAI(), ACAI(critic_pairing="all"))
    )
    assert float(own["critic"].detach()) != float(pairs["critic"].detach())


def test_the_index_of_the_component() -> None:
    line = torch.tensor([[0, 0], [1, 1.1], [2, 1.9], [3, 3.05], [4, 3.95], [5, 5]])
    assert linear_dimension(line, share=0.9999, legacy_zero_based=True) == 1
    assert linear_dimension(line, share=0.9, legacy_zero_based=True) == 0
    square = torch.tensor([[1.0, 1, 0], [-1, -1, 0], [1, -1, 0], [-1, 1, 0]])
    assert linear_dimension(square, share=0.9999, legacy_zero_based=True) == 1
    assert linear_dimension(square, share=0.9, legacy_zero_based=True) == 1


AS_CODE = RDC(
    neighbours=4, core_ratio=0.6, gap=0.6, image_weight=100, gap_from="running", when_none="own_code",
    include_border=True, border_code="refresh", border_image="decoded", order="source", epoch_steps=140, stop="never",
)  # fmt: skip


def test_no_image_of_the_data_is_a_target_in_the_code() -> None:
    """Border items aim at their code of the last refresh and at its decoding, also when the net has moved since."""
    method = RDC(**{**vars(AS_CODE), "core_ratio": 1.0, "core_sense": "above"})
    net = net_of(method)
    list(steps(method, net, batch_of(net)))
    old = net.bank.rows[:16].clone()
    with torch.no_grad():
        net.backbone.trunk.code.weight.mul_(1.1)
    (losses,) = steps(method, net, batch_of(net, number=1))
    z = net.backbone(DATA[:16])
    torch.testing.assert_close(losses["latent"], (z - old).square().mean())
    wanted = (net.decoder(z) - net.decoder(old)).square().mean()
    torch.testing.assert_close(losses["image"], 100 * wanted)
    fresh = RDC(**{**vars(method), "border_code": "fresh"})
    (losses,) = steps(fresh, net, batch_of(net, number=1))
    assert float(losses["latent"].detach()) == pytest.approx(0.0, abs=1e-9)
    clean = RDC(**{**vars(method), "border_image": "clean"})
    (losses,) = steps(clean, net, batch_of(net, number=1))
    torch.testing.assert_close(losses["image"], 100 * (net.decoder(z) - flat(DATA[:16])).square().mean())


def test_the_loss_is_the_mean_over_values_and_items() -> None:
    """E(x̃) = (1, 2) and target 0: 2.5; image (1, 1, 0, 0) and target 0: 0.5; with γ = 100 in all 52.5."""
    method = AS_CODE
    net = net_of(method)
    (losses,) = steps(method, net, batch_of(net))
    row = net.centroids.of(torch.arange(16))
    aim = torch.where(row[:, -1:] > 0, row[:, :-1], net.bank.rows[:16])
    z = net.backbone(DATA[:16]).detach()
    slow = sum(float((z[i] - aim[i]).square().sum() / z.shape[1]) for i in range(16)) / 16
    assert float(losses["latent"].detach()) == pytest.approx(slow, rel=1e-4, abs=1e-9)
    image = [float((net.decoder(z)[i] - net.decoder(aim)[i]).detach().square().sum() / 12) for i in range(16)]
    assert float(losses["image"].detach()) == pytest.approx(100 * sum(image) / 16, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"refresh": "bank", "gap_from": "running"}, "gap_from"),
        ({"epoch_steps": 0}, "epoch_steps"),
        ({"widest": 1.0}, "widest"),
        ({"momentum": 1.0}, "momentum"),
    ],
)
def test_what_does_not_go_together_is_refused(wrong: dict[str, object], what: str) -> None:
    with pytest.raises(InputError, match=what):
        coerce(RDC, wrong, "rdc").check(Facts(100, 3, "embeddings", "cpu", dim=12))


def test_a_code_may_widen_where_no_limit_is_set() -> None:
    method = RDC(widest=None)
    net = net_of(method)
    with torch.no_grad():
        net.backbone.trunk.code.weight.mul_(20)
    list(steps(method, net, batch_of(net)))
    method.finish(net, features_of(net), 3, torch.Generator().manual_seed(0))


def test_sgd_steps_with_momentum() -> None:
    method = RDC(solver="sgd", learning_rate=1e-3)
    (group,) = method.optimiser(net_of(method)).param_groups
    assert (group["lr"], group["momentum"]) == (1e-3, 0.9)
