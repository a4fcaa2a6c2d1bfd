"""The calibration head: its losses, its settings, and stops in the middle of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor

from coterie.calibration import Calibration, PostHoc, calibration_net, practical_calibration
from coterie.contract import Facts, Method
from coterie.networks.net import Net
from coterie.objectives.mini_clusters import cell_means
from coterie.pipeline import RunResult, run
from coterie.records import read_record
from coterie.running.prepared import Watch
from coterie.training.plan import RunSettings, calibration_for
from coterie.types import Batch, InputError, OneProcess, Source
from helpers.draws import seeded
from helpers.stopping import StopAfter

LOSSES = get_args(get_type_hints(Calibration)["loss"])
N, D, K = 40, 6, 3
SETTINGS = Calibration(batch_size=N, sub_batch=N // 2, cells=7, hidden=9, entropy_weight=0.7)


def said() -> Tensor:
    return (2 * torch.randn(N, K, generator=seeded(1))).softmax(1)


def net_of(method: PostHoc) -> Net:
    return calibration_net(method, torch.zeros(D), torch.ones(D), 0)


def a_batch(progress: float = 0.5) -> Batch:
    order = torch.randperm(N, generator=seeded(2))
    x = torch.rand(N, D, generator=seeded(3))[order]
    here: dict[str, Any] = {"part_size": N // 2, "progress": progress, "generator": seeded(4), "share": OneProcess()}
    return Batch(order, {"clean": x}, **here)


def test_it_keeps_the_contract_of_a_method() -> None:
    assert isinstance(PostHoc(SETTINGS, said()), Method)


def test_the_region_losses_are_equations_1_and_2_with_the_targets_of_the_items_in_the_batch() -> None:
    method, batch = PostHoc(SETTINGS, said()), a_batch()
    net, twin = net_of(method), net_of(method)
    targets = cell_means(batch.clean, said()[batch.index], 7, seeded(4), "l1")
    steps = list(method.step(net, batch))
    assert len(steps) == 2
    for rows, losses in zip((range(20), range(20, 40)), steps, strict=True):
        p = twin.post_hoc(batch.clean[list(rows)]).softmax(1)
        eq1 = -sum((targets[i] * p[i - rows.start].log()).sum() for i in rows) / len(rows)
        eq2 = (p.mean(0) * p.mean(0).log()).sum()
        torch.testing.assert_close(losses["calibrate"], eq1)
        torch.testing.assert_close(losses["entropy"], 0.7 * eq2)
    torch.testing.assert_close(batch.logged["target_confidence"], targets.amax(1).mean())


def test_the_head_begins_knowing_where_the_features_lie() -> None:
    """As far from 0 and as close together as those of some auto-encoders; one of them stands still."""
    method = PostHoc(SETTINGS, said())
    net, z = net_of(method), 50 + 0.02 * torch.randn(N, D, generator=seeded(6))
    z[:, 2] = -3.0
    method.start(net, lambda most: z, K, seeded())
    rows = net.post_hoc[0](z)
    kept = [0, 1, 3, 4, 5]
    torch.testing.assert_close(rows[:, kept].mean(0), torch.zeros(5), atol=1e-2, rtol=0)
    torch.testing.assert_close(rows[:, kept].std(0), torch.ones(5), atol=1e-2, rtol=0)
    assert rows[:, 2].abs().max() < 1e-3
    trained = net.post_hoc.train()(z)
    net2 = net_of(method)
    method.start(net2, lambda most: z[:most], K, seeded())
    torch.testing.assert_close(net2.post_hoc.eval()(z), trained, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_the_head_and_nothing_else(loss: Any) -> None:
    method = PostHoc(replace(SETTINGS, loss=loss), said())
    net, batch = net_of(method), a_batch()
    for losses in method.step(net, batch):
        torch.stack(list(losses.values())).sum().backward()
    trained = {id(p) for group in method.optimiser(net).param_groups for p in group["params"]}
    assert trained == {id(p) for p in net.parameters()}
    assert all(p.grad is not None and bool(p.grad.any()) for name, p in net.named_parameters() if "1.bias" not in name)
    assert not batch.clean.requires_grad


def test_hard_losses_know_the_label_only_and_the_region_loss_the_probabilities() -> None:
    sure = torch.nn.functional.one_hot(said().argmax(1), K).float()

    def first(loss: Any, given: Tensor) -> float:
        method = PostHoc(replace(SETTINGS, loss=loss), given)
        return next(iter(method.step(net_of(method), a_batch())))["calibrate"].item()

    for loss in LOSSES:
        assert (first(loss, said()) == first(loss, sure)) == (loss != "region"), loss


def test_focal_begins_as_cross_entropy() -> None:
    method = PostHoc(replace(SETTINGS, loss="focal"), said())

    def at(progress: float) -> float:
        return next(iter(method.step(net_of(method), a_batch(progress))))["calibrate"].item()

    assert at(0.04) > at(0.05) == at(0.9)


@pytest.mark.parametrize("k", [0, 2, 10, 200])
@pytest.mark.parametrize("n", [2, 3, 10, 41, 150, 1797, 10_000, 1_000_000])
def test_the_practical_settings_work_on_data_of_any_size(n: int, k: int) -> None:
    for kind in ("images", "embeddings"):
        facts = Facts(n, k, kind, "cpu")  # type: ignore[arg-type]
        settings = calibration_for(facts, {})
        assert practical_calibration(facts).items() <= vars(settings).items()
        assert 2 <= settings.sub_batch <= settings.batch_size <= n
        assert settings.cells <= settings.batch_size
        assert 1 <= settings.epochs <= 100
        steps = n // settings.batch_size * -(-settings.batch_size // settings.sub_batch)
        assert 280 <= settings.epochs * steps <= 4_500 or settings.epochs in (1, 100)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cels": 3}, "did you mean calibrate.cells"),
        ({"cells": 0}, "calibrate.cells is 0: it must be at least 1"),
        ({"cells": 101}, "between 1 and the batch size, 100"),
        ({"batch_size": 101}, "between 2 and the number of items, 100"),
        ({"batch_size": 1}, "at least 2"),
        ({"sub_batch": 1}, "at least 2"),
        ({"epochs": -1}, "at least 0"),
        ({"restarts": 0}, "at least 1"),
        ({"hidden": 0}, "at least 1"),
        ({"head_rate": -0.1}, "at least 0"),
        ({"entropy_weight": float("nan")}, "be finite"),
        ({"loss": "temperature"}, "calibrate.loss is 'temperature'"),
    ],
)
def test_settings_that_cannot_work_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        calibration_for(Facts(100, 5, "embeddings", "cpu"), wrong)


# In a run

RUN = RunSettings(
    n_clusters=4,
    backbone="small-4",
    family="glyph",
    device="cpu",
    calibrate=True,
    overrides={
        "moco.epochs": 1,
        "moco.batch_size": 48,
        "cdc.epochs": 1,
        "cdc.batch_size": 48,
        "cdc.cells": 6,
        "cdc.hidden": 12,
        "cdc.init": "random",
        "calibrate.epochs": 3,
        "calibrate.batch_size": 48,
    },
    checkpoint_seconds=0.0,
)


@pytest.fixture(scope="module")
def whole(digits: Source, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    out = tmp_path_factory.mktemp("run") / "run"
    return out, run(digits.items.array, RUN, out)  # type: ignore[attr-defined]


@pytest.mark.parametrize("after", [1, 4, 6])
def test_a_run_that_is_stopped_in_its_calibration_and_resumed_ends_the_same(
    after: int, digits: Source, whole: tuple[Path, RunResult], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(digits.items.array, RUN, tmp_path, watch=Watch(progress=StopAfter(after, "calibrate")))  # type: ignore[attr-defined]
    again = run(digits.items.array, RUN, tmp_path, resume=True)  # type: ignore[attr-defined]
    assert torch.equal(again.assignments.probabilities, whole[1].assignments.probabilities)
    assert [r.losses for r in again.history.records] == [r.losses for r in whole[1].history.records]
    assert [(r.stage, r.epoch) for r in again.history.records][-3:] == [("calibrate", epoch) for epoch in (1, 2, 3)]


def test_the_record_says_how_it_was_calibrated(whole: tuple[Path, RunResult]) -> None:
    record = read_record(whole[0])
    assert record["calibration"]["loss"] == "region"
    assert record["calibration"]["epochs"] == 3
    assert [stage["name"] for stage in record["stages"]] == ["moco", "cdc"]


def test_a_finished_run_is_calibrated_later_without_training_it_again(digits: Source, tmp_path: Path) -> None:
    plain = replace(RUN, calibrate=False, overrides={k: v for k, v in RUN.overrides.items() if "calibrate" not in k})
    before = run(digits.items.array, plain, tmp_path)  # type: ignore[attr-defined]
    after = run(digits.items.array, replace(plain, calibrate=True), tmp_path, resume=True)  # type: ignore[attr-defined]
    assert torch.equal(after.assignments.heads["raw"], before.assignments.probabilities)
    assert torch.equal(after.assignments.heads["clu"], before.assignments.heads["clu"])
    assert list(after.assignments.heads) == ["cal", "raw", "clu"]
    back = run(digits.items.array, plain, tmp_path, resume=True)  # type: ignore[attr-defined]
    assert torch.equal(back.assignments.probabilities, before.assignments.probabilities)


def test_settings_of_a_calibration_that_was_not_asked_for_are_refused(digits: Source) -> None:
    with pytest.raises(InputError, match="add --calibrate"):
        run(digits.items.array, replace(RUN, calibrate=False))  # type: ignore[attr-defined]
