"""What the selection strategies remember from batch to batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coterie.objectives.selection_formulas import (
    above,
    agreement,
    confident_images,
    flexmatch_thresholds,
    freematch_thresholds,
    last_layer_gradients,
)
from coterie.objectives.selection_strategies import (
    KEEP,
    Chosen,
    Fixed,
    FlexMatch,
    FreeMatch,
    GradientFilter,
    ProximityFilter,
    Quota,
    WeakAnswers,
)
from helpers.draws import seeded

N, K, WIDTH, HIDDEN, ITEMS = 24, 3, 6, 5, 100


def seen(seed: int = 0, *, sharpness: float = 3.0, epoch: int = 0, p: Tensor | None = None) -> WeakAnswers:
    generator = seeded(seed)
    p = (sharpness * torch.randn(N, K, generator=generator)).softmax(1) if p is None else p
    index = torch.randperm(ITEMS, generator=generator)[: len(p)]
    features = torch.randn(len(p), WIDTH, generator=generator).abs()
    return WeakAnswers(p, index, features, torch.randn(K, HIDDEN, generator=seeded(99)), epoch)


def strategies() -> dict[str, nn.Module]:
    flexmatch = FlexMatch(K, 0.9)
    flexmatch.begin(ITEMS)
    return {
        "quota": Quota(match_label=False),
        "fixed": Fixed(0.9),
        "flexmatch": flexmatch,
        "freematch": FreeMatch(K, 0.9),
        "gsf": GradientFilter(K, HIDDEN, 0.5, match_label=False),
        "ppf": ProximityFilter(K, WIDTH, 0.5, match_label=False),
    }


every_strategy = pytest.mark.parametrize("name", list(strategies()))


@every_strategy
def test_a_strategy_loaded_from_a_checkpoint_goes_on_as_the_one_that_was_saved(name: str) -> None:
    whole, fresh = strategies()[name], strategies()[name]
    if isinstance(fresh, FlexMatch):
        fresh = FlexMatch(K, 0.9)  # not begun: the checkpoint brings the length
    for seed in range(3):
        whole(seen(seed, epoch=seed // 2))
    fresh.load_state_dict({key: value.clone() for key, value in whole.state_dict().items()})
    for seed in range(3, 6):
        one, other = whole(seen(seed, epoch=seed // 2)), fresh(seen(seed, epoch=seed // 2))
        assert torch.equal(one.keep, other.keep)
        assert all(torch.equal(value, other.numbers[key]) for key, value in one.numbers.items())
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in whole.state_dict().items())


@every_strategy
def test_unsure_items_of_one_group_leave_everything_finite(name: str) -> None:
    """Quotas and thresholds may select nobody; what is remembered must survive it."""
    strategy = strategies()[name]
    flat = torch.full((2, K), 1 / K)  # fewer items than groups: Eq. 4 selects none
    for _ in range(2):
        found: Chosen = strategy(seen(p=flat))
        assert found.keep.shape == (2,)
        assert found.keep.dtype == torch.bool
        assert all(bool(torch.isfinite(number)) for number in found.numbers.values())
    assert all(bool(torch.isfinite(value.float()).all()) for value in strategy.state_dict().values())
    if name in ("quota", "fixed", "gsf", "ppf"):
        assert not found.keep.any()


def test_flexmatch_selects_first_and_remembers_the_sure_items_of_the_batch_for_good() -> None:
    strategy = strategies()["flexmatch"]
    assert isinstance(strategy, FlexMatch)
    expected = [-1] * ITEMS
    for seed in range(4):
        batch = seen(seed)
        before = torch.tensor(expected, dtype=torch.int32)
        found = strategy(batch)
        assert torch.equal(found.keep, above(batch.p, flexmatch_thresholds(before, K, 0.9)))
        assert seed > 0 or bool(found.keep.all())  # thresholds of 0 to begin with
        for row, p in zip(batch.index.tolist(), batch.p, strict=True):
            if p.max() >= 0.9:
                expected[row] = int(p.argmax())
        assert strategy.remembered.tolist() == expected
        share = sum(label >= 0 for label in expected) / ITEMS
        assert found.numbers["remembered"].item() == pytest.approx(share)


def test_freematch_follows_the_batches_and_then_selects() -> None:
    strategy, confidence, share = FreeMatch(K, 0.9), torch.tensor(1 / K), torch.full((K,), 1 / K)
    for seed in range(4):
        batch = seen(seed)
        found = strategy(batch)
        confidence = 0.9 * confidence + 0.1 * batch.p.max(1).values.mean()
        share = 0.9 * share + 0.1 * batch.p.mean(0)
        thresholds = freematch_thresholds(confidence, share)
        assert torch.equal(found.keep, above(batch.p, thresholds))
        torch.testing.assert_close(found.numbers["threshold_high"], confidence)
        torch.testing.assert_close(found.numbers["threshold_low"], thresholds.min())


def test_freematch_passes_nearly_everything_in_its_first_batch() -> None:
    batch = seen(sharpness=1.0)
    found = FreeMatch(K, 0.999)(batch)
    assert found.keep[batch.p.amax(1) > 1 / K + 0.01].all()


def gsf_twin(batches: list[WeakAnswers], lowest: float) -> tuple[list[list[bool]], list[Tensor | None]]:
    """Item by item, with a direction for each group that an epoch's confident items gave one."""
    directions: list[Tensor | None] = [None] * K
    kept, epoch = [], 0
    for batch in batches:
        if batch.epoch != epoch:
            directions, epoch = [None] * K, batch.epoch
        confident, label = confident_images(batch.p), batch.p.argmax(1)
        gradients = last_layer_gradients(batch.p, batch.weights)
        for group in range(K):
            rows = [gradients[i] for i in range(len(label)) if confident[i] and label[i] == group]
            old = directions[group]
            if rows:
                fresh = torch.stack(rows).sum(0)
                directions[group] = fresh if old is None else KEEP * old + (1 - KEEP) * fresh
        keep = []
        for i, group in enumerate(label.tolist()):
            direction = directions[group]
            score = 0.0
            if direction is not None:
                score = float((1 + F.cosine_similarity(gradients[i], direction, dim=0)) / 2)
            keep.append(bool(confident[i]) or (float(batch.p[i].max()) > lowest and score >= 0.95))
        kept.append(keep)
    return kept, directions


