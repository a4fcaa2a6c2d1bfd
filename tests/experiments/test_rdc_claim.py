"""R-DC's claim: its three readings, and the script from start to end on digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("narrow_autoencoders")


@pytest.mark.parametrize(("n", "correlation", "wanted"), [(1, 0, 0), (15, 0, 1.73), (50, 0, 2.24), (50, 0.9, 1.70)])
def test_a_record_by_chance_is_that_of_the_tables(n: int, correlation: float, wanted: float) -> None:
    import rdc_claim

    assert rdc_claim.record_by_chance(n, 1.0, correlation) == pytest.approx(wanted, abs=0.08)


def test_the_readings_of_a_row() -> None:
    import rdc_claim

    lines = [{"acc": a, "agreement": b} for a, b in ((0.5, 0.1), (0.7, 0.2), (0.6, 0.9), (0.4, 0.3))]
    found = rdc_claim.readings(lines)
    assert (found["last"], found["label_free"], found["best"]) == (0.4, 0.6, 0.7)
    assert rdc_claim.readings([{"acc": 0.5, "agreement": 1.0}] * 6)["chance"] == 0.0
    deviation, correlation = rdc_claim.fluctuation(np.sin(np.arange(400) / 10))
    assert deviation == pytest.approx(0.7, abs=0.05)
    assert correlation > 0.9


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of five iterations an evaluation, not 140."""
    import rdc_claim

    for title, row in rdc_claim.ROWS.items():
        monkeypatch.setitem(rdc_claim.ROWS, title, {**row, "rdc.epoch_steps": 5})


def test_the_claim_from_start_to_end_and_read_again(short: None, tmp_path: Path) -> None:
    import rdc_claim

    words = ["digits", "-k", "10", "--seeds", "0", "--set=acai.epochs=2", "--refreshes", "2", "--rows", "code"]
    words += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    rdc_claim.main(words)
    text = (tmp_path / "results" / "rdc_claim_digits.json").read_text()
    assert str(tmp_path) not in text
    rows = json.loads(text)["records"]
    assert [(row["title"], len(row["lines"])) for row in rows] == [("phase 1", 2), ("code", 2)]
    assert all(row["readings"]["best"] >= row["readings"]["last"] for row in rows)
    before = (tmp_path / "results" / "rdc_claim_digits.md").read_text()
    rdc_claim.main(words)
    assert (tmp_path / "results" / "rdc_claim_digits.md").read_text() == before
    assert "best by labels" in before
    folder = tmp_path / "results"
    rdc_claim.main([*words[:-4], "text", *words[-4:], "--done"])
    kept = json.loads((folder / "rdc_claim_digits.json").read_text())
    assert [row["title"] for row in kept["records"]] == ["phase 1", "code"]  # nothing was trained
    assert kept["command"].endswith("--refreshes 2 --rows code text")


def test_of_phase_1_the_last_evaluations_are_made(short: None, tmp_path: Path) -> None:
    import rdc_claim

    words = ["digits", "-k", "10", "--set=acai.epochs=4", "--refreshes", "1", "--rows", "code", "--runs"]
    rdc_claim.main([*words, str(tmp_path / "runs"), "--results", str(tmp_path / "results")])
    assert list(json.loads((tmp_path / "runs" / "digits-acai-0.acc.json").read_text())) == ["4"]
