from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coterie.catalogue import method_class
from coterie.training.plan import RunSettings

pytestmark = pytest.mark.usefixtures("narrow_autoencoders")


@pytest.fixture(scope="module")
def script() -> Any:
    import autoencoders

    return autoencoders


def test_rows_come_after_those_that_they_start_from(script: Any) -> None:
    from _rows import with_starts

    assert with_starts(script.LINES, ["p2p3"]) == ["acai", "rdc", "p2p3"]
    assert with_starts(script.LINES, ["vade", "finch"]) == ["finch", "ae", "vade"]
    order = list(script.LINES)
    for name, line in script.LINES.items():
        method_class(line.method)
        assert line.start is None or order.index(line.start) < order.index(name)


def test_the_page_has_the_mean_over_seeds_beside_the_papers_number(script: Any) -> None:
    common = {"data": "digits", "n": 5, "k": 2, "machine": {"processor": "one", "threads": 1}}
    numbers = {"acc": 0.5, "f1": 0.4, "nmi": 0.3, "ari": 0.2, "ece": 0.1}
    records = [
        {**common, "row": "rdc", "seed": seed, "seconds": 10.0 * (seed + 1), "metrics": numbers | {"acc": acc}}
        for seed, acc in enumerate((0.5, 0.6))
    ]
    line = next(line for line in script.page(records, "command").splitlines() if line.startswith("| R-DC (P1"))
    assert (
        line == "| R-DC (P1 + P2) | 55.0 ± 7.1 | 40.0 ± 0.0 | 30.0 ± 0.0 | 20.0 ± 0.0 | 10.0 ± 0.0 | 15 | 0, 1 | 66.6 |"
    )


def test_a_record_is_made_once_and_rows_go_on_from_the_one_before(script: Any, tmp_path: Path) -> None:
    short = {"ae.epochs": 1, "dec.epochs": 1}
    ground = RunSettings(10, backbone="ae", calibrate=False)
    study = script.Rows("digits", "digits", ground, tmp_path, short, script.LINES, script.METRICS)
    first = study.records(["ae", "dec"], [0])
    assert [(record["row"], record["starts_from"], record["k"]) for record in first] == [
        ("ae", None, 10),
        ("dec", "ae", 10),
    ]
    assert all(0 <= record["metrics"]["acc"] <= 1 for record in first)
    (tmp_path / "digits-dec-0" / "run.yaml").unlink()  # no longer needed
    assert study.records(["ae", "dec"], [0]) == first


def test_a_search_changes_one_thing_at_a_time_from_the_same_phase_1(script: Any, tmp_path: Path) -> None:
    import rdc_search

    two = {"as it is": {"rdc.epochs": 1}, "κ = 1": {"rdc.epochs": 1, "rdc.image_weight": 1.0}}
    ground, short = RunSettings(10, calibrate=False), {"acai.epochs": 1}
    lines, metrics = script.LINES, script.METRICS
    search = rdc_search.Search("digits", "digits", ground, tmp_path, short, lines, metrics, changes=two)
    first = search.first([0])
    found = [search.variant(title, 0) for title in two]
    assert [record["settings"]["image_weight"] for record in found] == [30.0, 1.0]
    assert [record["starts_from"] for record in found] == ["acai", "acai"]
    assert all(0 < record["metrics"]["agreement"] < 1 for record in [*first, *found])
    text = rdc_search.page(first, found, "command")
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][2:] == [
        "phase 1 alone",
        *two,
    ]
