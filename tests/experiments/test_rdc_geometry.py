"""Figures 14 and 15 by both definitions: numbers that the authors' lines gave, and the script on the claim's runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("narrow_autoencoders")
TEN = torch.tensor(
    [[0, 0], [1, 0], [0, 1.1], [1.2, 1.3], [0.4, 0.5], [5, 5], [5.1, 5], [5, 5.2], [5.3, 5.3], [9, 9]],
    dtype=torch.float64,
)
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])


def neighbours(z: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    apart = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    distance, rows = apart.sort(dim=1, stable=True)
    return distance[:, :m], rows[:, :m]


@pytest.mark.parametrize(
    ("core_ratio", "before", "after", "right_before", "right_after"),
    [(0.6, 0.5, 2 / 3, 0.375, 2 / 3), (-1.0, 0.75, 1.0, 0.6, 18 / 26)],
)
def test_shares_of_true_neighbours_as_the_code_counts_them_and_as_they_are(
    core_ratio: float, before: float, after: float, right_before: float, right_after: float
) -> None:
    import rdc_geometry

    distance, rows = neighbours(TEN, 4)
    found = rdc_geometry.true_shares(LABELS[rows] == LABELS[:, None], distance, core_ratio, 0.6)
    assert found["theirs_before"] == pytest.approx(before)
    assert found["theirs_after"] == pytest.approx(after)
    assert found["true_before"] == pytest.approx(right_before)
    assert found["true_after"] == pytest.approx(right_after)


@given(st.integers(0, 200), st.floats(0.0, 0.9), st.floats(0.05, 1.0))
@settings(deadline=None, max_examples=25)
def test_their_shares_are_those_of_a_loop(seed: int, core_ratio: float, gap: float) -> None:
    import rdc_geometry

    z = torch.rand(30, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.randint(3, (30,), generator=torch.Generator().manual_seed(seed))
    distance, rows = neighbours(z, 4)
    found = rdc_geometry.true_shares(labels[rows] == labels[:, None], distance, core_ratio, gap)
    core = [i for i in range(30) if distance[i, 0] / distance[i, -1] > core_ratio]
    smallest = min([float(distance[-1, 0]), *(float(distance[i, 0]) for i in core)])
    told, accepted = 0, 0
    for i in core:
        order = [i, *rows[i].tolist()]  # the neighbour j is judged by the label of the one before it
        for j in range(4):
            if float(distance[i, j]) - smallest < gap:
                told += int(labels[order[j]] == labels[i])
                accepted += 1
    assert found["theirs_after"] == (pytest.approx(told / accepted) if accepted else None)


def test_without_core_items_there_are_no_shares() -> None:
    import rdc_geometry

    distance, rows = neighbours(TEN, 4)
    found = rdc_geometry.true_shares(LABELS[rows] == LABELS[:, None], distance, 2.0, 0.6)
    assert set(found.values()) == {None}


def test_the_runs_of_the_claim_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rdc_claim
    import rdc_figures
    import rdc_geometry

    monkeypatch.setitem(rdc_claim.ROWS, "code", {**rdc_claim.CODE, "rdc.epoch_steps": 5})
    words = ["digits", "-k", "10", "--seeds", "0", "--set=acai.epochs=2", "--refreshes", "1", "--rows", "code"]
    rdc_claim.main([*words, "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")])
    rdc_geometry.main(
        [
            "digits",
            "-k",
            "10",
            "--runs",
            str(tmp_path / "runs"),
            "--results",
            str(tmp_path / "results"),
            "--items",
            "900",
        ]
    )
    rows = json.loads((tmp_path / "results" / "rdc_geometry_digits.json").read_text())["records"]
    assert [(row["title"], row["seed"]) for row in rows] == [("phase 1", 0), ("code", 0)]
    folders = [f"--{name}={tmp_path / name}" for name in ("runs", "results", "figures")]
    rdc_figures.main(["digits", *folders])
    for name in ("claim", "codes"):
        assert (tmp_path / "figures" / f"rdc_{name}_digits.png").read_bytes().startswith(b"\x89PNG")
    for row in rows:
        assert row["deviations"] == sorted(row["deviations"], reverse=True)
        assert row["classes"]["linear_theirs"] <= 9
        assert row["classes"]["linear_theirs"] >= row["classes"]["linear"] - 1
