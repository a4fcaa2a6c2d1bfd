from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from coterie import Clusterer
from coterie.calibration import Calibration, PostHoc
from coterie.catalogue import method_class, method_names
from coterie.contract import setting_names
from coterie.methods.adec import ADEC
from coterie.methods.cc import CC
from coterie.methods.cdc import CDC
from coterie.methods.dac import DAC
from coterie.methods.decnn import DeCNN
from coterie.methods.moco import MoCo
from coterie.methods.pica import PICA
from coterie.methods.tcl import TCL
from coterie.training.advice import advice_for
from coterie.training.health import Meter, check_epoch, check_losses, group_health, late_warning
from coterie.types import RunFailed


def test_a_meter_averages_each_number_over_its_own_count() -> None:
    meter = Meter()
    meter.add({"a": torch.tensor(1.0), "b": 2.0})
    meter.add({"a": torch.tensor(4.0)})
    meter.add_groups(torch.tensor([3, 0]))
    meter.add_groups(torch.tensor([1, 2]))
    assert meter.mean() == {"a": 2.5, "b": 2.0}
    assert meter.groups == [4, 2]


def test_a_meter_survives_being_written_down() -> None:
    meter = Meter()
    meter.add({"a": torch.tensor(1.0)})
    meter.add_groups(torch.tensor([3, 0]))
    again = Meter(**json.loads(json.dumps(meter.state())))
    for one in (meter, again):
        one.add({"a": torch.tensor(2.0)})
        one.add_groups(torch.tensor([0, 1]))
    assert again.mean() == meter.mean()
    assert again.groups == meter.groups


@pytest.mark.parametrize(
    ("groups", "used", "share"),
    [([10, 10], 2, 0.5), ([100, 0], 1, 1.0), ([97, 3, 0], 1, 0.97), ([90, 10, 0, 0], 2, 0.9)],
)
def test_groups_in_use_have_a_tenth_of_an_equal_share(groups: list[int], used: int, share: float) -> None:
    assert group_health(groups) == {"groups_used": used, "largest_share": share}


def test_a_method_that_counts_no_groups_has_no_group_health() -> None:
    assert group_health([]) == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_stops_the_run_with_advice(value: float) -> None:
    with pytest.raises(RunFailed, match=r"'cluster' of stage cdc .* epoch 3") as caught:
        check_losses(advice_for(CDC()), 3, {"entropy": -1.0, "cluster": value})
    assert "learning rate" in caught.value.advice
    check_losses(advice_for(CDC()), 3, {"entropy": -1.0})


@pytest.mark.parametrize(
    ("health", "reason", "advice"),
    [
        ({"largest_share": 0.999}, "one group has >99% of the items", "longer"),
        ({"embedding_std": 0.01}, "nearly the same embedding", "learning_rate"),
        ({"selected": 0.0}, "selected no item", "batch_size"),
    ],
)
def test_a_hopeless_epoch_stops_the_run_with_a_reason_and_advice(
    health: dict[str, float], reason: str, advice: str
) -> None:
    with pytest.raises(RunFailed, match=reason) as caught:
        check_epoch(advice_for(MoCo() if "embedding_std" in health else CDC(), "moco"), 5, 10, health)
    assert advice in caught.value.advice
    assert caught.value.reason in str(caught.value)
    assert caught.value.advice in str(caught.value)


@pytest.mark.parametrize(
    "health", [{}, {"largest_share": 0.99, "groups_used": 3.0}, {"embedding_std": 0.5}, {"selected": 0.01}]
)
def test_a_run_that_can_recover_goes_on(health: dict[str, float]) -> None:
    check_epoch(advice_for(CDC()), 5, 10, health)


def test_training_may_begin_with_a_single_group() -> None:
    check_epoch(advice_for(PICA()), 9, 100, {"largest_share": 1.0})
    with pytest.raises(RunFailed):
        check_epoch(advice_for(PICA()), 10, 100, {"largest_share": 1.0})


def test_contrastive_training_may_begin_with_embeddings_close_together() -> None:
    check_epoch(advice_for(MoCo()), 4, 10, {"embedding_std": 0.001})
    with pytest.raises(RunFailed):
        check_epoch(advice_for(MoCo()), 5, 10, {"embedding_std": 0.001})


