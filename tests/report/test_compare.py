"""Runs side by side: what stands in the table, what is averaged, which agree, and the page."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from coterie.cli.compare import print_comparison
from coterie.report.compare import METRICS, compare, recipe
from coterie.report.compare_page import render_comparison
from coterie.types import InputError

MakeRun = Callable[..., Path]
AddRun = Callable[..., Path]


@pytest.fixture
def add_run(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> AddRun:
    """Write one more run folder, with these labels and metrics; other keywords change `run.yaml`."""
    parent = tmp_path_factory.mktemp("runs")

    def add(name: str, labels: list[int], metrics: dict[str, Any] | None = None, **run: Any) -> Path:
        path = parent / name
        shutil.copytree(make_run(**({"n": len(labels), "k": min(4, len(labels))} | run)), path)
        columns = {"id": [str(row) for row in range(len(labels))], "label": pa.array(labels, pa.int32())}
        confidence = np.linspace(0.5, 1, len(labels))
        pq.write_table(pa.table(columns | {"confidence": confidence}), path / "result.parquet")
        if metrics is not None:
            (path / "metrics.json").write_text(json.dumps(metrics))
        return path

    return add


def test_a_row_says_what_the_run_folder_says(add_run: AddRun) -> None:
    # A record may say the precision without its reason.
    path = add_run("one", [0, 1, 1, 2], {"acc": 0.5, "nmi": 0.25, "auroc": None}, precision="bf16")
    (row,) = compare([path]).rows
    assert (row.run, row.data, row.method, row.stages) == ("one", "photos", "moco", "moco")
    assert (row.n, row.k, row.seed, row.epochs, row.seconds) == (4, 4, 7, [3], 75.0)
    assert row.metrics == {"acc": 0.5, "nmi": 0.25, "ari": None, "ece": None, "auroc": None}
    assert (row.confidence, row.empty) == (pytest.approx(0.75), 1)


def test_it_is_said_by_which_labels_the_runs_were_measured(add_run: AddRun) -> None:
    measured = {"acc": 0.5, "nmi": 0.5, "confidence": 0.75, "labels": "column a of t.csv"}
    paths = [add_run(name, [0, 1, 1], measured) for name in ("one", "two")] + [add_run("bare", [0, 1, 1])]
    assert compare(paths).notes == ["Labels: column a of t.csv."]
    others = measured | {"labels": "column b of t.csv. They equal the run's own groups"}
    found = compare(
        [*paths, add_run("three", [0, 1, 0], others), add_run("four", [0, 1, 0], measured | {"labels": ""})]
    )
    assert found.notes == [
        "Labels of one, two: column a of t.csv.",
        "Labels of three: column b of t.csv. They equal the run's own groups.",
    ]
    assert [row.labels for row in found.rows[2:]] == ["", others["labels"], ""]
    assert all(note in " ".join(render_comparison(found).split()).replace("&#39;", "'") for note in found.notes)


def test_a_row_says_how_many_epochs_were_made(add_run: AddRun) -> None:
    stages = [{"name": "ae", "epochs": 4}, {"name": "dec", "epochs": 90}]
    path = add_run("early", [0, 1], stages=stages)
    lines = [{"stage": "dec", "epoch": epoch, "epochs": 90} for epoch in (1, 2)]
    (path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert compare([path]).rows[0].epochs == [4, 2]
    (path / "history.jsonl").write_text("x\n\n{}\n")
    found = compare([path, add_run("whole", [0, 1])])
    assert [row.run for row in found.rows] == ["whole"]
    assert "history.jsonl is damaged" in found.left_out[0].reason
    (path / "history.jsonl").unlink()
    assert compare([path]).rows[0].epochs == [4, 90]


def slow_agreement(first: list[int], second: list[int], k: int) -> float:
    """The best share over all renumberings of the groups."""
    return max(float(np.mean([m[a] == b for a, b in zip(first, second, strict=True)])) for m in permutations(range(k)))


def test_agreement_is_blind_to_the_numbers_of_groups(add_run: AddRun) -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 4, 40).tolist()
    renamed = [(label + 1) % 4 for label in first]
    other = [label if rng.random() < 0.6 else int(rng.integers(0, 4)) for label in first]
    paths = [add_run(name, labels) for name, labels in (("a", first), ("b", renamed), ("c", other))]
    pairs = {(pair.first, pair.second): pair for pair in compare(paths).agreement}
    assert pairs.keys() == {("a", "b"), ("a", "c"), ("b", "c")}
    assert (pairs["a", "b"].accuracy, pairs["a", "b"].ari) == (1, 1)
    assert pairs["a", "c"].accuracy == pytest.approx(slow_agreement(first, other, 4))
    assert pairs["b", "c"].accuracy == pytest.approx(slow_agreement(renamed, other, 4))
    assert pairs["a", "c"].ari == pytest.approx(pairs["b", "c"].ari)
    turned = {(pair.second, pair.first): pair for pair in compare(paths[::-1]).agreement}
    assert {key: pair.accuracy for key, pair in turned.items()} == {key: pair.accuracy for key, pair in pairs.items()}


def test_runs_over_different_data_have_no_agreement(add_run: AddRun) -> None:
    source = {"name": "birds", "n": 4, "spec": {"kind": "images"}, "fingerprint": "cd", "skipped": []}
    paths = [add_run("a", [0, 1, 0, 1]), add_run("b", [0, 1, 0, 1], source=source)]
    (pair,) = compare(paths).agreement
    assert (pair.accuracy, pair.ari) == (None, None)
    page = render_comparison(compare(paths))
    assert "different data" in page


def test_different_numbers_of_groups_can_agree(add_run: AddRun) -> None:
    (pair,) = compare([add_run("a", [0, 0, 1, 1]), add_run("b", [0, 1, 2, 2], k=3)]).agreement
    assert pair.accuracy == 0.75


def test_seeds_are_averaged_and_settings_are_not(add_run: AddRun) -> None:
    stage = {"name": "moco", "epochs": 9, "settings": {"queue": 64}}
    paths = [add_run(f"s{seed}", [0, 1, 2, 3], {"acc": 0.5 + seed / 10}, seed=seed) for seed in (2, 0, 1)]
    paths += [
        add_run("again", [0, 1, 2, 3], {"acc": 0.9}, seed=0),
        add_run("longer", [0, 1, 2, 3], seed=5, stages=[stage]),
        add_run("fewer groups", [0, 1, 2, 2], seed=6, k=3),
    ]
    (summary,) = compare(paths).summaries
    assert (summary.seeds, summary.runs) == ([0, 1, 2], ["s0", "s1", "s2"])
    assert summary.mean["acc"] == pytest.approx(0.6)
    assert summary.std["acc"] == pytest.approx(0.1)
    assert (summary.mean["ece"], summary.std["ece"]) == (None, None)
    assert summary.std["seconds"] == 0


def test_a_number_that_one_seed_lacks_is_not_averaged(add_run: AddRun) -> None:
    paths = [add_run("a", [0, 1], {"acc": 0.5}, seed=0), add_run("b", [0, 1], None, seed=1)]
    (summary,) = compare(paths).summaries
    assert summary.mean["acc"] is None
    assert summary.mean["confidence"] == pytest.approx(0.75)


def test_runs_from_different_backbones_of_one_recipe_are_seeds_of_one_recipe(add_run: AddRun) -> None:
    longer = [{"name": "moco", "epochs": 9, "settings": {"queue": 64}}]
    before = [
        add_run("m0", [0, 1], seed=0),
        add_run("m1", [0, 1], seed=1),
        add_run("m2", [0, 1], seed=2, stages=longer),
    ]
    runs = [add_run(f"c{i}", [0, 1], seed=i, settings={"init": str(path)}) for i, path in enumerate(before)]
    own = [recipe(yaml.safe_load((path / "run.yaml").read_text())) for path in runs]
    assert own[0] == own[1] != own[2]
    summaries = compare(runs).summaries
    assert [summary.runs for summary in summaries] == [["c0", "c1"]]


def test_the_run_to_start_from_is_found_from_any_folder(add_run: AddRun, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [add_run(f"m{i}", [0, 1], seed=i) for i in (0, 1)]
    runs = [
        add_run(f"c{i}", [0, 1], seed=i, settings={"init": f"runs/m{i}"}, beginning={"path": str(path)})
        for i, path in enumerate(before)
    ]
    monkeypatch.chdir("/")
    assert [summary.runs for summary in compare(runs).summaries] == [["c0", "c1"]]


def test_a_folder_given_twice_counts_once_and_equal_names_become_paths(add_run: AddRun) -> None:
    path = add_run("a", [0, 1, 1])
    assert [row.run for row in compare([path, path / "." / ""]).rows] == ["a"]
    copied = path.parent / "other" / "a"
    shutil.copytree(path, copied)
    assert [row.run for row in compare([path, copied]).rows] == [str(path), str(copied)]


class Page(HTMLParser):
    """Tags with their attributes, cells of tables by row, and all text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] = re.sub(r"\s+", " ", self.rows[-1][-1] + data).lstrip()


