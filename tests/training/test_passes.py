"""Epochs of several passes: what each goes through, and that a run can stop in any of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coterie.contract import Pass
from coterie.data.items import ArrayImages, JoinedItems
from coterie.methods.cdc import CDC
from coterie.methods.pica import PICA
from coterie.networks.net import Net
from coterie.pipeline import RunResult, run
from coterie.running.prepared import Watch
from coterie.running.preparing import prepare
from coterie.running.stages import build_net, train
from coterie.training.engine import Stage, train_stage
from coterie.training.health import early_warning
from coterie.training.history import EpochRecord, read_history
from coterie.training.passes import plan_passes
from coterie.training.plan import RunSettings
from coterie.types import InputError, Items, ItemSpec, Source
from helpers.stopping import StopAfter

SETTINGS = RunSettings(
    calibrate=False,
    n_clusters=4,
    method="pica",
    backbone="small-4",
    device="cpu",
    family="glyph",
    overrides={"pica.epochs": 2, "pica.batch_size": 40, "pica.over": 8, "pica.copies": 2},
    checkpoint_seconds=0.0,
)
STEPS = 2 * (3 + 3)  # 96 images: two batches of 40 and one of 16, in two passes and two epochs


def store(n: int, first: int = 0, side: int = 2) -> ArrayImages:
    """Images whose pixels are their number."""
    array = np.arange(first, first + n, dtype=np.uint8)[:, None, None, None].repeat(side, 2).repeat(side, 3)
    return ArrayImages(array, ItemSpec("images", channels=1, height=side, width=side))


@dataclass(frozen=True)
class Turns(PICA):
    """PICA with other passes."""

    turns: tuple[Pass, ...] = ()

    def passes(self) -> tuple[Pass, ...]:
        return self.turns


def ways(n: int, size: int, *turns: Pass, extra: int = 0, processes: int = 1) -> list[tuple[str, int, int, int]]:
    further = (lambda: store(extra, n)) if extra else None
    found = plan_passes(Turns(turns=turns), store(n), further, size, processes)
    return [(way.wanted.name, way.steps, way.seen, way.before) for way in found]


def test_one_pass_is_the_complete_batches() -> None:
    (way,) = plan_passes(CDC(), store(11), None, 4, 1)
    assert (way.wanted.name, way.steps, way.seen) == ("", 2, 8)


def test_passes_follow_each_other_and_may_keep_their_last_batch_and_see_extra_items() -> None:
    turns = Pass("a", extra=True, keep_last=True), Pass("b", keep_last=True), Pass("c", extra=True)
    assert ways(11, 4, *turns, extra=7) == [("a", 5, 18, 0), ("b", 3, 11, 5), ("c", 4, 16, 8)]
    assert ways(11, 4, *turns) == [("a", 3, 11, 0), ("b", 3, 11, 3), ("c", 2, 8, 6)]


@pytest.mark.parametrize(("n", "processes", "steps"), [(9, 1, 2), (10, 1, 3), (11, 2, 2), (12, 2, 3), (8, 1, 2)])
def test_a_last_batch_that_leaves_a_process_one_row_is_left_out(n: int, processes: int, steps: int) -> None:
    assert ways(n, 4, Pass("a", keep_last=True), processes=processes)[0][1] == steps


def test_the_published_passes_of_pica() -> None:
    """CIFAR: 235 + 235 steps; STL-10 with its unlabelled images: 442 + 51 (spec, section 4.3)."""
    assert [(name, steps) for name, steps, _, _ in ways_like(60_000, 0)] == [("over", 235), ("primary", 235)]
    assert [(name, steps) for name, steps, _, _ in ways_like(13_000, 100_000)] == [("over", 442), ("primary", 51)]
    assert [name for name, *_ in ways_like(100, 0, over_clustering=False)] == ["primary"]


class Many:
    """Only a number of items."""

    spec = ItemSpec("images", channels=1, height=2, width=2)

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def take(self, index: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(index), 1, 2, 2, dtype=torch.uint8)


def ways_like(n: int, extra: int, **settings: Any) -> list[tuple[str, int, int, int]]:
    found = plan_passes(PICA(**settings), Many(n), (lambda: Many(extra)) if extra else None, min(256, n), 1)
    return [(way.wanted.name, way.steps, way.seen, way.before) for way in found]


def test_every_pass_and_epoch_has_an_order_of_its_own() -> None:
    found = plan_passes(PICA(), store(50), None, 10, 1)
    orders = [tuple(way.order(way.path(0, "pica", epoch)).tolist()) for way in found for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_joined_items_are_taken_by_their_place_in_the_row_of_both() -> None:
    joined: Items = JoinedItems(store(5), store(4, first=100))
    assert len(joined) == 9
    index = torch.tensor([8, 0, 5, 4, 4])
    assert joined.take(index)[:, 0, 0, 0].tolist() == [103, 0, 100, 4, 4]
    assert joined.take(torch.tensor([], dtype=torch.int64)).shape == (0, 1, 2, 2)
    with pytest.raises(InputError, match="cannot be trained on together"):
        JoinedItems(store(5), store(4, side=3))


# A run


@pytest.fixture(scope="module")
def whole(digits: Source) -> RunResult:
    return run(digits.items.array, SETTINGS)


@pytest.mark.parametrize("after", [1, 2, 4, 6, 7, 11])
def test_a_run_stopped_within_any_pass_and_resumed_is_the_run_that_was_not(
    after: int, digits: Source, whole: RunResult, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(digits.items.array, SETTINGS, tmp_path / "run", watch=Watch(progress=StopAfter(after)))
    second = StopAfter(0)
    resumed = run(digits.items.array, SETTINGS, tmp_path / "run", resume=True, watch=Watch(progress=second))
    kept = after - (after == 6)  # at the end of an epoch, which is then closed once more, the checkpoint before stands
    assert second.begun == [("pica", STEPS, kept)]
    assert torch.equal(resumed.assignments.probabilities, whole.assignments.probabilities)
    for name, value in whole.model.net.state_dict().items():
        assert torch.equal(value, resumed.model.net.state_dict()[name]), name
    for one, other in zip(whole.history.records, read_history(tmp_path / "run" / "history.jsonl").records, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-5)
        assert one.health == pytest.approx(other.health, rel=1e-5)
        assert one.confidence_histogram == other.confidence_histogram


def test_the_history_tells_of_both_heads(whole: RunResult) -> None:
    for record in whole.history.records:
        assert set(record.losses) == {"partition", "balance", "over_partition", "over_balance"}
        assert {"pui", "confidence", "certain", "groups_used", "largest_share", "over_pui"} <= set(record.health)
        assert len(record.confidence_histogram) == 50
        assert sum(record.confidence_histogram) == 96


def test_only_the_head_whose_turn_it_is_changes_and_the_backbone_in_both(digits: Source) -> None:
    settings = replace(SETTINGS, overrides={**SETTINGS.overrides, "pica.epochs": 1})
    prepared = prepare(digits.items.array, settings, None, resume=False, watch=Watch())
    method = prepared.plan.method
    net = build_net(prepared, method, None)
    states = [state_of(net)]

    class Look(StopAfter):
        def step(self, losses: dict[str, float] | None) -> None:
            states.append(state_of(net))

    progress = Look(0)
    views, history = prepared.plan.views, prepared.history
    train_stage(
        net,
        Stage(
            method,
            digits.items,
            "glyph",
            4,
            0,
            views,
            lambda half=False, by=None: torch.empty(0),
            history,
            progress=progress,
        ),
    )

    def changed(before: int, after: int) -> set[str]:
        return {name for name, value in states[before].items() if not torch.equal(value, states[after][name])}

    assert len(states) == 7
    assert changed(0, 3) == {"backbone", "over"}
    assert changed(3, 6) == {"backbone", "primary"}


def state_of(net: Net) -> dict[str, torch.Tensor]:
    """All parameters of each part of a net as one vector."""
    parts: dict[str, list[torch.Tensor]] = {}
    for name, p in net.named_parameters():
        parts.setdefault(name.split(".")[0], []).append(p.detach().flatten())
    return {name: torch.cat(values) for name, values in parts.items()}


class Extra:
    """64 items that belong to no group, the first of the digits; `asked` counts what is taken in each batch."""

    def __init__(self, digits: Source) -> None:
        self.items, self.spec, self.asked = digits.items, digits.items.spec, list[int]()

    def __len__(self) -> int:
        return 64

    def take(self, index: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(index))
        return self.items.take(index)


def test_extra_items_are_seen_by_the_over_clustering_pass_alone(digits: Source) -> None:
    begun = StopAfter(0)
    settings = replace(SETTINGS, overrides={**SETTINGS.overrides, "pica.epochs": 1})
    prepared = prepare(digits.items.array, settings, None, resume=False, watch=Watch())
    extra = Extra(digits)
    prepared.source.extra = lambda: extra
    train(prepared, Watch(progress=begun))
    assert begun.begun == [("pica", 4 + 3, 0)]  # 160 images are four batches of 40
    assert sum(extra.asked) == 64


@pytest.mark.parametrize("method", ["moco", "simclr", "simsiam", "byol"])
def test_training_without_groups_learns_from_extra_items_too(method: str, digits: Source) -> None:
    slim = {"epochs": 1, "batch_size": 40, "projector_hidden": 8, "projector_out": 4}
    settings = replace(SETTINGS, method=method, overrides={f"{method}.{name}": own for name, own in slim.items()})
    prepared = prepare(digits.items.array, settings, None, resume=False, watch=Watch())
    extra = Extra(digits)
    prepared.source.extra = lambda: extra
    net = train(prepared, Watch())
    assert 0 < sum(extra.asked) <= 64
    assert torch.isfinite(net.groups.centres).all()


# A warning in time


def test_groups_that_are_empty_early_are_told_of_once() -> None:
    used = {"groups_used": 3.0}
    told = [early_warning("pica", epoch, 30, used, 10) for epoch in range(1, 31)]
    assert [place for place, text in enumerate(told, 1) if text] == [3]
    assert "only 3 of 10 groups" in str(told[2])
    assert early_warning("pica", 3, 30, {"groups_used": 10.0}, 10) is None
    assert early_warning("moco", 3, 30, {}, 10) is None


def test_the_warning_reaches_the_user_and_the_record(digits: Source) -> None:
    said: list[str] = []
    # No learning: all images stay in the groups that random weights give them.
    overrides = {**SETTINGS.overrides, "pica.epochs": 10, "pica.learning_rate": 0.0, "pica.over_clustering": False}
    settings = replace(SETTINGS, n_clusters=20, overrides=overrides)
    done = run(digits.items.array, settings, watch=Watch(say=said.append))
    assert any("groups are in use" in text for text in done.record["warnings"])
    assert any("groups are in use" in text for text in said)


def test_a_line_of_history_without_a_histogram_can_be_read(tmp_path: Path) -> None:
    line = (
        '{"stage": "cdc", "epoch": 1, "epochs": 1, "losses": {}, "health": {}, "seconds": 1, "items_per_second": 1}\n'
    )
    (tmp_path / "history.jsonl").write_text(line)
    assert read_history(tmp_path / "history.jsonl").records == [EpochRecord("cdc", 1, 1, {}, {}, 1, 1)]
