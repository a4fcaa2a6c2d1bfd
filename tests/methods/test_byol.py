from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor, nn

from coterie.catalogue import practical_settings
from coterie.contract import Facts, views_of
from coterie.methods.byol import BYOL
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Family
from coterie.views import Draw, ViewSettings, make_views
from helpers.two_views import SIZE, Fixed, batch_at, net_of, slow_distances, touched, waves

METHOD = BYOL(batch_size=SIZE, projector_hidden=7, projector_out=5, predictor_hidden=6)


# The loss


def test_the_loss_is_the_sum_of_both_directions() -> None:
    expected = slow_distances(net_of(METHOD))
    steps = METHOD.step(net_of(METHOD), batch_at())
    assert next(steps)["prediction"].item() == pytest.approx(expected, rel=1e-4)
    assert next(steps, None) is None


def loss_of(first: Tensor, second: Tensor, target_first: Tensor, target_second: Tensor) -> Tensor:
    """The loss for predictions and targets of the two views."""
    net = net_of(METHOD)
    net.predict, net.teacher.project = Fixed(first, second), Fixed(target_first, target_second)
    return next(iter(METHOD.step(net, batch_at())))["prediction"]


def test_the_loss_and_its_gradient_are_those_of_the_code_that_cdc_was_compared_with() -> None:
    """`byol_loss_func`, in both directions as `BYOL.training_step` adds them, of ChengJianH/CDC at 75ac44b."""
    said = [waves(6, 5, start=start).requires_grad_() for start in (0, 1)]
    loss = loss_of(*said, waves(6, 5, start=2), waves(6, 5, start=3))
    (gradient,) = torch.autograd.grad(loss, said[0])
    assert loss.item() == pytest.approx(4.886478424072266, abs=1e-5)
    expected = [-0.020802609622478485, -0.016455523669719696, -0.004369139671325684]
    torch.testing.assert_close(gradient[0, :3], torch.tensor(expected), atol=1e-6, rtol=0)


