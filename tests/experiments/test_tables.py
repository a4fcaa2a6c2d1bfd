"""Tables of experiments: rows that are run once, whoever runs them, and what is made of their records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from coterie.contract import Facts
from coterie.methods.cdc import CDC
from coterie.methods.pica import PICA
from coterie.training.coerce import coerce
from coterie.training.plan import RunSettings
from coterie.types import InputError

SMALL = {"moco.epochs": 0, "cdc.batch_size": 32, "cdc.sub_batch": 16, "cdc.cells": 6, "cdc.hidden": 12}
SMALL |= {"cdc.epochs": 1, "cdc.init": "kmeans"}


@pytest.fixture(scope="module")
def scripts() -> Any:
    import _pages
    import _runs
    import _tables
    import cdc_tables
    import cdc_tables_rows
    import pica_tables

    return SimpleNamespace(
        runs=_runs, pages=_pages, tables=_tables, cdc=cdc_tables, rows=cdc_tables_rows, pica=pica_tables
    )


def study_of(scripts: Any, runs: Path, **overrides: Any) -> Any:
    name, file, labels, family = scripts.tables.draw("digits", 64, runs)
    changed = {key.replace("_", ".", 1): value for key, value in overrides.items()}
    return scripts.tables.Study(name, file, labels, family, RunSettings(10, calibrate=False), runs, SMALL | changed)


def test_images_are_drawn_by_the_seed_alone_and_keep_their_labels(scripts: Any, tmp_path: Path) -> None:
    name, file, labels, family = scripts.tables.draw("digits", 100, tmp_path)
    again = scripts.tables.draw("digits", 100, tmp_path / "again")
    assert (name, family) == ("digits-100", "glyph")
    assert file.read_bytes() == again[1].read_bytes()
    digits = load_digits()
    found = np.load(file)
    assert found.shape == (100, 8, 8)
    for image, label in zip(found[:20], labels.codes[:20], strict=True):
        same = (np.rint(digits.images * 255 / 16) == image).all((1, 2))
        assert set(digits.target[same]) == {label}
    other = scripts.tables.draw("digits", 100, tmp_path / "other", seed=1)
    assert file.read_bytes() != other[1].read_bytes()


def test_more_images_than_there_are_is_an_input_error(scripts: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only 1797 images"):
        scripts.tables.draw("digits", 1798, tmp_path)


def test_a_claim_keeps_others_away_until_it_ends(scripts: Any, tmp_path: Path) -> None:
    file = tmp_path / "records" / "row-0.json"
    with scripts.runs.claim(file, wait=False) as first:
        with scripts.runs.claim(file, wait=False) as second:
            assert (first, second) == (True, False)
        with scripts.runs.claim(file.with_name("row-1.json"), wait=False) as other:
            assert other
    with scripts.runs.claim(file, wait=False) as again:
        assert again


def test_a_row_is_run_once_and_its_record_is_enough(scripts: Any, tmp_path: Path) -> None:
    study, row = study_of(scripts, tmp_path), scripts.tables.Row("plain")
    same = scripts.tables.Row("the same, other head", head="clu")
    table = scripts.tables.Table("one", "One", [row, same], ("acc", "selected"))
    found = scripts.tables.work(study, [table], [0, 1])
    assert set(found) == {("cdc", 0), ("cdc", 1)}
    assert found["cdc", 0]["n"] == 64
    assert set(found["cdc", 0]["heads"]) == {"cal", "clu"}
    assert found["cdc", 0]["metrics"] != found["cdc", 1]["metrics"]
    for folder in ("moco", "cdc-0", "cdc-1"):
        shutil.rmtree(tmp_path / folder)
    assert scripts.tables.work(study, [table], [0, 1]) == found
    assert not (tmp_path / "cdc-0").exists()
    with pytest.raises(InputError, match="made with other settings"):
        scripts.tables.work(study_of(scripts, tmp_path, cdc_cells=7), [table], [0])


def test_a_row_that_another_process_makes_is_left_to_it(scripts: Any, tmp_path: Path) -> None:
    study, row = study_of(scripts, tmp_path), scripts.tables.Row("initialised", {"epochs": 0})
    scripts.tables.first_stage(study)
    with scripts.runs.claim(tmp_path / "records" / "cdc+epochs=0-0.json", wait=False):
        assert scripts.tables.row_record(study, row, 0, wait=False) is None
    assert scripts.tables.row_record(study, row, 0, wait=False) is not None


def test_a_run_that_fails_is_a_result_and_the_page_says_so(scripts: Any, tmp_path: Path) -> None:
    rows = [
        scripts.tables.Row("initialised", {"epochs": 0}, paper={"STL-10": (93.0, None)}),
        scripts.tables.Row("nobody is sure enough", {"threshold": 1.0}),
    ]
    study = study_of(scripts, tmp_path)
    table = scripts.tables.Table("two", "Two rows", rows, ("acc", "ece"), ("ACC", "ECE"), "A note.")
    found = scripts.tables.work(study, [table], [0, 1])
    failed = found["cdc+threshold=1.0", 0]
    assert "selected no item" in failed["failed"]
    assert failed["metrics"] is None
    scripts.pages.write_table(table, study, found, [0, 1], "the command", tmp_path / "results")
    content = json.loads((tmp_path / "results" / "two_digits-64.json").read_text())
    assert [row["title"] for row in content["rows"]] == ["initialised", "nobody is sure enough"]
    assert len(content["rows"][0]["records"]) == 2
    assert content["start"]["method"] == "moco"
    lines = (tmp_path / "results" / "two_digits-64.md").read_text().splitlines()
    accuracies = [found["cdc+epochs=0", seed]["metrics"]["acc"] for seed in (0, 1)]
    (row,) = [line for line in lines if line.startswith("| initialised")]
    assert f"| {scripts.pages.mean_and_deviation(accuracies)} |" in row
    assert row.endswith("| 93.0 / – |")
    (row,) = [line for line in lines if line.startswith("| nobody")]
    assert "| – (2 of 2 failed) | – |" in row
    assert {"# Two rows", "A note.", "`the command`"} <= set(lines)


def test_means_are_in_percent_with_the_samples_deviation(scripts: Any) -> None:
    assert scripts.pages.mean_and_deviation([0.5]) == "50.0"
    assert scripts.pages.mean_and_deviation([0.5, 0.6]) == "55.0 ± 7.1"
    assert scripts.pages.mean_and_deviation([]) == "–"


def test_every_row_of_the_papers_tables_is_a_setting_that_can_work(scripts: Any) -> None:
    facts = Facts(10_000, 10, "images", "cpu", side=28)
    base = coerce(CDC, {"cells": 100, "sub_batch": 250}, "cdc")
    known = scripts.rows.tables(vars(base), 10)
    assert set(known) == set(scripts.cdc.NAMES)
    for table in known.values():
        assert "cdc" in [row.key for row in table.rows]
        assert len({(row.key, row.head) for row in table.rows} | {row.title for row in table.rows}) >= len(table.rows)
        for row in table.rows:
            coerce(CDC, vars(base) | dict(row.settings), "cdc").check(facts)
            assert all(len(numbers) == len(table.printed) for numbers in row.paper.values())
    batches = [row.title for row in known["5"].rows]
    assert batches[:3] == ["B = 500, K = 80", "B = 500, K = 100", "B = 500, K = 120"]
    assert [row.title for row in known["6"].rows][:2] == ["H = 256", "H = 384"]
    assert [row.title for row in known["fig5"].rows] == [f"K = {c}" for c in (1, 10, 20, 50, 100, 200, 500, 1000)]


def test_the_command_line_makes_a_table_from_start_to_end(
    scripts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["digits", "--items", "64", "--tables", "8", "--seeds", "0", "--runs", str(tmp_path / "runs")]
    words += ["--results", str(tmp_path / "results"), *(f"--set={name}={value}" for name, value in SMALL.items())]
    scripts.cdc.main(words)
    page = (tmp_path / "results" / "cdc_table8_digits-64.md").read_text()
    assert page in capsys.readouterr().out
    assert "| CDC + PPF |" in page
    assert str(tmp_path) not in page


def test_picas_ablations_start_from_scratch_and_share_the_full_row(
    scripts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["digits", "--items", "64", "--tables", "2", "3", "--seeds", "0", "--runs", str(tmp_path / "runs")]
    scripts.pica.main([*words, "--results", str(tmp_path / "results"), "--set=pica.epochs=1"])
    assert {file.stem for file in (tmp_path / "runs" / "records").glob("*.json")} == {
        "pica-0",
        "pica+entropy_weight=0.0-0",
        "pica+over_clustering=False-0",
    }
    page = (tmp_path / "results" / "pica_table2_digits-64.md").read_text()
    assert page in capsys.readouterr().out
    assert "All rows start from scratch" in page
    assert json.loads((tmp_path / "results" / "pica_table2_digits-64.json").read_text())["start"] is None
    facts = Facts(10_000, 10, "images", "cpu", side=28)
    for table in scripts.pica.tables().values():
        assert table.rows[0].key == "pica"
        for row in table.rows:
            coerce(PICA, dict(row.settings), "pica").check(facts)


def test_a_part_of_a_named_set_has_its_published_row_and_the_whole_is_the_set_itself(
    scripts: Any, tmp_path: Path
) -> None:
    preset_on, trained_on = scripts.runs.preset_on, scripts.tables.trained_on
    assert preset_on("paper", "cdc", "stl10") == "paper:stl10"
    assert preset_on("paper", "kmeans", "stl10") == "paper"  # it has no rows
    assert preset_on("paper", "supervised", "stl10") == "paper"  # no method
    assert preset_on("paper:cifar10", "cdc", "stl10") == "paper:cifar10"
    assert preset_on("practical", "cdc", "stl10") == "practical"
    file = tmp_path / "digits-100.npy"
    assert trained_on("digits", 0, file) == "digits"
    assert trained_on("digits", 100, file) == str(file)
    assert trained_on("photos.parquet", 0, file) == str(file)


def test_tables_of_published_settings_change_what_those_are(scripts: Any, tmp_path: Path) -> None:
    _, file, _, _ = scripts.tables.draw("digits", 100, tmp_path)
    base = scripts.cdc.base_settings(file, 10, {}, "paper:cifar20")
    assert (base["cells"], base["batch_size"], base["epochs"]) == (40, 1000, 100)
    rows = {row.title: row.settings for row in scripts.rows.tables(base, 20)["5"].rows}
    assert rows["B = 1000, K = 40"] == {}
    assert rows["B = 500, K = 32"] == {"batch_size": 500, "cells": 32}
    assert scripts.cdc.base_settings(file, 10, {})["batch_size"] == 100  # practical: no more than there are items


def test_rows_of_a_board_are_asked_for_by_the_published_rows_of_their_set(scripts: Any, tmp_path: Path) -> None:
    import _rows

    lines = {name: _rows.Line(name, name, "moco" if name == "cdc" else None) for name in ("moco", "kmeans", "cdc")}
    base = RunSettings(10, preset="paper")
    rows = _rows.Rows("stl10-500", "stl10-500.npy", base, tmp_path, {}, lines, (), part_of="stl10")
    asked = {name: rows.settings(name, 0).preset for name in lines}
    assert asked == {"moco": "paper:stl10", "kmeans": "paper", "cdc": "paper:stl10"}


@pytest.mark.parametrize(
    ("words", "k"),
    [(["cifar20"], 20), (["imagenet-dogs"], 15), (["cifar20", "-k", "7"], 7), (["x.parquet"], 10), ([], 10)],
)
def test_a_named_set_has_its_own_number_of_groups(scripts: Any, words: list[str], k: int) -> None:
    given = scripts.runs.parser_for_drawn("", Path("runs")).parse_args(words)
    assert given.k == k
    assert f"-k {k} " in scripts.runs.command_for_drawn("board", given)
