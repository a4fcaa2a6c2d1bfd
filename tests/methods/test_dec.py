from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from coterie.contract import Facts, Method, predict
from coterie.methods.dec import DEC
from coterie.networks.net import Net
from coterie.objectives.assignment import soft_assign_t, target_distribution
from coterie.pipeline import RunResult, run
from coterie.running.prepared import Watch
from coterie.training.coerce import coerce
from coterie.training.history import read_history
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Batch, InputError, Source
from helpers import phases
from helpers.batches import batch_of_views
from helpers.phases import DATA, K, features_of
from helpers.stopping import StopAfter


def net_of(method: Method) -> Net:
    return phases.net_of(method, spread=30.0)


def batch_of(net: Net, rows: slice = slice(0, 16), number: int = 0) -> Batch:
    index = torch.arange(40)[rows]
    return batch_of_views(
        {"shifted": DATA[index], "clean": DATA[index]},
        index=index,
        part_size=16,
        number=number,
        features=features_of(net),
    )


def test_the_loss_is_the_divergence_from_the_target_of_all_items() -> None:
    method = DEC()
    net = net_of(method)
    (losses,) = list(method.step(net, batch_of(net)))
    everyone = soft_assign_t(net.backbone(DATA), net.clusters.centres)
    p = target_distribution(everyone)[:16].detach()
    q = everyone[:16].detach()
    expected = sum(float((p[i] * (p[i] / q[i]).log()).sum()) for i in range(16)) / 16
    assert losses["divergence"].item() == pytest.approx(expected, rel=1e-3)


def test_the_target_is_fixed_between_refreshes_and_new_at_one() -> None:
    method = DEC(refresh_every=3, tolerance=0.0)
    net = net_of(method)
    list(method.step(net, batch_of(net, number=0)))
    first = net.assigned.rows.clone()
    with torch.no_grad():
        net.clusters.centres.add_(0.05 * torch.randn(K, 10, generator=torch.Generator().manual_seed(1)))
    for number in (1, 2):
        batch = batch_of(net, number=number)
        list(method.step(net, batch))
        assert torch.equal(net.assigned.rows, first)
        assert "changed" not in batch.logged
    batch = batch_of(net, number=3)
    list(method.step(net, batch))
    assert not torch.equal(net.assigned.rows, first)
    assert "changed" in batch.logged


def test_gradients_reach_encoder_and_centres() -> None:
    method = DEC()
    net = net_of(method)
    (losses,) = list(method.step(net, batch_of(net)))
    losses["divergence"].backward()
    touched = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"backbone", "clusters"}


def test_the_centres_begin_as_k_means_and_the_answer_is_the_soft_assignment() -> None:
    method = DEC()
    net = net_of(method)
    z = features_of(net)()
    groups = predict(method, net, z)["soft"].argmax(1)
    means = torch.stack([z[groups == k].mean(0) for k in range(K)])
    torch.testing.assert_close(net.clusters.centres.detach(), means, rtol=1e-3, atol=1e-5)


def test_few_changes_end_the_stage_and_many_do_not() -> None:
    for tolerance, ends in ((0.0, False), (1.0, True)):
        method = DEC(refresh_every=2, tolerance=tolerance)
        net = net_of(method)
        for number, expected in ((0, False), (1, False), (2, ends)):
            batch = batch_of(net, number=number)
            list(method.step(net, batch))
            assert batch.ended is expected


SETTINGS = RunSettings(
    calibrate=False,
    n_clusters=4, method="dec", device="cpu", family="glyph", checkpoint_seconds=0.0,
    overrides={"ae.epochs": 1, "ae.batch_size": 24, "dec.epochs": 5, "dec.batch_size": 24, "dec.refresh_every": 3,
               "dec.tolerance": 1.0},
)  # fmt: skip


SOON = replace(SETTINGS, overrides={**SETTINGS.overrides, "dec.refresh_every": 2, "dec.epochs": 2})


def test_a_stage_that_ends_early_is_a_finished_run(digits: Source, tmp_path: Path) -> None:
    whole = run(digits.items.array, SETTINGS, tmp_path / "run")  # type: ignore[attr-defined]
    assert [(r.stage, r.epoch) for r in whole.history.records] == [("ae", 1), ("dec", 1)]
    again = run(digits.items.array, SETTINGS, tmp_path / "run", resume=True)  # type: ignore[attr-defined]
    assert torch.equal(whole.assignments.probabilities, again.assignments.probabilities)
    goes_on = replace(SETTINGS, overrides={**SETTINGS.overrides, "dec.tolerance": 0.0})
    records = run(digits.items.array, goes_on).history.records  # type: ignore[attr-defined]
    assert len(records) == 6


@pytest.fixture(scope="module")
def ended(digits: Source) -> RunResult:
    """Four batches of phase 1 and three of DEC, in memory."""
    return run(digits.items.array, SOON)  # type: ignore[attr-defined]


@pytest.mark.parametrize("after", [5, 6, 7])
def test_a_run_that_was_stopped_and_resumed_ends_where_the_other_did(
    after: int, ended: RunResult, digits: Source, tmp_path: Path
) -> None:
    data = digits.items.array  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        run(data, SOON, tmp_path / "run", watch=Watch(progress=StopAfter(after)))
    resumed = run(data, SOON, tmp_path / "run", resume=True)
    assert torch.equal(ended.assignments.probabilities, resumed.assignments.probabilities)
    history = read_history(tmp_path / "run" / "history.jsonl")
    assert [r.epoch for r in history.records] == [r.epoch for r in ended.history.records]


@pytest.mark.parametrize("wrong", [{"refresh_every": 0}, {"restarts": 0}, {"degrees_of_freedom": 0.0}])
def test_settings_that_cannot_work_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=rf"dec\.{next(iter(wrong))}"):
        coerce(DEC, wrong, "dec").check(Facts(n=10, k=2, kind="images", device="cpu"))


@pytest.mark.parametrize(("row", "batches"), [("mnist", 140), ("usps", 30), ("stl10", 30), ("reuters-10k", 30)])
def test_published_rows_renew_the_target_as_often_as_published(row: str, batches: int) -> None:
    facts = Facts(n=9298, k=10, kind="embeddings", device="cpu", dim=256)
    plan = make_plan(RunSettings(n_clusters=10, method="dec", preset=f"paper:{row}"), facts, "x")
    assert getattr(plan.method, "refresh_every") == batches  # noqa: B009
