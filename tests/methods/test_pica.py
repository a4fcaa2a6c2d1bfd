"""PICA: its views and passes, one step, weights at the start, and a toy of textures (spec, section 14)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coterie.catalogue import practical_settings
from coterie.contract import Facts, passes_of, views_of
from coterie.data import open_source
from coterie.evaluation import accuracy
from coterie.methods.pica import PICA, initialise
from coterie.networks.backbones import build_backbone
from coterie.networks.features import extract_features
from coterie.networks.net import Net
from coterie.objectives.partition import imbalance, mean_off_diagonal, partition_loss, partition_uncertainty
from coterie.pipeline import run
from coterie.prediction.model import load_model
from coterie.prediction.results import read_result
from coterie.training.distributed import SharedBatchNorm
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Batch, InputError, ItemSpec
from coterie.views import Draw, ViewSettings, make_views
from helpers.batches import batch_of_views
from helpers.draws import seeded
from helpers.refused import refused_in_plan

SIZE, K, SIDE = 24, 4, 8
SPEC = ItemSpec("images", channels=1, height=SIDE, width=SIDE)
FACTS = Facts(n=1000, k=K, kind="images", device="cpu", side=SIDE)


def method_with(**values: Any) -> PICA:
    return PICA(**{"batch_size": SIZE, "over": 6, "copies": 2, **values})


def net_of(method: PICA) -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone("sobel+small-4", SPEC), SPEC, torch.zeros(1), torch.ones(1), half=False)
    net.add(method.heads(net, K))
    return net.train()


def a_batch(method: PICA, turn: str = "primary") -> Batch:
    views = {name: torch.randn(SIZE, 1, SIDE, SIDE, generator=seeded(i)) for i, name in enumerate(method.views())}
    return batch_of_views(views, generator=seeded(), pass_name=turn)


# Views and passes


def test_there_are_as_many_copies_as_asked_for() -> None:
    assert {name: view.recipe for name, view in views_of(PICA()).items()} == dict(PICA.card.views)
    assert [view.recipe for view in views_of(method_with(copies=2)).values()] == ["original", "perturbed", "perturbed"]
    assert [view.recipe for view in views_of(method_with(perturb="second-draw")).values()] == [
        "original",
        "original",
        "original",
    ]
    assert list(views_of(method_with(perturb="off"))) == ["original"]


@pytest.mark.parametrize(("family", "channels"), [("photo", 3), ("photo", 1), ("glyph", 1)])
def test_copies_are_draws_of_their_own_of_the_same_images(family: Any, channels: int) -> None:
    raw = torch.randint(0, 256, (6, channels, 16, 16), generator=seeded(), dtype=torch.uint8)
    names = list(PICA().views().values())
    mean, std = torch.full((channels,), 0.5), torch.full((channels,), 0.25)
    made = make_views(raw, names, Draw(seeded(1), 6), ViewSettings(), family, mean, std)
    for i, one in enumerate(made):
        assert one.shape == raw.shape
        for other in made[i + 1 :]:
            assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_over_clustering_head_comes_first_and_sees_extra_images() -> None:
    over, primary = passes_of(PICA())
    assert (over.name, over.extra, over.keep_last) == ("over", True, True)
    assert (primary.name, primary.extra, primary.keep_last) == ("primary", False, True)
    assert [turn.name for turn in passes_of(PICA(over_clustering=False))] == ["primary"]


def test_heads_are_single_linear_layers_of_the_stated_widths() -> None:
    method = PICA(over=70)
    heads = method.heads(net_of(method_with()), 10)
    assert list(heads) == ["over", "primary"]
    width = 32
    assert [sum(p.numel() for p in head.parameters()) for head in heads.values()] == [
        (width + 1) * 70,
        (width + 1) * 10,
    ]
    assert list(PICA(over_clustering=False).heads(net_of(method_with()), 10)) == ["primary"]


# One step


@pytest.mark.parametrize("turn", ["primary", "over"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_losses_are_the_equations_of_the_paper(turn: str, symmetric: bool) -> None:
    """From passes written out again: originals and copies apart, each with batch statistics of its own."""
    method = method_with(entropy_weight=1.5, symmetric=symmetric)
    net, twin, batch = net_of(method), net_of(method), a_batch(method, turn)
    (losses,) = list(method.step(net, batch))
    head = getattr(twin, turn)
    x = head(twin.backbone(batch.original)).softmax(1)
    y = head(twin.backbone(torch.cat([batch.copy1, batch.copy2]))).softmax(1)
    m = partition_uncertainty(torch.cat([x, x]), y)
    certainty = partition_loss(m)
    if symmetric:
        certainty = (certainty + partition_loss(partition_uncertainty(y, torch.cat([x, x])))) / 2
    prefix = "" if turn == "primary" else "over_"
    assert set(losses) == {f"{prefix}partition", f"{prefix}balance"}
    torch.testing.assert_close(losses[f"{prefix}partition"], certainty)
    torch.testing.assert_close(losses[f"{prefix}balance"], 1.5 * imbalance(x))
    torch.testing.assert_close(batch.logged[f"{prefix}pui"], mean_off_diagonal(m.detach()))
    torch.testing.assert_close(batch.logged[f"{prefix}confidence"], x.detach().amax(1).mean())
    for name, value in net.state_dict().items():  # running statistics: two updates
        torch.testing.assert_close(value.float(), twin.state_dict()[name].float(), msg=name)


def test_the_loss_reaches_the_backbone_through_both_views_and_one_head_only() -> None:
    method = method_with()
    for turn, idle in (("primary", "over"), ("over", "primary")):
        net = net_of(method)
        (losses,) = list(method.step(net, a_batch(method, turn)))
        sum(losses.values()).backward()
        assert all(p.grad is None for p in getattr(net, idle).parameters())
        assert all(p.grad is not None for p in getattr(net, turn).parameters())
        assert all(p.grad is not None for p in net.backbone.parameters())
    for view in ("original", "copy1", "copy2"):
        batch = a_batch(method)
        batch.views[view].requires_grad_()
        (losses,) = list(method.step(net_of(method), batch))
        losses["partition"].backward()
        gradient = batch.views[view].grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_without_perturbation_an_image_is_its_own_copy() -> None:
    method = method_with(perturb="off")
    net, batch = net_of(method), a_batch(method)
    (losses,) = list(method.step(net, batch))
    x = net_of(method).primary(net_of(method).backbone(batch.original)).softmax(1)
    m = partition_uncertainty(x, x)
    torch.testing.assert_close(m.diagonal(), torch.ones(K))
    torch.testing.assert_close(losses["partition"], partition_loss(m))
    assert int(net.backbone.trunk.trunk.stem[1].num_batches_tracked) == 1


def test_sizes_and_confidences_are_of_the_primary_head() -> None:
    method = method_with()
    primary, over = a_batch(method), a_batch(method, "over")
    for batch in (primary, over):
        list(method.step(net_of(method), batch))
    assert over.counts is None
    assert over.histogram is None
    assert primary.counts is not None
    assert primary.histogram is not None
    assert primary.counts.shape == (K,)
    assert int(primary.counts.sum()) == int(primary.histogram.sum()) == SIZE
    x = net_of(method).primary(net_of(method).backbone(primary.original)).softmax(1).detach()
    expected, _ = np.histogram(x.amax(1).numpy(), bins=50, range=(0, 1))
    assert primary.histogram.tolist() == expected.tolist()
    assert 1 <= float(over.logged["over_groups_in_batch"]) <= 6


def test_a_full_confidence_lies_in_the_last_bin() -> None:
    batch = a_batch(method_with())
    batch.count_confidences(torch.tensor([1.0, 0.0, 0.98, 0.979, 0.5]))
    assert batch.histogram is not None
    assert [(place, count) for place, count in enumerate(batch.histogram.tolist()) if count] == [
        (0, 1), (25, 1), (48, 1), (49, 2),
    ]  # fmt: skip


def test_adam_leaves_the_idle_head_where_it_is() -> None:
    method = method_with(learning_rate=0.1)
    net = net_of(method)
    optimiser = method.optimiser(net)
    for turn in ("primary", "primary", "over"):
        before = net.primary.weight.detach().clone()
        (losses,) = list(method.step(net, a_batch(method, turn)))
        optimiser.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        optimiser.step()
        assert torch.equal(net.primary.weight, before) == (turn == "over")


# Weights at the start


def weights(net: nn.Module) -> list[tuple[Tensor, str]]:
    return [
        (m.weight, "convolution" if isinstance(m, nn.Conv2d) else "linear")
        for m in net.modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
    ]


def deviation(weight: Tensor, kind: str, scheme: str) -> float:
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    if scheme == "xavier":
        return math.sqrt(2 / (fan_in + fan_out))
    return math.sqrt(2 / fan_out) if scheme == "kaiming" and kind == "convolution" else 0.01


@pytest.mark.parametrize("scheme", ["gaussian", "xavier", "kaiming"])
def test_weights_begin_by_the_scheme(scheme: Any) -> None:
    method = method_with(init=scheme)
    net = Net(build_backbone("sobel+small-16", SPEC), SPEC, torch.zeros(1), torch.ones(1), half=False)
    net.add(method.heads(net, K))
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight)
    method.start(net, lambda: torch.empty(0), K, seeded())
    for weight, kind in weights(net):
        if weight.numel() > 1000:
            std, mean = float(weight.detach().std()), float(weight.detach().mean())
            assert std == pytest.approx(deviation(weight, kind, scheme), rel=0.1)
            assert abs(mean) < 0.1 * std
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert bool((m.weight == 1).all() & (m.bias == 0).all())
        elif isinstance(m, nn.Linear):
            assert not bool(m.bias.any())


def test_the_default_keeps_the_weights_that_the_net_was_built_with() -> None:
    net, method = net_of(method_with()), method_with()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    method.start(net, lambda: torch.empty(0), K, seeded())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_scales_of_normalisations_can_begin_as_in_old_pytorch_in_several_processes_too() -> None:
    method = method_with(bn_gamma="uniform")
    net = net_of(method)
    shared = SharedBatchNorm(net.backbone.trunk.trunk.stem[1])
    net.backbone.trunk.trunk.stem[1] = shared
    method.start(net, lambda: torch.empty(0), K, seeded())
    scales = torch.cat([m.weight for m in net.modules() if isinstance(m, nn.BatchNorm2d | SharedBatchNorm)])
    assert scales.min() >= 0
    assert scales.max() < 1
    assert 0.3 < scales.mean() < 0.7
    assert shared.weight.max() < 1


def test_the_same_generator_gives_the_same_weights() -> None:
    nets = [net_of(method_with()) for _ in range(2)]
    for net in nets:
        initialise(net, "xavier", seeded(3))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(weights(nets[0]), weights(nets[1]), strict=True))


# Settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"copies": 0}, r"pica\.copies is 0"),
        ({"over": 1}, r"pica\.over is 1"),
        ({"batch_size": 3}, r"pica\.batch_size is 3: with 4 groups"),
        ({"beta1": 1.0}, r"pica\.beta1 is 1\.0: it must be below 1"),
        ({"learning_rate": -1.0}, r"pica\.learning_rate is -1\.0"),
        ({"perturb": "maybe"}, r"pica\.perturb is 'maybe'"),
        ({"init": "orthogonal"}, r"pica\.init is 'orthogonal'"),
    ],
)
def test_a_wrong_setting_is_named_before_any_training(given: dict[str, Any], message: str) -> None:
    refused_in_plan("pica", given, FACTS, message)


def test_embeddings_are_refused() -> None:
    with pytest.raises(InputError, match="'pica' takes images, but the source holds embeddings"):
        run(np.random.default_rng(0).normal(size=(50, 20)), RunSettings(n_clusters=3, method="pica"))


def test_it_needs_no_stage_before_it() -> None:
    assert [type(stage) for stage in make_plan(RunSettings(method="pica"), FACTS, "photos").stages] == [PICA]


def test_the_published_rows() -> None:
    def plan(row: str) -> Any:
        return make_plan(RunSettings(n_clusters=10, method="pica", preset=f"paper:{row}"), FACTS, "photos")

    assert plan("cifar10").stages == [PICA()]
    assert plan("cifar10").views.enlarge == 1.25
    assert plan("stl10").views.enlarge * 96 == pytest.approx(112)
    assert plan("tiny-imagenet").stages == [PICA(over=700)]


def test_auto_is_the_papers_net_as_published_and_on_a_card_and_a_small_one_on_a_processor() -> None:
    small, large, backbone = ItemSpec("images", 3, 32, 32), ItemSpec("images", 3, 96, 96), PICA.card.backbone
    assert backbone is not None
    assert backbone(small, "cpu", True) == backbone(small, "cuda:0", False) == "sobel+pica-resnet34"
    assert (backbone(small, "cpu", False), backbone(large, "cpu", False)) == ("sobel+small-16", "sobel+small-32")


@pytest.mark.parametrize(("n", "k"), [(70_000, 10), (1797, 10), (100, 3)])
def test_the_practical_preset_asks_for_no_more_over_clusters_than_a_batch_can_fill(n: int, k: int) -> None:
    chosen = practical_settings("pica", Facts(n, k, "images", "cpu", side=28))
    assert k < chosen["over"] <= max(2 * k, chosen["batch_size"] // 2)


# Whole runs

RUN = {"pica.epochs": 3, "pica.batch_size": 24, "pica.over": 6, "pica.copies": 1, "pica.learning_rate": 3e-3}


@pytest.mark.parametrize(
    "changed",
    [
        *({"perturb": value} for value in get_args(get_type_hints(PICA)["perturb"])),
        *({"init": value} for value in get_args(get_type_hints(PICA)["init"])),
        {"over_clustering": False},
        {"entropy_weight": 0.5},  # with 0 so short a run may collapse, as the paper's Table 2 says
        {"symmetric": True, "bn_gamma": "uniform", "copies": 2},
    ],
)
def test_every_variant_runs(changed: dict[str, Any], digits: Any) -> None:
    overrides = {**RUN, **{f"pica.{name}": value for name, value in changed.items()}}
    settings = RunSettings(
        n_clusters=K, method="pica", backbone="sobel+small-4", device="cpu", calibrate=False, overrides=overrides
    )
    done = run(digits.items.array, settings)
    assert np.isfinite([*done.history.records[-1].losses.values(), *done.history.records[-1].health.values()]).all()
    assert "over" not in done.model.net.state_dict() or changed.get("over_clustering", True)
    torch.testing.assert_close(done.assignments.probabilities.sum(1), torch.ones(96))


def textures(n: int, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Vertical stripes, horizontal stripes, checkerboards and rings: random phase, frequency, contrast, tint, noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    images, labels = np.empty((n, side, side, 3)), np.arange(n) % 4
    for i, label in enumerate(labels):
        turns, first, second = 2 * np.pi * rng.uniform(2.5, 4), *rng.uniform(0, 2 * np.pi, 2)
        distance = np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.7))
        pattern = [
            np.sin(turns * x + first),
            np.sin(turns * y + first),
            np.sin(turns * x + first) * np.sin(turns * y + second),
            np.sin(1.5 * turns * distance + first),
        ][label]
        grey = 0.5 + rng.uniform(0.2, 0.45) * pattern
        images[i] = grey[..., None] * rng.uniform(0.7, 1, 3) + rng.normal(scale=0.1, size=(side, side, 3))
    return (255 * images.clip(0, 1)).astype(np.uint8), labels


@pytest.mark.slow
def test_textures_are_told_apart() -> None:
    images, labels = textures(150)
    overrides = {
        "pica.epochs": 12,
        "pica.batch_size": 50,
        "pica.over": 12,
        "pica.copies": 1,
        "pica.learning_rate": 2e-3,
    }
    settings = RunSettings(
        n_clusters=4, method="pica", backbone="sobel+small-8", device="cpu", calibrate=False, overrides=overrides
    )
    done = run(images, settings)
    assert accuracy(labels, done.assignments.probabilities.argmax(1).numpy()) > 0.9
    assert done.history.records[-1].health["groups_used"] == 4
    assert open_source(images).family == "photo"  # with flips and crops


@pytest.mark.parametrize(("family", "factor"), [("photo", 1.25), ("glyph", 1.0)])
def test_photographs_are_judged_by_the_middle_that_training_sees(
    family: Any, factor: float, digits: Any, tmp_path: Path
) -> None:
    """As the authors do; a saved model looks at new images in the same way, and a method that goes on does not."""
    images, out = textures(96)[0] if family == "photo" else digits.items.array, tmp_path / "run"
    own = {"family": family, "device": "cpu", "calibrate": False}
    run(images, RunSettings(4, "pica", backbone="sobel+small-4", overrides={**RUN, "pica.epochs": 4}, **own), out)
    model = load_model(out)
    assert model.net.enlarge == factor
    answer = read_result(out / "result.parquet").heads["primary"]
    features = extract_features(model.net, open_source(images, like=model.spec).items)
    np.testing.assert_allclose(model.heads_of(features)["primary"].detach().numpy(), answer, atol=1e-6)
    run(images, RunSettings(4, "cdc", init=str(out), overrides={"cdc.epochs": 0}, **own), tmp_path / "cdc")
    assert load_model(tmp_path / "cdc").net.enlarge == 1.0
