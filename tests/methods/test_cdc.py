"""The parts of CDC: initialisation, calibration targets, selection, one batch of training (spec, section 12)."""

from __future__ import annotations

import math
from typing import Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from coterie.methods.cdc import (
    CDC,
    cell_means,
    confident_images,
    decorrelate,
    hidden_activations,
    means_by_cell,
    prototype_weights,
    write_prototypes,
)
from coterie.networks.heads import mlp_head, standardise_rows
from coterie.networks.net import Net
from coterie.objectives.information import negative_mean_entropy, soft_cross_entropy
from coterie.objectives.kmeans import assign, kmeans
from coterie.pipeline import run
from coterie.training.plan import RunSettings
from coterie.types import Batch, ItemSpec, OneProcess, Source

seeds = st.integers(0, 10_000)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def probabilities(n: int, k: int, seed: int = 0, sharpness: float = 2.0) -> Tensor:
    return (sharpness * torch.randn(n, k, generator=seeded(seed))).softmax(1)


def mixture(n: int = 240, d: int = 32, k: int = 4, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    """Non-negative features around k centres, as a ResNet's, and the true groups."""
    generator = seeded(5)
    centres = 2 * torch.randn(k, d, generator=generator)
    labels = torch.arange(n) % k
    return (centres[labels] + noise * torch.randn(n, d, generator=generator)).relu(), labels


def agreement(found: Tensor, labels: Tensor) -> float:
    from coterie.evaluation import accuracy

    return accuracy(labels.numpy(), found.numpy())


# Selection, Eq. 4


def slow_selection(p: Tensor, *, match_label: bool = False) -> tuple[set[int], list[int]]:
    """The marked images and every group's number of places, word by word."""
    rows = p.double().tolist()
    n, k = len(rows), len(rows[0])
    marked, places = set[int](), []
    for group in range(k):
        ranked = sorted(range(n), key=lambda i: -rows[i][group])[: n // k]
        places.append(math.floor(math.fsum(max(rows[i]) for i in ranked) + 1e-6))
        for i in ranked[: places[-1]]:
            if not match_label or rows[i].index(max(rows[i])) == group:
                marked.add(i)
    return marked, places


@given(n=st.integers(1, 60), k=st.integers(2, 8), seed=seeds, sharpness=st.floats(0.1, 8), match=st.booleans())
@settings(max_examples=80, deadline=None)
def test_selection_is_that_of_its_slow_twin(n: int, k: int, seed: int, sharpness: float, match: bool) -> None:
    p = probabilities(n, k, seed, sharpness)
    expected, places = slow_selection(p, match_label=match)
    mask = confident_images(p, match_label=match)
    assert mask.dtype == torch.bool
    assert set(mask.nonzero().flatten().tolist()) == expected
    quota = n // k
    assert all(quota // k <= place <= quota for place in places)
    assert len(expected) <= sum(places) <= k * quota <= n


def test_sure_and_balanced_images_are_all_selected_and_uniform_ones_hardly() -> None:
    labels = torch.arange(30) % 3
    assert bool(confident_images(F.one_hot(labels, 3).float()).all())
    almost = F.one_hot(labels, 3).float() * 0.99999994  # sums to 9.9999994 (spec, pitfall 14)
    assert bool(confident_images(almost).all())
    uniform = torch.full((30, 3), 1 / 3)
    assert slow_selection(uniform)[1] == [3, 3, 3]  # floor(10 / 3) places each, on the same images
    assert int(confident_images(uniform).sum()) <= 9


def test_fewer_images_than_groups_select_nothing() -> None:
    assert not bool(confident_images(probabilities(4, 5)).any())


def test_an_image_that_two_groups_mark_counts_once_and_keeps_its_label() -> None:
    # Group 2 is nobody's label, so its three places go to images of group 0: to two that group 0 marks, and one more.
    sure = [[0.95, 0.0, 0.05], [0.94, 0.0, 0.06], [0.93, 0.0, 0.07], [0.92, 0.0, 0.08]]
    p = torch.tensor([*sure, *[[0.09, 0.9, 0.01]] * 4, *[[0.85, 0.15, 0.0]] * 4])
    mask, label = CDC().select(p)
    assert mask.nonzero().flatten().tolist()[:4] == [0, 1, 2, 3]
    assert label[:4].tolist() == [0, 0, 0, 0]
    assert slow_selection(p)[1] == [3, 3, 3]
    assert int(mask.sum()) == 3 + 3 + 1
    assert confident_images(p, match_label=True)[:4].tolist() == [True, True, True, False]


@given(seed=seeds, raised=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_raising_all_confidences_never_selects_fewer(seed: int, raised: float) -> None:
    n, k = 40, 4
    top = 0.3 + 0.6 * torch.rand(n, generator=seeded(seed))
    hot = F.one_hot(torch.arange(n) % k, k).bool()

    def of(top: Tensor) -> Tensor:
        return torch.where(hot, top[:, None], ((1 - top) / (k - 1))[:, None])

    before, after = confident_images(of(top)), confident_images(of(top + raised * (1 - top)))
    assert int(after.sum()) >= int(before.sum())


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_selection_does_not_depend_on_the_order_of_images_or_groups(seed: int) -> None:
    p = probabilities(50, 5, seed)
    rows, columns = torch.randperm(50, generator=seeded(seed)), torch.randperm(5, generator=seeded(seed))
    assert torch.equal(confident_images(p[rows]), confident_images(p)[rows])
    assert torch.equal(confident_images(p[:, columns]), confident_images(p))


def test_a_fixed_threshold_takes_the_place_of_the_quota() -> None:
    p = probabilities(50, 5)
    mask, label = CDC(threshold=0.7).select(p)
    assert torch.equal(mask, p.amax(1) > 0.7)
    assert torch.equal(label, p.argmax(1))
    assert 0 < int(mask.sum()) < 50


# Calibration targets and losses, Eq. 1 and 2


@given(n=st.integers(1, 40), k=st.integers(2, 6), cells=st.integers(1, 12), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_targets_are_the_means_of_the_mini_clusters(n: int, k: int, cells: int, seed: int) -> None:
    p, cell = probabilities(n, k, seed), torch.randint(0, cells, (n,), generator=seeded(seed))
    target = means_by_cell(p, cell, cells)
    for i in range(n):
        members = [p[j] for j in range(n) if cell[j] == cell[i]]
        torch.testing.assert_close(target[i], sum(members) / len(members))
    torch.testing.assert_close(target.sum(1), torch.ones(n))
    assert bool((target >= 0).all())
    torch.testing.assert_close(target.mean(0), p.mean(0))


@given(k=st.integers(2, 6), cells=st.integers(1, 8), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_targets_never_raise_the_mean_confidence_and_finer_cells_never_lower_it(k: int, cells: int, seed: int) -> None:
    """Theorem 1."""
    n = 40
    p, cell = probabilities(n, k, seed), torch.randint(0, cells, (n,), generator=seeded(seed))
    finer = cell + cells * torch.randint(0, 2, (n,), generator=seeded(seed + 1))

    def confidence(targets: Tensor) -> float:
        return targets.amax(1).mean().item()

    coarse = confidence(means_by_cell(p, cell, cells))
    assert coarse <= confidence(means_by_cell(p, finer, 2 * cells)) + 1e-6 <= confidence(p) + 2e-6
    # A mini-cluster of one label keeps its confidence.
    assert confidence(means_by_cell(p, p.argmax(1), k)) == pytest.approx(confidence(p), abs=1e-6)


def test_one_mini_cluster_gives_the_mean_and_as_many_as_images_change_nothing() -> None:
    p, features = probabilities(30, 4), torch.rand(30, 8, generator=seeded(1))
    torch.testing.assert_close(cell_means(features, p, 1, seeded()), p.mean(0).expand(30, 4))
    assert torch.equal(cell_means(features, p, 30, seeded()), p)


def test_targets_follow_the_order_of_images_and_groups() -> None:
    p, cell = probabilities(30, 4), torch.randint(0, 5, (30,), generator=seeded(1))
    rows, columns = torch.randperm(30, generator=seeded(2)), torch.randperm(4, generator=seeded(2))
    target = means_by_cell(p, cell, 5)
    torch.testing.assert_close(means_by_cell(p[rows], cell[rows], 5), target[rows])
    torch.testing.assert_close(means_by_cell(p[:, columns], cell, 5), target[:, columns])


@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2), ("none", None)])
def test_mini_clusters_are_those_of_the_normalised_features(norm: str, order: int | None) -> None:
    features, p = mixture(60)[0] * torch.rand(60, 1, generator=seeded(3)), probabilities(60, 4)
    scaled = features if order is None else features / features.norm(p=order, dim=1, keepdim=True)
    expected = means_by_cell(p, kmeans(scaled, 7, generator=seeded(9)).labels, 7)
    torch.testing.assert_close(cell_means(features, p, 7, seeded(9), norm), expected)


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_the_calibration_loss_is_smallest_at_its_target(seed: int) -> None:
    target, other = probabilities(20, 5, seed), probabilities(20, 5, seed + 1)
    assert soft_cross_entropy(target.log(), target) <= soft_cross_entropy(other.log(), target)


def test_the_entropy_loss_is_smallest_for_balance_whether_sure_or_not() -> None:
    least = -math.log(4)
    for balanced in (torch.zeros(8, 4), 50 * F.one_hot(torch.arange(8) % 4, 4).float()):
        assert negative_mean_entropy(balanced).item() == pytest.approx(least, abs=1e-5)
    for seed in range(5):
        assert least - 1e-6 <= negative_mean_entropy(torch.randn(8, 4, generator=seeded(seed))).item() <= 0
    assert negative_mean_entropy(100 * F.one_hot(torch.zeros(8).long(), 4).float()).item() == pytest.approx(0)


# Initialisation, Eq. 6


def test_both_heads_begin_alike_with_no_bias_and_a_fresh_normalisation() -> None:
    features, _ = mixture()
    net = net_of(CDC(hidden=12), width=32, k=4)
    CDC(hidden=12).start(net, lambda: features, 4, seeded())
    net.eval()
    assert torch.equal(net.cluster(features), net.calibrate(features))
    for head in (net.cluster, net.calibrate):
        first, norm, _, second = head
        assert not bool(first.bias.any() | second.bias.any())
        fresh = nn.BatchNorm1d(12).state_dict()
        assert all(torch.equal(value, fresh[name]) for name, value in norm.state_dict().items())
    assert net.cluster[0].weight.data_ptr() != net.calibrate[0].weight.data_ptr()  # pitfall 10


def test_the_first_layers_prototypes_see_past_each_images_scale_and_offset() -> None:
    features, _ = mixture()
    prototypes = kmeans(standardise_rows(features), 12, generator=seeded()).centres
    torch.testing.assert_close(prototypes.sum(1), torch.zeros(12), atol=1e-5, rtol=0)
    assert bool((prototypes.norm(dim=1) <= 1 + 1e-6).all())
    scale, offset = 0.5 + torch.rand(240, 1, generator=seeded(1)), torch.randn(240, 1, generator=seeded(2))
    changed = hidden_activations(scale * features + offset, prototypes)
    torch.testing.assert_close(changed, scale * hidden_activations(features, prototypes), atol=1e-4, rtol=1e-4)


def test_hidden_activations_are_those_of_a_fresh_head_in_evaluation_mode() -> None:
    features, _ = mixture(20)
    head = mlp_head(32, 6, 3).eval()
    weights = torch.randn(6, 32, generator=seeded())
    write_prototypes(head, weights, torch.zeros(3, 6))
    torch.testing.assert_close(hidden_activations(features, weights), head[:3](features))


def centres_like(n: int, d: int) -> Tensor:
    """Rows as long as K-means centres of unit vectors, and as alike as those of a net's features."""
    return 0.7 * F.normalize(torch.randn(n, d, generator=seeded()) + 1)


def cosines(weights: Tensor) -> Tensor:
    table = F.normalize(weights) @ F.normalize(weights).T
    return table[~torch.eye(len(weights), dtype=torch.bool)]


def test_decorrelated_rows_of_a_small_head_become_a_simplex() -> None:
    weights = centres_like(5, 24)
    found = decorrelate(weights)
    torch.testing.assert_close(cosines(found), torch.full((20,), -1 / 4), atol=1e-3, rtol=0)
    assert torch.equal(found, decorrelate(weights))
    assert not found.requires_grad


def test_decorrelation_of_many_rows_brings_them_near_orthogonality() -> None:
    weights = centres_like(48, 48)
    found = decorrelate(weights)
    assert cosines(weights).abs().mean() > 0.4
    assert cosines(found).abs().mean() < 0.05


def test_decorrelation_parts_rows_that_are_all_but_equal() -> None:
    weights = centres_like(5, 24)
    weights[1] = weights[0] + 1e-3 * torch.randn(24, generator=seeded(1))
    assert cosines(decorrelate(weights)).max() < 0


def test_decorrelation_refuses_a_zero_row() -> None:
    with pytest.raises(ValueError, match="zero row"):
        decorrelate(torch.stack([torch.zeros(4), torch.ones(4)]))


def test_the_largest_product_with_a_unit_prototype_is_the_nearest() -> None:
    """Proposition 1."""
    z = F.normalize(torch.randn(200, 16, generator=seeded()))
    prototypes = F.normalize(torch.randn(7, 16, generator=seeded(1)))
    assert torch.equal((z @ prototypes.T).argmax(1), assign(z, prototypes)[0])


def test_heads_begin_about_as_good_as_k_means_and_far_above_random_ones() -> None:
    features, labels = mixture(d=128, noise=2.0)
    torch.manual_seed(0)
    head, random_head = (mlp_head(128, 24, 4).eval() for _ in range(2))
    write_prototypes(head, *prototype_weights(features, 24, 4, seeded()))
    with torch.no_grad():
        begun = agreement(head(features).argmax(1), labels)
        random = agreement(random_head(features).argmax(1), labels)
    by_kmeans = agreement(kmeans(standardise_rows(features), 4, generator=seeded(), restarts=5).labels, labels)
    assert begun > by_kmeans - 0.05
    assert begun > random + 0.2


@pytest.mark.parametrize("init", get_args(get_type_hints(CDC)["init"]))
def test_every_initialisation_is_finite(init: Any) -> None:
    features, _ = mixture(120)
    method = CDC(hidden=12, init=init)
    net = net_of(method, width=32, k=4)
    method.start(net, lambda: features, 4, seeded())
    assert all(bool(torch.isfinite(value.float()).all()) for value in net.state_dict().values())
    for p in method.predict(net.eval(), features).values():
        torch.testing.assert_close(p.sum(1), torch.ones(120))


# One batch of training

DIM, SIZE, K = 10, 48, 4


class Trunk(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width
        self.linear, self.norm = nn.Linear(DIM, width), nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x)).relu()


def net_of(method: CDC, *, width: int = 16, k: int = K) -> Net:
    torch.manual_seed(0)
    net = Net(Trunk(width), ItemSpec("embeddings", dim=DIM), torch.zeros(DIM), torch.ones(DIM), half=False)
    net.add(method.heads(net, k))
    return net.train()


def a_batch(method: CDC) -> Batch:
    views = {name: torch.randn(SIZE, DIM, generator=seeded(i)) for i, name in enumerate(method.card.views)}
    return Batch(
        torch.arange(SIZE), views, part_size=method.part_size, progress=0.0, generator=seeded(), share=OneProcess()
    )


def method_with(**values: Any) -> CDC:
    return CDC(**{"batch_size": SIZE, "sub_batch": SIZE // 2, "cells": 8, "hidden": 12, **values})


def gradients(net: Net) -> dict[str, float]:
    """The sum of absolute gradients in each part of the net that got any."""
    found: dict[str, float] = {}
    for name, p in net.named_parameters():
        if p.grad is not None:
            part = name.split(".")[0]
            found[part] = found.get(part, 0.0) + p.grad.abs().sum().item()
    return found


def one_step(method: CDC, *losses: str) -> dict[str, float]:
    """Gradients of the named losses of a batch's first optimiser step."""
    net = net_of(method)
    found = next(iter(method.step(net, a_batch(method))))
    assert set(losses) <= set(found)
    torch.stack([found[name] for name in losses]).sum().backward()
    return gradients(net)


def test_the_clustering_loss_reaches_backbone_and_clustering_head_only() -> None:
    found = one_step(method_with(), "cluster")
    assert set(found) == {"backbone", "cluster"}
    assert min(found.values()) > 0


def test_the_calibration_losses_reach_the_calibration_head_only() -> None:
    found = one_step(method_with(), "calibrate", "entropy")
    assert set(found) == {"calibrate"}
    assert found["calibrate"] > 0


def test_without_stop_gradient_the_calibration_losses_reach_the_backbone_too() -> None:
    found = one_step(method_with(stop_gradient=False), "calibrate", "entropy")
    assert set(found) == {"backbone", "calibrate"}
    assert min(found.values()) > 0


def test_a_single_head_takes_both_losses_and_keeps_the_backbone_from_one() -> None:
    assert set(one_step(method_with(layout="single-both"), "calibrate")) == {"cluster"}
    assert set(one_step(method_with(layout="single-both"), "cluster")) == {"backbone", "cluster"}
    assert set(one_step(method_with(layout="single"), "cluster")) == {"backbone", "cluster"}


def test_the_losses_are_the_equations_of_the_paper() -> None:
    """Eq. 1, 2 and 5 of both sub-batches, from forward passes written out again."""
    method = method_with(entropy_weight=0.7)
    net, twin, batch = net_of(method), net_of(method), a_batch(method)
    with torch.no_grad():
        z = twin.backbone(batch.clean)
        p = twin.cluster(z).softmax(1)
        weak = twin.calibrate(twin.backbone(batch.weak)).softmax(1)
    marked, _ = slow_selection(weak)
    targets = cell_means(z, p, method.cells, seeded(), "l1")
    for number, losses in enumerate(method.step(net, batch)):
        rows = range(number * SIZE // 2, (number + 1) * SIZE // 2)
        with torch.no_grad():
            strong = twin.cluster(twin.backbone(batch.strong[list(rows)])).log_softmax(1)
            calibrated = twin.calibrate(z[list(rows)]).softmax(1)
        chosen = [i for i in rows if i in marked]
        eq5 = sum(-strong[i - rows.start, weak[i].argmax()] for i in chosen) / len(chosen)
        eq1 = sum(-(targets[i] * calibrated[i - rows.start].log()).sum() for i in rows) / len(rows)
        mean = calibrated.mean(0)
        expected = {"cluster": eq5, "calibrate": eq1, "entropy": 0.7 * (mean * mean.log()).sum()}
        assert set(losses) == set(expected)
        for name, value in losses.items():
            torch.testing.assert_close(value, expected[name], msg=name)
    assert number == 1
    torch.testing.assert_close(batch.logged["selected"], torch.tensor(len(marked) / SIZE))
    assert batch.counts is not None
    assert batch.counts.tolist() == p.argmax(1).bincount(minlength=K).tolist()


def test_nothing_selected_leaves_backbone_and_clustering_head_as_they_are() -> None:
    method = method_with(threshold=1.0)
    net = net_of(method)
    optimiser = method.optimiser(net)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for losses in method.step(net, a_batch(method)):
        assert set(losses) == {"calibrate", "entropy"}
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    for name, p in net.named_parameters():
        assert torch.equal(p, before[name]) == (not name.startswith("calibrate")), name
    assert all(bool(torch.isfinite(value.float()).all()) for value in net.state_dict().values())


def test_a_single_head_with_nothing_selected_takes_no_step() -> None:
    method = method_with(layout="single", threshold=1.0)
    assert list(method.step(net_of(method), a_batch(method))) == []


def test_running_statistics_see_the_views_that_the_paper_lists() -> None:
    """Per batch of S sub-batches: backbone and clustering head 2 + S updates, calibration head 1 + S (section 7)."""
    method = method_with(sub_batch=SIZE // 4)
    net = net_of(method)
    for _ in method.step(net, a_batch(method)):
        pass
    seen = {
        "backbone": net.backbone.trunk.norm,
        "cluster": net.cluster[1],
        "calibrate": net.calibrate[1],
    }
    assert {name: int(norm.num_batches_tracked) for name, norm in seen.items()} == {
        "backbone": 6, "cluster": 6, "calibrate": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("n", "batch", "part", "steps"), [(100, 48, 16, 2 * 3), (96, 48, 48, 2), (50, 20, 8, 2 * 3), (60, 19, 6, 3 * 3)]
)
def test_the_number_of_optimiser_steps_in_an_epoch(n: int, batch: int, part: int, steps: int) -> None:
    taken = []
    hook = register_optimizer_step_post_hook(lambda *arguments: taken.append(1))
    vectors = torch.randn(n, 8, generator=seeded())
    chosen = {"batch_size": batch, "sub_batch": part, "cells": 5, "hidden": 8, "epochs": 2, "init": "random"}
    try:
        run(vectors, RunSettings(n_clusters=3, overrides={f"cdc.{name}": value for name, value in chosen.items()}))
    finally:
        hook.remove()
    assert len(taken) == 2 * steps


# Whole runs


@pytest.mark.parametrize(
    "values",
    [
        {"layout": "single"},
        {"layout": "single-both"},
        {"stop_gradient": False},
        {"threshold": 0.3},
        {"match_label": True},
        {"cell_norm": "none", "restarts": 2},
        {"entropy_weight": 0.0},
    ],
    ids=str,
)
def test_every_ablation_runs(values: dict[str, Any], digits: Source) -> None:
    small = {"batch_size": SIZE, "sub_batch": SIZE // 2, "cells": 8, "hidden": 12, "epochs": 1, "init": "random"}
    overrides = {f"cdc.{name}": value for name, value in {**small, **values}.items()} | {"moco.epochs": 0}
    done = run(digits.items.array, RunSettings(n_clusters=K, backbone="small-4", family="glyph", overrides=overrides))
    heads = {"clu"} if str(values.get("layout")).startswith("single") else {"cal", "clu"}
    assert set(done.assignments.heads) == heads
    for p in done.assignments.heads.values():
        torch.testing.assert_close(p.sum(1), torch.ones(len(p)))
        assert bool(torch.isfinite(p).all())


@pytest.mark.parametrize(
    ("values", "message"),
    [({"cells": 1}, "cells"), ({"cells": 2000}, "cells"), ({"hidden": 3}, "hidden"), ({"hidden": 4000}, "hidden")],
)
def test_settings_that_cannot_work_are_named(values: dict[str, int], message: str) -> None:
    from coterie.methods.contract import Facts
    from coterie.types import InputError

    facts = Facts(n=2000, k=5, kind="embeddings", device="cpu", dim=9)
    CDC().check(facts)
    with pytest.raises(InputError, match=rf"cdc\.{message} is {values[message]}"):
        CDC(**values).check(facts)  # type: ignore[arg-type]


def test_training_on_easy_groups_calibrates_and_does_not_spoil_the_start() -> None:
    from coterie.evaluation import evaluate

    generator = seeded(3)
    labels = torch.arange(400) % 4
    vectors = 0.45 * torch.randn(4, 64, generator=generator)[labels] + torch.randn(400, 64, generator=generator)
    begun, done = (run(vectors, RunSettings(n_clusters=4, epochs=epochs)).assignments for epochs in (0, 10))
    names = list("abcd")
    cal, clu = (evaluate(labels.numpy(), done.heads[head].numpy(), class_names=names) for head in ("cal", "clu"))
    assert cal["acc"] > agreement(begun.probabilities.argmax(1), labels) - 0.03
    assert cal["ece"] <= clu["ece"]
