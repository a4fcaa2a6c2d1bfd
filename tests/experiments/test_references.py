"""The commands that make the references' records, on little data."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from coterie.training.plan import RunSettings
from coterie.types import InputError


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    import _runs

    monkeypatch.setattr(_runs, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_pica_is_scored_before_and_after_its_calibration(
    monkeypatch: pytest.MonkeyPatch, results: Path, tmp_path: Path
) -> None:
    import pica_reference

    words = "digits -k 10 --seeds 0 --device cpu --backbone small-4 --set pica.epochs=1 --set calibrate.epochs=2"
    monkeypatch.setattr(sys, "argv", ["pica_reference.py", *words.split(), "--runs", str(tmp_path / "runs")])
    pica_reference.main()
    content = json.loads((results / "pica_reference_digits.json").read_text())
    (record,) = content["records"]
    assert set(record["heads"]) == {"cal", "primary"}
    assert record["metrics"] == record["heads"]["primary"]
    assert content["command"] == f"python experiments/pica_reference.py {words}"


def test_any_method_is_scored_before_and_after_its_calibration(
    monkeypatch: pytest.MonkeyPatch, results: Path, tmp_path: Path
) -> None:
    import _docs
    import method_reference
    from _docs import methods as tables

    words = "digits -k 10 --method finch --seeds 0 1 --device cpu --set calibrate.epochs=2"
    monkeypatch.setattr(sys, "argv", ["method_reference.py", *words.split(), "--runs", str(tmp_path / "runs")])
    method_reference.main()
    content = json.loads((results / "method_reference_finch_digits.json").read_text())
    assert content["command"] == f"python experiments/method_reference.py {words}"
    assert [record["seed"] for record in content["records"]] == [0, 1]
    for record in content["records"]:
        assert list(record["heads"]) == ["cal", "finch"]
        assert record["metrics"] == record["heads"]["finch"]
    monkeypatch.setattr(tables, "records", lambda stem: _docs.records(stem, results))
    text = tables.method("method_reference_finch_digits")
    assert "| finch |" in text
    assert content["command"] in text
    # The same folders under another command would give this run's numbers another title.
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-2], "--set", "finch.early_exit=false", *sys.argv[-2:]])
    with pytest.raises(InputError, match="was begun with overrides"):
        method_reference.main()


@pytest.mark.parametrize("script", ["cdc_reference", "mini_clusters"])
def test_each_stage_is_run_with_its_part_of_what_was_set(
    script: str, monkeypatch: pytest.MonkeyPatch, results: Path, tmp_path: Path
) -> None:
    module = importlib.import_module(script)
    asked: list[RunSettings] = []

    class Enough(Exception):
        pass

    def row(source: str, settings: RunSettings, out: Path) -> dict[str, Any]:
        """Notes what a run is asked for, instead of training it."""
        asked.append(settings)
        if settings.method == "cdc":
            raise Enough
        return {"seconds": 0.0}

    monkeypatch.setattr(module, "row", row)
    monkeypatch.setattr(module, "read_preset", lambda reference, overrides: (450, 40), raising=False)
    words = "digits -k 10 --set views.crop_scale=[0.6,1.0] --set moco.epochs=3 --set cdc.epochs=2"
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *words.split(), "--runs", str(tmp_path)])
    with pytest.raises(Enough):
        module.main()
    views = {"views.crop_scale": [0.6, 1.0]}
    assert asked[0].overrides == views | {"moco.epochs": 3}
    assert {key: asked[1].overrides[key] for key in (*views, "cdc.epochs")} == views | {"cdc.epochs": 2}
    assert not any(key.startswith("moco.") for key in asked[1].overrides)
