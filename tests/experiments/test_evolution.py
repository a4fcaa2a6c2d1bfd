"""How a run's answers came about: the net after each epoch, figures of some of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coterie.types import InputError

FIGURES = ("cases", "confidences", "group", "plane")


def test_epochs_shown_are_the_first_that_reach_a_milestone() -> None:
    import evolution

    accs = {1: 0.2, 2: 0.4, 3: 0.35, 4: 0.6, 5: 0.52}
    assert evolution.shown_epochs(accs) == [1, 2, 4, 5]
    assert evolution.shown_epochs({3: 0.9}) == [3]


def test_a_run_is_drawn_and_not_trained_again(tmp_path: Path) -> None:
    import evolution

    words = ["digits", "-k", "10", "--items", "200", "--backbone", "small-4", "--set", "pica.epochs=3"]
    folders = {name: tmp_path / name for name in ("runs", "results", "figures")}
    words += [word for name, folder in folders.items() for word in (f"--{name}", str(folder))]
    evolution.main(words)
    text = (folders["results"] / "evolution_pica_digits-200.json").read_text()
    assert str(tmp_path) not in text
    (row,) = json.loads(text)["records"]
    assert [line["epoch"] for line in row["epochs"]] == [1, 2, 3]
    assert row["shown"][0] == 1
    assert row["shown"][-1] == 3
    drawn = {file.name: file.read_bytes() for file in folders["figures"].iterdir()}
    assert set(drawn) == {f"evolution_{what}_pica_digits-200.png" for what in FIGURES}

    # The last epoch's net is the run's own, and a second call reads what is there.
    from coterie.data import open_source
    from coterie.prediction.results import read_result

    out = folders["runs"] / "digits-200-pica-0"
    kept = evolution.answers(
        out, out.with_name(f"{out.name}-nets"), open_source(folders["runs"] / "digits-200.npy").items
    )
    told = read_result(out / "result.parquet").heads["primary"]
    assert (kept[3].argmax(1) == told.argmax(1)).all()
    assert abs(kept[3] - told).max() < 1e-3
    assert abs(kept[1] - told).max() > 1e-3
    before = (out / "history.jsonl").stat().st_mtime_ns
    evolution.main(words)
    assert (out / "history.jsonl").stat().st_mtime_ns == before
    assert (folders["results"] / "evolution_pica_digits-200.json").read_text() == text


def test_a_method_without_steps_is_refused(tmp_path: Path) -> None:
    import evolution

    words = ["digits", "--items", "60", "--method", "kmeans", "--runs", str(tmp_path), "--results", str(tmp_path)]
    with pytest.raises(InputError, match="takes no steps"):
        evolution.main([*words, "--figures", str(tmp_path)])
