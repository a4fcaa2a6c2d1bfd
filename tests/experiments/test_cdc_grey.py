"""The search for grey pictures: from start to end on digits, and read again without training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def test_recipes_are_compared_without_labels_and_with_those_of_other_sets(tmp_path: Path) -> None:
    import cdc_grey

    digits = load_digits()
    images = (digits.images[:150] * 15).astype(np.uint8)
    np.savez(tmp_path / "some.npz", images=images, labels=digits.target[:150])
    words = [str(tmp_path / "some.npz"), "-k", "10", "--recipes", "practical", "blur", "--set=moco.epochs=1"]
    words += ["--backbone=small-4"]
    words += ["--set=cdc.epochs=1", f"--runs={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}"]
    cdc_grey.main([*words, "--seeds", "0", "1"])
    file = tmp_path / "results" / "cdc_grey.json"
    text = file.read_text()
    assert str(tmp_path) not in json.loads(text)["command"]
    rows = json.loads(text)["records"]
    assert [(row["recipe"], row["seed"]) for row in rows] == [
        ("practical", 0), ("practical", 1), ("blur", 0), ("blur", 1),
    ]  # fmt: skip
    for row in rows:
        assert 0 < row["metrics"]["agreement"] < 1
        assert 0 <= row["metrics"]["stability"] <= 1
        assert "labels" not in row
    cdc_grey.main([*words, "--seeds", "0", "1", "2", "--done"])
    assert [row["seed"] for row in json.loads(file.read_text())["records"]] == [0, 1, 0, 1]
