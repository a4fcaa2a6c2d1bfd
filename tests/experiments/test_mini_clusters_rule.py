"""The search for a rule for the number of mini-clusters: what a rule takes, and the script from start to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def record(cells: int, confidences: tuple[float, ...], agreement: list[float]) -> dict[str, Any]:
    cal = [{"confidence": value} for value in confidences]
    same = {"seeds": list(range(len(cal))), "heads": [0.9] * len(cal), "halves": [0.6, 0.8, 0.6][: len(cal)]}
    return {"cells": cells, "cal": cal, "agreement": agreement, **same}


def test_a_rule_takes_the_confidence_that_is_nearest_to_its_target() -> None:
    import mini_clusters_rule

    found = [record(40, (0.9, 0.9), [0.5]), record(20, (0.6, 0.8), [0.5]), record(10, (0.4, 0.6), [0.48])]
    taken = {rule: mini_clusters_rule.chosen(found, rule)[0]["cells"] for rule in mini_clusters_rule.RULES}
    # 0.5 by the last one; 0.75 of the first two and 0.74 of the last; 0.7; 0.9.
    assert taken == {"agreement": 10, "bound": 20, "halves": 20, "heads": 40}
    three = [record(40, (0.9, 0.9, 0.1), [0.5, 0.5, 0.5]), record(10, (0.1, 0.1, 0.95), [0.5, 0.5, 0.5])]
    assert [one["cells"] for one in mini_clusters_rule.chosen(three, "heads")] == [40, 10, 10]


def test_the_search_from_start_to_end_and_read_again(tmp_path: Path) -> None:
    import mini_clusters_rule

    words = ["digits", "--seeds", "0", "1", "--each", "2", "6", "--forms", "pixels", "--items", "60"]
    words += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path), "--folder", str(tmp_path / "frozen")]
    mini_clusters_rule.main(words)
    content = json.loads((tmp_path / "mini_clusters_rule.json").read_text())
    assert str(tmp_path) not in json.dumps(content)
    # 60 items in one batch; the preset's four mini-clusters a group are more than half of them, so it takes half.
    assert [(one["cells"], one["images_each"], one["preset"]) for one in content["records"]] == [
        (30, 2, True), (10, 6, False),
    ]  # fmt: skip
    for one in content["records"]:
        assert 0 < one["agreement"][0] <= 1
        assert len(one["cal"]) == len(one["clu"]) == len(one["heads"]) == 2
    mini_clusters_rule.main([*words, "--done"])
    again = json.loads((tmp_path / "mini_clusters_rule.json").read_text())
    assert again["records"] == content["records"]