@pytest.mark.parametrize("before", [None, "ae"])
@pytest.mark.parametrize("name", method_names())
def test_advice_speaks_of_what_there_is(name: str, before: str | None) -> None:
    kind = method_class(name)
    advice = advice_for(kind(), before, half=before is not None)
    said = [advice.smaller_steps(), advice.collapsed(), advice.same_embedding(), advice.nothing_selected()]
    said.append(advice.lost_groups())
    for sentence in said:
        assert sentence.endswith(".")
        for word in re.findall(r"--set ([a-z0-9_.]+[a-z])", sentence):
            stage, setting = word.split(".")
            assert stage == name
            assert setting in setting_names(kind)
        assert ("entropy_weight" in sentence) <= ("entropy_weight" in setting_names(kind))
        assert ("stage before" in sentence) <= (before is not None)
        assert ("fp32" in sentence) <= (before is not None)
    assert ("the stage before it, ae," in said[1]) == (before is not None)


def test_a_batch_of_all_items_cannot_be_raised() -> None:
    assert "batch_size" in advice_for(CDC()).nothing_selected()
    assert advice_for(CDC(), whole=True).nothing_selected() == "Ask for fewer groups."


def test_what_is_0_cannot_be_lowered() -> None:
    for boosted in (True, False):
        advice = advice_for(TCL(boost_epochs=200 * boosted))
        assert all(("boost_epochs" in said) == boosted for said in (advice.collapsed(), advice.lost_groups()))
    assert "threshold" not in advice_for(CDC(threshold=0.0)).nothing_selected()


def test_advice_on_a_calibration_speaks_of_its_own_settings() -> None:
    head = PostHoc(Calibration(), torch.ones(4, 2) / 2)
    assert advice_for(head, "cdc").smaller_steps() == "Try a lower learning rate (--set calibrate.head_rate)."


def test_a_loss_that_is_not_finite_may_come_of_a_weight_above_its_default() -> None:
    said = advice_for(ADEC(adversarial_weight=1e9)).smaller_steps()
    assert said == "Try a smaller --set adec.adversarial_weight or a lower learning rate (--set adec.learning_rate)."
    assert "weight" not in advice_for(ADEC(adversarial_weight=0.5)).smaller_steps()


def test_a_short_training_that_collapsed_may_take_more_epochs() -> None:
    assert "aise --set pica.epochs" in advice_for(PICA(epochs=2)).collapsed()
    assert "epochs" not in advice_for(PICA(epochs=50)).collapsed()


def test_advice_names_the_setting_that_balances_groups_and_the_one_that_selects() -> None:
    assert "aise --set cc.balance_weight" in advice_for(CC()).collapsed()
    assert "aise --set decnn.fidelity" in advice_for(DeCNN()).collapsed()
    assert "lower --set dac.upper" in advice_for(DAC()).nothing_selected()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("method", "k", "settings", "said"),
    [
        (
            "turtle",
            3,
            {"turtle.epochs": 3, "turtle.inner_rate": 1e30},
            "Try a lower learning rate (--set turtle.inner_rate, ",
        ),
        ("cdc", 30, {"cdc.epochs": 3}, "Ask for fewer groups."),
        ("kmeans", 30, {}, "Ask for fewer groups."),
    ],
)
def test_runs_that_teach_nothing_are_warned_of(method: str, k: int, settings: dict[str, float], said: str) -> None:
    """A rate at which every weight jumps, and as many groups as items, ended without a word."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(centre, 1, (100, 16)) for centre in (-4, 0, 4)]).astype(np.float32)
    model = Clusterer(k, method=method, settings=settings, calibrate=False, random_state=0).fit(rows[:: 300 // 30])
    assert [text for text in model.record_["warnings"] if said in text]


def test_large_losses_are_judged_at_the_end_alone() -> None:
    advice = advice_for(CDC())
    assert late_warning(advice, 9, 10, {"cluster": 1e9}) is None
    assert late_warning(advice, 10, 10, {"cluster": 900.0, "entropy": -3.0}) is None
    assert late_warning(advice, 10, 10, {}) is None
    assert "Ask for fewer groups." in (late_warning(advice, 10, 10, {"cluster": 1e9}, crowded=True) or "")
    assert "'entropy'" in (late_warning(advice, 10, 10, {"cluster": 1.0, "entropy": -1e9}) or "")