@given(st.integers(0, 10_000), st.floats(0.01, 100))
@settings(deadline=None, max_examples=20)
def test_the_loss_lies_between_zero_and_eight_and_lengths_do_not_matter(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    p, q, y, z = torch.randn(4, SIZE, 5, generator=generator)
    loss = loss_of(p, q, y, z).item()
    assert 0 <= loss <= 8
    assert loss_of(scale * p, q, y / scale, z).item() == pytest.approx(loss, abs=1e-4)
    assert loss_of(p, q, scale * q, p).item() == pytest.approx(0, abs=1e-5)
    assert loss_of(p, q, -q, -p).item() == pytest.approx(8, abs=1e-5)


def test_no_gradient_reaches_the_teacher_and_everything_else_is_trained() -> None:
    net = net_of(METHOD)
    for losses in METHOD.step(net, batch_at()):
        losses["prediction"].backward()
    assert touched(net) == {"backbone", "project", "predict"}
    optimised = [id(p) for group in METHOD.optimiser(net).param_groups for p in group["params"]]
    trained = [id(p) for part in (net.backbone, net.project, net.predict) for p in part.parameters()]
    assert sorted(optimised) == sorted(trained)


def test_the_health_numbers_see_a_collapse() -> None:
    net = net_of(METHOD)
    batch = batch_at()
    for _ in METHOD.step(net, batch):
        pass
    assert 0.05 < float(batch.logged["embedding_std"]) < 1.2
    assert -1 <= float(batch.logged["agreement"]) < 0.999
    for last in (net.project[-1], net.teacher.project[-1], net.predict[-1]):
        nn.init.zeros_(last.weight)
        nn.init.ones_(last.bias)
    for _ in METHOD.step(net, batch):
        pass
    assert float(batch.logged["embedding_std"]) < 1e-3
    assert float(batch.logged["agreement"]) == pytest.approx(1, abs=1e-5)


# The teacher


@pytest.mark.parametrize(("progress", "keep"), [(0.0, 0.996), (0.5, 0.998), (1.0, 1.0)])
def test_the_teacher_follows_along_a_cosine_from_0996_to_1(progress: float, keep: float) -> None:
    net, batch = net_of(METHOD), batch_at(progress)
    with torch.no_grad():
        for p in (*net.backbone.parameters(), *net.project.parameters()):
            p.add_(1.0)
    before = [p.clone() for p in net.teacher.parameters()]
    for _ in METHOD.step(net, batch):
        assert all(map(torch.equal, before, net.teacher.parameters()))  # only after the optimiser's step
    online = [*net.backbone.parameters(), *net.project.parameters()]
    for old, student, own in zip(before, online, net.teacher.parameters(), strict=True):
        torch.testing.assert_close(own, keep * old + (1 - keep) * student)
    assert float(batch.logged["teacher_momentum"]) == pytest.approx(keep)


def test_with_a_momentum_of_one_the_targets_of_a_batch_stay() -> None:
    method, batch = replace(METHOD, momentum=1.0), batch_at()
    net = net_of(method)
    optimiser = method.optimiser(net)

    def targets() -> Tensor:
        teacher = net.teacher.eval()
        found = teacher.project(teacher.backbone(batch.one))
        net.teacher.train()
        return found

    # Its norms' running statistics are its batches' and do change, so they are set back.
    statistics = {name: value.clone() for name, value in net.teacher.state_dict().items() if "running" in name}
    before = targets()
    for losses in method.step(net, batch):
        optimiser.zero_grad()
        losses["prediction"].backward()
        optimiser.step()
    net.teacher.load_state_dict(statistics, strict=False)
    assert torch.equal(targets(), before)
    assert not torch.equal(net.backbone.trunk.linear.weight, net.teacher.backbone.trunk.linear.weight)


def test_the_predictor_has_no_teacher() -> None:
    assert {name for name, _ in net_of(METHOD).teacher.named_children()} == {"backbone", "project"}


# LARS and its rate


class Two(nn.Module):
    """A weight and a bias in the place of all that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(waves(3, 4, start=0.5)), nn.Parameter(waves(4, start=0.9))


def lars_of(method: BYOL) -> tuple[Two, torch.optim.Optimizer]:
    net, two = net_of(method), Two()
    net.backbone, net.project, net.predict = two, nn.Identity(), nn.Identity()
    return two, method.optimiser(net)


RATES = (3e-5, 0.25, 0.5)


def descend(method: BYOL, scale: float) -> Two:
    """Three steps with given gradients, at the rates of a warm-up."""
    two, optimiser = lars_of(method)
    for step, rate in enumerate(RATES):
        for group in optimiser.param_groups:
            group["lr"] = rate
        two.w.grad = scale * waves(3, 4, start=2.0 + step)
        two.b.grad = scale * waves(4, start=3.0 + step)
        optimiser.step()
    return two


@pytest.mark.parametrize(
    ("scale", "weight", "bias"),
    [
        (0.01, [0.4764052629470825, 0.9378843307495117], [0.7925300002098083, 1.0126646757125854]),  # the clip holds
        (10.0, [-5.225160598754883, -1.6857998371124268], [9.986467361450195, 14.09058952331543]),  # the ratio holds
    ],
)
def test_lars_steps_as_in_the_code_that_cdc_was_compared_with(
    scale: float, weight: list[float], bias: list[float]
) -> None:
    """`LARS` with clip_lr, eta 0.02 and exclude_bias_n_norm, of ChengJianH/CDC at 75ac44b."""
    two = descend(BYOL(), scale)
    torch.testing.assert_close(two.w[0, :2].detach(), torch.tensor(weight), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(two.b[:2].detach(), torch.tensor(bias), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.001, 1.0, 100.0])
@pytest.mark.parametrize("decay", [0.0, 1e-4, 0.1])
def test_lars_is_the_rule_written_out(scale: float, decay: float) -> None:
    method = BYOL(weight_decay=decay)
    w, b = waves(3, 4, start=0.5).double(), waves(4, start=0.9).double()
    buffers = [torch.zeros_like(w), torch.zeros_like(b)]
    for step, rate in enumerate(RATES):
        g, h = scale * waves(3, 4, start=2.0 + step).double(), scale * waves(4, start=3.0 + step).double()
        ratio = 0.02 * w.norm() / (g.norm() + decay * w.norm() + 1e-8)
        buffers[0] = 0.9 * buffers[0] + min(float(ratio) / rate, 1.0) * (g + decay * w)
        buffers[1] = 0.9 * buffers[1] + h  # neither decay nor ratio
        w, b = w - rate * buffers[0], b - rate * buffers[1]
    two = descend(method, scale)
    torch.testing.assert_close(two.w.detach().double(), w, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(two.b.detach().double(), b, atol=1e-4, rtol=1e-4)


@given(st.floats(1e-3, 1e3), st.floats(1e-5, 2.0))
@settings(deadline=None, max_examples=30)
def test_the_first_step_is_never_longer_than_the_plain_one_nor_than_the_share_of_its_weights(
    scale: float, rate: float
) -> None:
    method = BYOL()
    two, optimiser = lars_of(method)
    before = two.w.detach().clone()
    for group in optimiser.param_groups:
        group["lr"] = rate
    two.w.grad = scale * waves(3, 4, start=2.0)
    optimiser.step()
    moved = float((two.w.detach() - before).norm())
    plain = rate * float((two.w.grad + method.weight_decay * before).norm())
    assert moved <= plain * (1 + 1e-3) + 1e-6
    assert moved <= 0.02 * float(before.norm()) * (1 + 1e-3) + 1e-6


def test_biases_and_norms_have_no_decay() -> None:
    net = net_of(METHOD)
    weights, others = METHOD.optimiser(net).param_groups
    assert weights["weight_decay"] == 1e-4
    assert others["weight_decay"] == 0
    assert all(p.ndim > 1 for p in weights["params"])
    assert all(p.ndim == 1 for p in others["params"])
    assert weights["lr"] == others["lr"] == pytest.approx(0.5 * SIZE / 256)


def test_the_rate_begins_above_zero_warms_up_and_falls_along_a_cosine() -> None:
    method = BYOL()
    assert method.rate(0.0) * 0.5 == pytest.approx(3e-5)
    assert method.rate(0.05) == 1.0
    assert method.rate(0.05 + 0.95 / 2) == pytest.approx(0.5)
    steps = 234_000
    assert min(method.rate(step / steps) for step in range(0, steps, 13)) > 0
    assert method.rate((steps - 1) / steps) > 0  # LARS divides by it


# Its views


def raw(family: Family) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    if family == "vector":
        return torch.randn(24, 20, generator=generator)
    shape = (24, 3, 16, 16) if family == "photo" else (24, 1, 16, 16)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def made(
    method: BYOL,
    family: Family,
    *,
    rows: Tensor | None = None,
    common: ViewSettings | None = None,
    given: tuple[str, ...] = (),
) -> list[Tensor]:
    """Both views of 24 items (or of these rows), with pixels in [0, 1]."""
    items = raw(family)
    draw = Draw(torch.Generator().manual_seed(4), len(items), rows)
    items = items if rows is None else items[rows]
    still = torch.zeros(items.shape[1]), torch.ones(items.shape[1])
    return make_views(items, list(views_of(method).values()), draw, common or ViewSettings(), family, *still, given)


STILL = ViewSettings(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter_chance=0.0, greyscale=0.0)


def test_the_second_view_of_a_photograph_is_solarised_as_pillow_does() -> None:
    one, two = made(BYOL(blur=(0.0, 0.0), solarise=(0.0, 1.0)), "photo", common=STILL)
    pixels = raw("photo")
    torch.testing.assert_close(one, pixels / 255, atol=1e-4, rtol=0)
    expected = [
        np.asarray(ImageOps.solarize(Image.fromarray(image.permute(1, 2, 0).numpy()))).copy() for image in pixels
    ]
    wanted = torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2) / 255
    # A level at the threshold itself may fall to either side by the rounding of the crop.
    apart = (pixels != 128) & (pixels != 127)
    torch.testing.assert_close(two[apart], wanted[apart], atol=1e-4, rtol=0)


def test_chances_of_blur_and_solarisation_are_each_views_own() -> None:
    sharp = raw("photo") / 255
    one, two = made(BYOL(blur=(1.0, 0.0), solarise=(0.0, 0.0)), "photo", common=STILL)
    assert bool(((one - sharp).flatten(1).abs().amax(1) > 1e-3).sum() > 20)  # a few sigmas are next to nothing
    torch.testing.assert_close(two, sharp, atol=1e-4, rtol=0)
    assert [view.settings["blur"] for view in BYOL().views().values()] == [1.0, 0.1]
    assert all(view.settings["jitter"] == (0.4, 0.4, 0.2, 0.1) for view in BYOL().views().values())
    changed = [bool((view - sharp).abs().max() > 1e-3) for view in made(BYOL(), "photo", common=STILL, given=("blur",))]
    assert changed == [True, True]  # what the user sets under views. goes before both: a half is blurred


@pytest.mark.parametrize("family", ["glyph", "vector"])
def test_glyphs_and_vectors_are_never_solarised(family: Family) -> None:
    views = made(BYOL(solarise=(1.0, 1.0)), family)
    same = made(BYOL(solarise=(0.0, 0.0)), family)
    assert all(map(torch.equal, views, same))
    assert not torch.equal(*views)


@pytest.mark.parametrize("family", ["photo", "glyph", "vector"])
def test_views_do_not_depend_on_how_the_batch_is_shared(family: Family) -> None:
    whole = made(BYOL(solarise=(0.5, 0.5)), family)
    for rows in (torch.arange(12), torch.arange(12, 24)):
        for part, all_of_them in zip(made(BYOL(solarise=(0.5, 0.5)), family, rows=rows), whole, strict=True):
            torch.testing.assert_close(part, all_of_them[rows], rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("row", "side", "blur"),
    [("cifar10", 32, (0.0, 0.0)), ("stl10", 96, (1.0, 0.1)), ("tiny-imagenet", 64, (1.0, 0.1))],
)
def test_published_rows_have_no_blur_for_cifar_alone(row: str, side: int, blur: tuple[float, float]) -> None:
    facts = Facts(n=60_000, k=10, kind="images", device="cuda", side=side)
    plan = make_plan(RunSettings(n_clusters=10, method="byol", preset=f"paper:{row}"), facts, "photos")
    assert plan.method.blur == blur  # type: ignore[attr-defined]
    assert plan.method.solarise == (0.0, 0.2)  # type: ignore[attr-defined]


def test_the_practical_preset_blurs_larger_pictures_alone() -> None:
    small, large = (Facts(n=1000, k=5, kind="images", device="cpu", side=side) for side in (64, 65))
    assert practical_settings("byol", small)["blur"] == (0.0, 0.0)
    assert "blur" not in practical_settings("byol", large)
