"""CDC: how it begins, calibration targets, one batch of training, whole runs (spec, section 12)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from coterie.algorithms.kmeans import kmeans
from coterie.contract import Facts, predict
from coterie.methods.cdc import CDC
from coterie.networks.features import extract_features
from coterie.networks.heads import begin_as_groups, mlp_head, standardise_rows
from coterie.networks.net import Net
from coterie.objectives.information import negative_mean_entropy, soft_cross_entropy
from coterie.objectives.mini_clusters import cell_means
from coterie.objectives.selection_formulas import confident_images
from coterie.objectives.selection_strategies import Fixed, FlexMatch, FreeMatch, GradientFilter, ProximityFilter, Quota
from coterie.pipeline import run
from coterie.prediction.model import load_model
from coterie.running.prepared import Watch
from coterie.training.coerce import coerce
from coterie.training.history import EpochRecord
from coterie.training.plan import RunSettings
from coterie.training.seeds import generator_of
from coterie.types import Batch, InputError, ItemSpec, Source
from helpers.batches import batch_of_views
from helpers.draws import probabilities, seeded
from helpers.mixtures import agreement, mixture

seeds = st.integers(0, 10_000)


# Losses, Eq. 1 and 2


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
    CDC(hidden=12).start(net, lambda **_: features, 4, seeded())
    net.eval()
    assert torch.equal(net.cluster(features), net.calibrate(features))
    for head in (net.cluster, net.calibrate):
        first, norm, _, second = head
        assert not bool(first.bias.any() | second.bias.any())
        fresh = nn.BatchNorm1d(12).state_dict()
        assert all(torch.equal(value, fresh[name]) for name, value in norm.state_dict().items())
    assert net.cluster[0].weight.data_ptr() != net.calibrate[0].weight.data_ptr()  # pitfall 10


@pytest.mark.parametrize("init", get_args(get_type_hints(CDC)["init"]))
def test_every_initialisation_is_finite(init: Any) -> None:
    features, _ = mixture(120)
    method = CDC(hidden=12, init=init)
    net = net_of(method, width=32, k=4)
    method.start(net, lambda **_: features, 4, seeded())
    assert all(bool(torch.isfinite(value.float()).all()) for value in net.state_dict().values())
    for p in predict(method, net.eval(), features).values():
        torch.testing.assert_close(p.sum(1), torch.ones(120))


@pytest.mark.parametrize("init", ["prototypes", "kmeans"])
def test_heads_begin_from_some_of_very_many_items(init: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coterie.methods.cdc.STARTED_ON", 100)
    features, method = mixture(120)[0], CDC(hidden=12, init=init)
    net, twin = (net_of(method, width=32, k=4) for _ in range(2))
    twin.load_state_dict(net.state_dict())
    method.start(net, lambda most=None, **_: features[:most], 4, seeded())
    method.start(twin, lambda **_: features[:100], 4, seeded())
    torch.testing.assert_close(net.state_dict(), twin.state_dict(), rtol=0, atol=0)


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
    return batch_of_views(views, part_size=method.part_size, generator=seeded())


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
    marked = set(confident_images(weak).nonzero().flatten().tolist())
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


# What may stand in the place of Eq. 4 and Eq. 1


@pytest.mark.parametrize(
    ("values", "strategy"),
    [
        ({}, Quota),
        ({"threshold": 0.7}, Fixed),
        ({"selection": "fixed"}, Fixed),
        ({"selection": "flexmatch", "threshold": 0.7}, FlexMatch),
        ({"selection": "freematch"}, FreeMatch),
        ({"selection": "gsf"}, GradientFilter),
        ({"selection": "ppf"}, ProximityFilter),
    ],
)
def test_the_settings_say_which_strategy_selects(values: dict[str, Any], strategy: type[nn.Module]) -> None:
    net = net_of(method_with(**values))
    assert type(net.selection) is strategy
    if "threshold" in values:
        assert net.selection.threshold == 0.7


def test_a_fixed_threshold_selects_all_above_it() -> None:
    method = method_with(threshold=0.4)
    net, twin, batch = net_of(method), net_of(method), a_batch(method)
    with torch.no_grad():
        twin.cluster(twin.backbone(batch.clean))
        weak = twin.calibrate(twin.backbone(batch.weak)).softmax(1)
    list(method.step(net, batch))
    share = (weak.amax(1) > 0.4).float().mean()
    assert 0 < share < 1
    torch.testing.assert_close(batch.logged["selected"], share)
    assert int(batch.logged["groups_taught"]) == len(set(weak.argmax(1)[weak.amax(1) > 0.4].tolist()))


@pytest.mark.parametrize("layout", ["dual", "single"])
def test_flexmatch_remembers_rows_of_the_source_as_the_judging_head_sees_them(layout: str) -> None:
    method = method_with(selection="flexmatch", threshold=0.4, layout=layout, init="random")
    net, twin, batch = net_of(method), net_of(method), a_batch(method)
    features, _ = mixture(n=200, d=16)
    method.start(net, lambda **_: features, K, seeded())
    method.start(twin, lambda **_: features, K, seeded())
    batch.index = torch.randperm(200, generator=seeded(7))[:SIZE]
    with torch.no_grad():
        twin.cluster(twin.backbone(batch.clean))
        judge = twin.calibrate if layout == "dual" else twin.cluster
        weak = judge(twin.backbone(batch.weak)).softmax(1)
    list(method.step(net, batch))
    sure = weak.amax(1) >= 0.4
    assert 0 < int(sure.sum()) < SIZE
    expected = torch.full((200,), -1, dtype=torch.int32)
    expected[batch.index[sure]] = weak.argmax(1)[sure].int()
    assert torch.equal(net.selection.remembered, expected)
    assert int(net.selection.remembered.ne(-1).sum()) == int(sure.sum())


def test_no_strategy_has_anything_that_a_gradient_could_reach() -> None:
    for selection in get_args(get_type_hints(CDC)["selection"]):
        net = net_of(method_with(selection=selection))
        assert list(net.selection.parameters()) == []


@pytest.mark.parametrize("selection", ["flexmatch", "freematch", "gsf", "ppf"])
def test_a_run_that_was_stopped_goes_on_with_what_its_strategy_remembers(selection: str, tmp_path: Path) -> None:
    vectors = torch.randn(120, 8, generator=seeded())
    small = {"batch_size": 40, "sub_batch": 20, "cells": 8, "hidden": 12, "epochs": 2, "selection": selection}
    overrides = {f"cdc.{name}": value for name, value in small.items()}
    chosen = RunSettings(n_clusters=3, overrides=overrides, checkpoint_seconds=0.0)
    whole = run(vectors, chosen)

    def stop(record: EpochRecord, net: Net) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(vectors, chosen, tmp_path / "run", watch=Watch(after_epoch=[stop]))
    resumed = run(vectors, chosen, tmp_path / "run", resume=True)
    assert [r.epoch for r in resumed.history.records] == [1, 2]
    assert torch.equal(resumed.assignments.probabilities, whole.assignments.probabilities)
    state = resumed.model.net.state_dict()
    for key, value in whole.model.net.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert any(key.startswith("selection.") for key in state)
    # What it remembers is no part of the model that predicts.
    again = load_model(tmp_path / "run")
    assert not any(key.startswith("selection.") for key in again.net.state_dict())


@pytest.mark.parametrize(
    ("values", "loss"),
    [
        ({"calibration_loss": "smoothing"}, lambda z, y: F.cross_entropy(z, y, label_smoothing=0.05)),
        (
            {"calibration_loss": "smoothing", "calibration_strength": 0.3},
            lambda z, y: F.cross_entropy(z, y, label_smoothing=0.3),
        ),
        ({"calibration_loss": "focal", "calibration_strength": 0.0}, F.cross_entropy),
        ({"calibration_loss": "l1"}, lambda z, y: F.cross_entropy(z, y) + 0.01 * z.abs().sum(1).mean()),
    ],
    ids=["smoothing", "smoothing 0.3", "focal 0", "l1"],
)
def test_a_comparison_loss_takes_the_clustering_heads_own_labels(values: dict[str, Any], loss: Any) -> None:
    method = method_with(sub_batch=SIZE, **values)
    net, twin, batch = net_of(method), net_of(method), a_batch(method)
    with torch.no_grad():
        z = twin.backbone(batch.clean)
        label = twin.cluster(z).argmax(1)
        logits = twin.calibrate(z)
    (found,) = method.step(net, batch)
    torch.testing.assert_close(found["calibrate"], loss(logits, label))
    assert "target_confidence" not in batch.logged
    found["calibrate"].backward()
    assert set(gradients(net)) == {"calibrate"}


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
        {"selection": "flexmatch"},
        {"selection": "flexmatch", "layout": "single"},
        {"selection": "freematch"},
        {"selection": "freematch", "layout": "single"},
        {"selection": "gsf", "joins_above": 0.3},
        {"selection": "ppf", "joins_above": 0.3},
        {"calibration_loss": "smoothing"},
        {"calibration_loss": "focal"},
        {"calibration_loss": "l1"},
        {"cells": 1},
        {"cell_norm": "none", "restarts": 2},
        {"entropy_weight": 0.0},
    ],
    ids=str,
)
def test_every_ablation_runs(values: dict[str, Any], digits: Source) -> None:
    small = {"batch_size": SIZE, "sub_batch": SIZE // 2, "cells": 8, "hidden": 12, "epochs": 1, "init": "random"}
    overrides = {f"cdc.{name}": value for name, value in {**small, **values}.items()} | {"moco.epochs": 0}
    settings = RunSettings(n_clusters=K, backbone="small-4", family="glyph", overrides=overrides, calibrate=False)
    done = run(digits.items.array, settings)
    heads = {"clu"} if str(values.get("layout")).startswith("single") else {"cal", "clu"}
    assert set(done.assignments.heads) == heads
    for p in done.assignments.heads.values():
        torch.testing.assert_close(p.sum(1), torch.ones(len(p)))
        assert bool(torch.isfinite(p).all())


@pytest.mark.parametrize(
    ("values", "message"),
    [({"cells": 0}, "cells"), ({"cells": 2000}, "cells"), ({"hidden": 3}, "hidden"), ({"hidden": 4000}, "hidden")],
)
def test_settings_that_cannot_work_are_named(values: dict[str, int], message: str) -> None:
    facts = Facts(n=2000, k=5, kind="embeddings", device="cpu", dim=9)
    CDC().check(facts)
    with pytest.raises(InputError, match=rf"cdc\.{message} is {values[message]}"):
        coerce(CDC, values, "cdc").check(facts)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 1.5}, r"cdc\.threshold is 1\.5: it must be at most 1"),
        ({"selection": "gsf", "joins_above": -0.1}, r"cdc\.joins_above is -0\.1"),
        ({"selection": "freematch", "threshold_decay": 2.0}, r"cdc\.threshold_decay is 2\.0"),
        ({"selection": "ppf", "threshold": 0.9}, r"cdc\.threshold does not go with cdc\.selection=ppf"),
        ({"layout": "single", "calibration_loss": "focal"}, r"cdc\.layout=single has none"),
        ({"calibration_strength": 0.1}, r"cdc\.calibration_strength needs cdc\.calibration_loss"),
        ({"calibration_loss": "l1", "calibration_strength": -1.0}, r"cdc\.calibration_strength is -1\.0"),
        ({"calibration_loss": "smoothing", "calibration_strength": 1.1}, "smoothing takes at most 1"),
    ],
)
def test_strategies_and_losses_that_cannot_work_are_named(values: dict[str, Any], message: str) -> None:
    facts = Facts(n=2000, k=5, kind="embeddings", device="cpu", dim=9)
    with pytest.raises(InputError, match=message):
        coerce(CDC, values, "cdc").check(facts)


@pytest.mark.parametrize("first", ["moco", "cdc"])
def test_cdc_goes_on_from_a_run_of_any_method(first: str, digits: Source, tmp_path: Path) -> None:
    """As a self-labelling stage: the other run's backbone, heads of its own that begin from its features."""
    images = digits.items.array  # type: ignore[attr-defined]
    small = {"moco.epochs": 1, "moco.batch_size": 32, "moco.queue": 32}
    for_cdc = {"batch_size": SIZE, "sub_batch": SIZE // 2, "cells": 8, "hidden": 12, "epochs": 1, "init": "kmeans"}
    stage = {f"cdc.{name}": value for name, value in for_cdc.items()}
    common = RunSettings(n_clusters=K, backbone="small-4", family="glyph")
    overrides = small if first == "moco" else small | stage
    before = run(images, replace(common, method=first, overrides=overrides), tmp_path / "first")
    onwards = replace(common, init=str(tmp_path / "first"), overrides=stage | {"cdc.epochs": 0})
    begun = run(images, onwards)
    old, new = (one.model.net.backbone.state_dict() for one in (before, begun))
    assert all(torch.equal(value, new[key]) for key, value in old.items())
    z = extract_features(begun.model.net, before.source.items)
    rows, generator = standardise_rows(z), generator_of(0, "cdc", "start")
    prototypes = kmeans(rows, 12, generator=generator).centres
    groups = kmeans(rows, K, generator=generator, restarts=10).labels
    twin = mlp_head(z.shape[1], 12, K)
    begin_as_groups(twin, z, prototypes, groups)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(begun.model.net.cluster.state_dict()[name], value, msg=name)
    done = run(images, replace(onwards, overrides=stage), tmp_path / "second")
    assert [record.stage for record in done.history.records] == ["cdc"]
    assert set(done.assignments.heads) == {"cal", "clu"}


def test_of_many_items_the_hidden_layer_sees_a_part_and_the_groups_are_still_all_of_them() -> None:
    labels = torch.arange(400) % 3
    vectors = 8 * torch.eye(3, 70)[labels] + torch.randn(400, 70, generator=seeded(1))
    begun = run(vectors, RunSettings(n_clusters=3, overrides={"cdc.hidden": 4, "cdc.epochs": 0})).assignments
    assert agreement(begun.probabilities.argmax(1), labels) == 1


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