def test_the_page_is_one_file_with_all_numbers(add_run: AddRun) -> None:
    metrics = {"acc": 0.875, "nmi": 0.5, "ari": 0.25, "ece": 0.125, "auroc": 0.9}
    paths = [
        add_run("<b>bold</b>", [0, 1, 2, 3] * 5, metrics, seed=0),
        add_run("second", [0, 1, 2, 2] * 5, metrics | {"acc": 0.625}, seed=1),
        add_run("third", [1, 0, 3, 2] * 5, seed=2, k=5),
    ]
    source = render_comparison(compare(paths))
    page = Page(source)
    assert "<b>bold</b>" not in source
    for _tag, attributes in page.tags:
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert not re.search("https?:|url\\(|@import", source)
    links = {(a["href"] or "")[1:] for tag, a in page.tags if tag == "a"}
    assert links <= {a.get("id") for _, a in page.tags}
    cells = {cell.rstrip().replace("\N{NO-BREAK SPACE}", " ") for row in page.rows for cell in row}
    assert {"87.5%", "62.5%", "1 min 15 s", "75.0% ± 17.7", "100.0%1.00", "75.0%0.68", "1, 2"} <= cells
    assert "Two runs over the same data agree on 75.0% to 100.0% of the items." in source
    third = next(row for row in page.rows if row and row[0].endswith("thirdphotos"))
    assert third[-len(METRICS) :] == ["–"] * len(METRICS)


