"""A step beside the authors' loop: settings that exist, rows that stay, what is told of one that was not run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest


def test_our_side_of_every_contest_can_be_trained() -> None:
    import beside_authors
    from speed import pixels

    for contest in beside_authors.CONTESTS.values():
        _, precision = beside_authors.ours(contest, pixels(contest.batch, 32, 3), "fp32")
        assert precision == "fp32"


def test_rows_that_are_not_asked_for_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import _measure
    import beside_authors

    asked: list[str] = []

    def measured(script: str, words: list[str], limit: float) -> dict[str, Any]:
        asked.append(words[0])
        return {"status": "done", "seconds": len(asked)}

    monkeypatch.setattr(_measure, "RESULTS", tmp_path)
    monkeypatch.setattr(beside_authors, "RESULTS", tmp_path)
    monkeypatch.setattr(beside_authors, "in_a_process", measured)
    for name in ("cc", "pica"):
        monkeypatch.setattr(sys, "argv", ["beside_authors.py", f"--{name}", "there", "--workers", "1"])
        beside_authors.main()

    found = json.loads((tmp_path / "beside_authors.json").read_text(encoding="utf-8"))
    assert asked == ["cc", "pica"]
    assert {name for name, one in found["methods"].items() if one["status"] == "done"} == {"cc", "pica"}
    assert set(found["methods"]) == set(beside_authors.CONTESTS)
    assert found["command"] == "python benchmarks/beside_authors.py --cc PATH --pica PATH --workers 1"


def test_the_page_says_what_was_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from _docs import speed

    newer, older = tmp_path, tmp_path / "older"
    monkeypatch.setattr(speed, "BENCHMARKS", newer)
    monkeypatch.setattr(speed, "OLDER", older)
    assert speed.beside_authors(older) == "Not run: `python benchmarks/beside_authors.py`.\n"

    times = dict.fromkeys(("authors_seconds", "seconds_float32", "seconds"), 1.0)
    times |= dict.fromkeys(("times_faster_float32", "times_faster"), 1.0)
    done = {"status": "done", "batch": 8, "precision": "fp32", **times}
    older.mkdir()
    for folder, names in ((newer, ("cc",)), (older, ("cc", "pica"))):
        methods = {name: {"repository": f"of/{name}", **done} for name in names}
        (folder / "beside_authors.json").write_text(json.dumps({"command": "it", "methods": methods}), encoding="utf-8")
    assert "| pica | `of/pica` | not run |" in speed.beside_authors(newer)
    assert "not run" not in speed.beside_authors(older)
