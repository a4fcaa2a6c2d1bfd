"""A stage that ends with far fewer groups in use than it had says so."""

from __future__ import annotations

import torch

from coterie.methods.scan3 import SCAN3
from coterie.running.stages import check_result
from coterie.training.advice import advice_for
from coterie.training.health import lost_warning
from coterie.training.history import EpochRecord
from coterie.types import Assignments

FALLING = [10.0] * 8 + [7.0, 5.0, 4.0, 3.0]
THREE = [40, 30, 30, *[0] * 7]


def records_of(used: list[float]) -> list[EpochRecord]:
    epochs = enumerate(used, 1)
    return [EpochRecord("scan3", epoch, len(used), {}, {"groups_used": groups}, 1.0, 1.0) for epoch, groups in epochs]


def lost(used: list[float], sizes: list[int]) -> str | None:
    """What is said of a stage with so many groups in use by epoch, and these sizes at the end."""
    return lost_warning(advice_for(SCAN3(), "scan"), records_of(used), sizes)


def test_groups_that_training_lost_are_told_of_with_the_epoch_that_had_them() -> None:
    said = lost(FALLING, THREE)
    assert said is not None
    assert "Stage scan3 lost groups while it trained: 10 of 10 were in use after epoch 8, 3 are at the end" in said
    assert "Train the stage before it, scan, longer, compare with its own groups (--method scan), lower" in said
    assert "--set scan3.threshold, raise --set scan3.at_least or start again with another seed." in said
    assert "stage before" not in str(lost_warning(advice_for(SCAN3()), records_of(FALLING), THREE))


def test_groups_that_stayed_or_never_were_in_use_are_no_loss() -> None:
    assert lost([10.0] * 12, [10] * 7 + [0] * 3) is None
    assert lost([3.0] * 12, THREE) is None
    assert lost([10.0] * 9, [100, *[0] * 9]) is None  # a short training
    assert lost([10.0] + [3.0] * 19, THREE) is None  # of random weights
    assert lost([], [50, 50]) is None
    assert lost([40.0] * 12, [10] * 10) is None  # other groups than those of the answer


def test_empty_groups_that_were_in_use_are_no_reason_to_ask_for_fewer() -> None:
    p = torch.eye(10)[torch.tensor([0] * 40 + [1] * 30 + [2] * 30)]
    for used, expected in (
        (FALLING, "7 of the 10 groups are empty."),
        ([3.0] * 12, "7 of the 10 groups are empty: a smaller -k may suit these data."),
    ):
        warnings: list[str] = []
        check_result(Assignments([""] * 100, p), 10, warnings, advice_for(SCAN3()), records_of(used))
        assert expected in " ".join(warnings)
        assert ("lost groups" in " ".join(warnings)) == (used is FALLING)
        assert ("smaller -k" in " ".join(warnings)) == (used is not FALLING)
    other: list[str] = []
    of_another_stage = [EpochRecord("scan", r.epoch, r.epochs, {}, r.health, 1.0, 1.0) for r in records_of(FALLING)]
    check_result(Assignments([""] * 100, p), 10, other, advice_for(SCAN3()), of_another_stage)
    assert "lost groups" not in " ".join(other)


def test_a_few_groups_that_training_emptied_are_no_reason_to_ask_for_fewer_either() -> None:
    p = torch.eye(10)[torch.arange(96) % 8]
    for used, said in (
        (
            [10.0] * 8 + [8.0] * 4,
            "2 of the 10 groups are empty, and 10 were in use after epoch 8. Train the stage before",
        ),
        ([9.0] + [8.0] * 11, "2 of the 10 groups are empty: a smaller -k may suit these data."),
        ([40.0] * 12, "2 of the 10 groups are empty: a smaller -k may suit these data."),
    ):
        warnings: list[str] = []
        check_result(Assignments([""] * 96, p), 10, warnings, advice_for(SCAN3(), "scan"), records_of(used))
        assert warnings[0].startswith(said)


def test_a_run_that_is_fine_tuned_gives_the_number_of_groups() -> None:
    """Another -k was refused."""
    warnings: list[str] = []
    p = torch.eye(10)[torch.arange(96) % 8]
    check_result(Assignments([""] * 96, p), 10, warnings, advice_for(SCAN3(), given=True))
    said = "lower --set scan3.learning_rate or keep the groups of the run that it began with."
    assert warnings[0] == f"2 of the 10 groups are empty: {said}"