def test_a_page_without_labels_or_with_one_run_leaves_out_what_it_has_not(add_run: AddRun) -> None:
    path = add_run("one", [0, 1, 2, 3])
    alone = render_comparison(compare([path]))
    assert "ECE" not in alone
    assert 'id="agreement"' not in alone
    assert 'id="seeds"' not in alone
    both = render_comparison(compare([path, add_run("two", [0, 1, 2, 3], seed=8)]))
    assert "No run has been compared with true labels." in both
    assert 'id="agreement"' in both


def test_what_is_no_finished_run_is_left_out_with_its_reason(add_run: AddRun, tmp_path: Path) -> None:
    good, half = add_run("good", [0, 1]), add_run("half", [0, 1], status="running")
    no_table, broken = add_run("no-table", [0, 1]), add_run("broken", [0, 1])
    (no_table / "result.parquet").unlink()
    (broken / "run.yaml").write_text("stages: [1]")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    found = compare([tmp_path / "empty", half, good, no_table, tmp_path / "notes.txt", broken])
    assert [row.run for row in found.rows] == ["good"]
    reasons = dict(zip(["empty", "half", "no-table", "notes.txt", "broken"], found.left_out, strict=True))
    assert "holds no run.yaml" in reasons["empty"].reason
    assert "is not finished, its status is 'running'" in reasons["half"].reason
    assert "it has no result.parquet" in reasons["no-table"].reason
    assert "holds no run.yaml" in reasons["notes.txt"].reason
    assert "stages.0 cannot be 1" in reasons["broken"].reason
    assert found.as_json()["left_out"][1]["id"] == str(half)
    assert "its status is &#39;running&#39;" in render_comparison(found)
    with pytest.raises(InputError, match=r"No finished run to compare: .*holds no run\.yaml.*\(2 such paths\.\)"):
        compare([tmp_path / "empty", half])
    with pytest.raises(InputError, match="there is no such folder"):
        compare([good, tmp_path / "goood"])


def test_a_run_that_goes_on_from_itself_or_in_a_circle_has_a_recipe(add_run: AddRun) -> None:
    first = add_run("first", [0, 1, 2, 3])
    second = add_run("second", [0, 1, 2, 3], settings={"init": str(first)})
    add_run_again = (first / "run.yaml").read_text() + f"settings: {{init: {second}}}\n"
    (first / "run.yaml").write_text(add_run_again)
    alone = add_run("alone", [0, 1, 2, 3])
    (alone / "run.yaml").write_text((alone / "run.yaml").read_text() + f"settings: {{init: {alone}/../alone}}\n")
    found = compare([first, second, alone])
    assert [row.run for row in found.rows] == ["first", "second", "alone"]
    assert found.summaries == []


@pytest.mark.parametrize("there", [True, False])
def test_a_start_that_cannot_be_read_counts_by_its_name(add_run: AddRun, tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "run.yaml").write_text("[1, 2")
    runs = [add_run(str(seed), [0, 1, 2, 3], seed=seed, settings={"init": str(tmp_path)}) for seed in (0, 1)]
    (summary,) = compare(runs).summaries
    assert summary.seeds == [0, 1]