def test_gsf_is_its_slow_twin_and_forgets_when_an_epoch_ends() -> None:
    batches = [seen(seed, epoch=seed // 3) for seed in range(8)]
    expected, directions = gsf_twin(batches, 0.4)
    strategy = GradientFilter(K, HIDDEN, 0.4, match_label=False)
    found = [strategy(batch) for batch in batches]
    assert [one.keep.tolist() for one in found] == expected
    assert sum(one.numbers["joined"].item() for one in found) > 0
    for row, direction in zip(strategy.directions.rows, directions, strict=True):
        assert direction is not None
        torch.testing.assert_close(row, direction)


def ppf_twin(batches: list[WeakAnswers], lowest: float) -> tuple[list[list[bool]], float]:
    prototypes: list[Tensor | None] = [None] * K
    kept, least = [], None
    for batch in batches:
        confident, label = confident_images(batch.p), batch.p.argmax(1).tolist()
        for group in range(K):
            rows = [batch.features[i] for i in range(len(label)) if confident[i] and label[i] == group]
            old = prototypes[group]
            if rows:
                fresh = torch.stack(rows).mean(0)
                prototypes[group] = fresh if old is None else KEEP * old + (1 - KEEP) * fresh
        score = []
        for i, group in enumerate(label):
            own = prototypes[group]
            score.append(0.0 if own is None else 1 / (1 + float((batch.features[i] - own).square().sum())))
        farthest = min((s for s, sure in zip(score, confident.tolist(), strict=True) if sure), default=None)
        if farthest is not None:
            least = farthest if least is None else KEEP * least + (1 - KEEP) * farthest
        assert least is not None
        above_lowest = (batch.p.amax(1) > lowest).tolist()
        kept.append([bool(confident[i]) or (above_lowest[i] and score[i] >= least) for i in range(len(label))])
    assert least is not None
    return kept, least


def test_ppf_is_its_slow_twin_and_remembers_over_epochs() -> None:
    batches = [seen(seed, epoch=seed // 3) for seed in range(8)]
    expected, least = ppf_twin(batches, 0.4)
    strategy = ProximityFilter(K, WIDTH, 0.4, match_label=False)
    found = [strategy(batch) for batch in batches]
    assert [one.keep.tolist() for one in found] == expected
    assert found[-1].numbers["least_proximity"].item() == pytest.approx(least, rel=1e-5)
    assert sum(one.numbers["joined"].item() for one in found) > 0


@pytest.mark.parametrize("name", ["gsf", "ppf"])
def test_filters_only_add_to_the_selection_of_cdc(name: str) -> None:
    strategy = strategies()[name]
    for seed in range(5):
        batch = seen(seed, sharpness=2.0)
        found = strategy(batch)
        confident = confident_images(batch.p)
        assert bool((found.keep >= confident).all())
        assert not found.keep[~confident & (batch.p.amax(1) <= 0.5)].any()
        torch.testing.assert_close(found.numbers["joined"], (found.keep.float() - confident.float()).mean())


def test_a_group_that_a_batch_lacks_keeps_its_direction() -> None:
    strategy = GradientFilter(K, HIDDEN, 0.5, match_label=True)
    strategy(seen())
    before = strategy.directions.rows.clone()
    only = F.one_hot(torch.zeros(6, dtype=torch.long), K) * 0.8 + 0.2 / K
    strategy(seen(p=only))
    changed = (strategy.directions.rows != before).any(1)
    assert changed.tolist() == [True, False, False]
    gradients = last_layer_gradients(only, seen().weights)
    assert bool((agreement(gradients, only.argmax(1), strategy.directions.rows) <= 1).all())