@pytest.mark.parametrize(
    ("used", "count"), [({"judged": 12}, 12), ({"merges": 2}, 2), ({"file": "x"}, 1), ({}, 0), (None, 0)]
)
def test_a_run_that_people_took_part_in_is_told_apart(add_run: AddRun, used: Any, count: int) -> None:
    paths = [add_run("a", [0, 1, 0]), add_run("b", [0, 1, 1], seed=1, labels_used=used)]
    found = compare(paths)
    assert [row.labels_used for row in found.rows] == [0, count]
    assert len(found.summaries) == (0 if count else 1)  # it is no further seed of the plain run's recipe
    assert ("Runs in which judged labels took part" in render_comparison(found)) == bool(count)


def test_a_person_reads_the_same_numbers(add_run: AddRun, capsys: pytest.CaptureFixture[str]) -> None:
    measured = {"acc": 0.5, "nmi": 0.25, "ari": 0.125, "ece": 0.1, "auroc": None}
    paths = [add_run("a", [0, 1, 1, 2], measured, seed=0), add_run("b", [0, 1, 1, 2], seed=1, calibrated=False)]
    spec = {"kind": "images", "channels": 3, "height": 8, "width": 8, "dim": 5}
    other = {"name": "other", "n": 4, "spec": spec, "fingerprint": "cd", "skipped": []}
    paths += [add_run("c", [0, 1, 2, 2], seed=2), add_run("d", [0, 1, 2, 2], seed=None, seconds=None, source=other)]
    found = compare(paths)
    print_comparison(found)
    runs, seeds, pairs = (
        [re.split(" {2,}", line.strip()) for line in part.strip().splitlines()]
        for part in capsys.readouterr().out.split("\n\n")
    )
    assert " ".join(runs[1]) == "a photos moco 4 4 0 3 75 0.500 0.250 0.125 0.100 - 0.750 1"
    assert " ".join(runs[2]) == "b photos moco 4 4 1 3 75 - - - - - 0.750* 1"
    assert " ".join(runs[4]) == "d other moco 4 4 - 3 - - - - - - 0.750 1"
    assert runs[5] == ["* not calibrated: it does not say how many items are wrong"]
    assert seeds[2] == ["photos", "moco", "0,1,2", *5 * "-", "0.750 ± 0.000*", "a, b, c"]
    assert [row for row in pairs if len(row) == 4][1:] == [
        ["a", "b", "1.000", "1.000"],
        ["a", "c", "0.750", "-0.200"],
        ["a", "d", "-", "-"],
        ["b", "c", "0.750", "-0.200"],
        ["b", "d", "-", "-"],
        ["c", "d", "-", "-"],
    ]
    lede = re.search(r'<p class="lede">(.*?)</p>', render_comparison(found), re.DOTALL)
    assert lede is not None
    assert lede[1].strip() == (
        "Two runs over the same data agree on 75.0% to 100.0% of the items. Runs over different data cannot be held "
        "against each other item by item. Confidences marked * are not calibrated."
    )
    alone = render_comparison(compare(paths[2:3]))
    assert '<p class="lede">No run has been compared with true labels. </p>' in alone


def test_means_over_seeds_of_such_runs_stand_in_a_table_of_their_own(
    add_run: AddRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """`docs/calibrate.md` says so of all that `compare` shows; the means stood beside label-free ones."""
    plain = [add_run(f"plain-{seed}", [0, 1, 0], seed=seed) for seed in (0, 1)]
    used = {"labels_used": {"judged": 12}, "calibrated": False}
    taught = [add_run(f"taught-{seed}", [0, 1, 0], seed=seed, **used) for seed in (0, 1)]
    found = compare([*plain, *taught])
    assert [(summary.runs[0], summary.labels_used, summary.calibrated) for summary in found.summaries] == [
        ("plain-0", 0, True),
        ("taught-0", 12, False),
    ]
    print_comparison(found)
    free, judged = capsys.readouterr().out.split("\nOver seeds")[1:]
    assert ("plain-0, plain-1" in free, "taught" in free) == (True, False)
    assert ("taught-0, taught-1" in judged, "judged labels took part" in judged) == (True, True)
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', render_comparison(found), re.DOTALL))
    assert ("plain-0, plain-1" in sections["seeds"], "taught" in sections["seeds"]) == (True, False)
    assert "taught-0, taught-1" in sections["judged"]
    alone = render_comparison(compare(taught))
    assert 'id="seeds"' not in alone
    assert 'href="#seeds"' not in alone
