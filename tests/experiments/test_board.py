from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from coterie.catalogue import method_names
from coterie.training.plan import RunSettings
from coterie.types import InputError, ItemSpec
from helpers import forked

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def scripts() -> Any:
    import _boards
    import board
    from _docs import boards as tables

    return board, _boards, tables


def test_every_row_is_the_papers_and_comes_after_what_it_starts_from(scripts: Any) -> None:
    _, boards, _ = scripts
    own = {"CC, then CDC"}
    for board in boards.BOARDS.values():
        (_, printed), titles = board.beside("digits"), [shown.title for shown in board.shown]
        # CDC's Table 13 prints what CDC changes, and no number of what it begins with.
        begun = {title for title in titles if board.paper == "cdc13" and "CDC" not in title}
        assert set(printed) - {"PICA (best)"} == {*titles, *board.quoted} - own - begun
        order = list(board.lines)
        assert all(
            line.start is None or order.index(line.start) < order.index(row) for row, line in board.lines.items()
        )
        assert {shown.row for shown in board.shown} == set(order)
        for stated in board.orders:
            assert {*stated.lower, *stated.higher} <= set(titles)


def test_the_boards_have_every_system_of_the_papers_that_is_here(scripts: Any) -> None:
    _, boards, _ = scripts
    in_boards = {line.method for board in boards.BOARDS.values() for line in board.lines.values()}
    # R-DC's figures and other tables; frozen features
    of_no_table = {"adec", "dcn", "deepfinch", "depict", "sela", "simclr", "vmf", "temi", "turtle"}
    assert set(method_names()) - of_no_table <= in_boards


def record(row: str, seed: int, acc: float, ece: float, **more: Any) -> dict[str, Any]:
    numbers = {"acc": acc, "nmi": 0.5, "ari": 0.5, "ece": ece, "ece_debiased": ece, "auroc": 0.5}
    return {
        "data": "digits-10",
        "row": row,
        "seed": seed,
        "n": 10,
        "k": 2,
        "failed": None,
        "metrics": numbers,
        "heads": {"softmax": numbers, "cal": {**numbers, "ece": ece / 2}},
        "calibrated_after": True,
        "backbone": "small-8",
        "seconds": 10.0 * (seed + 1),
        "epochs": {"moco": 3, row: 2},
        "peak_mib": 100,
        **more,
    }


def test_a_table_has_our_means_beside_the_papers_numbers_and_says_what_holds(scripts: Any) -> None:
    _, _, docs = scripts
    runs = [record("scan", 0, 0.5, 0.2), record("scan", 1, 0.6, 0.2), record("scan3", 0, 0.55, 0.3)]
    runs += [record("spice3", 0, 0.5, 0.2), record("spice", 0, 0.5, 0.2)]
    runs.append({"data": "digits-10", "row": "cc", "seed": 0, "failed": "The run collapsed."})
    content = {"command": "python experiments/board.py", "machine": {"processor": "one", "threads": 1}, "records": runs}

    def told() -> tuple[str, dict[str, str]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(docs, "records", lambda stem: content)
            text = docs.board("board_cdc_digits-10")
        return text, {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}

    text, lines = told()
    assert lines["SCAN-2"].split(" | ")[1] == "55.0 ± 7.1"
    assert lines["SCAN-2"].split(" | ")[7:11] == ["10.0 ± 0.0", "15", "100", "3 + 2"]
    assert lines["SCAN-2"].split(" | ")[12] == "processor"
    assert lines["SCAN-2"].split(" | ")[13].startswith("84.1 / ")
    assert "failed: The run collapsed." in lines["CC"]
    assert "TCL" not in lines, "of a board that has hardly begun, the other rows are a sentence"
    assert "Not run: K-means, " in text
    assert ", TCL, " in text
    # Seed 0 is all that both have; with seed 1 SCAN-2 would be no lower.
    assert lines["SCAN-2 below SCAN-3"].endswith("| holds | SCAN-2 50.0, SCAN-3 55.0 (seed 0) |")
    assert "| does not hold |" in lines["SPICE-3 below SPICE-2 by ECE"]  # equal
    assert "| does not hold |" in lines["SCAN-3 below SCAN-2 by ECE"]
    assert "| not run |" in lines["SCAN-2 below CC"]
    runs += [record(row, 0, 0.5, 0.2) for row in ("kmeans", "moco", "simsiam", "byol", "dmicc", "propos", "conr")]
    text, lines = told()
    assert "Not run: " not in text
    assert "| not run |" in lines["TCL"]


def test_a_board_of_one_row_has_no_table_of_orders(scripts: Any) -> None:
    _, _, docs = scripts
    content = {"command": "it", "machine": {"processor": "one", "threads": 1}, "records": [record("cc", 0, 0.5, 0.2)]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docs, "records", lambda stem: content)
        text = docs.board("board_cdc_digits-10")
    assert "what the paper's table says" not in text


def test_only_orders_that_the_paper_prints_are_called_its_own(scripts: Any) -> None:
    _, boards, _ = scripts
    for paper, board in boards.BOARDS.items():
        if paper == "cdc13":
            continue  # it prints differences
        for data in ("digits", *boards.SETS):
            _, printed = board.beside(data)
            for order in filter(lambda order, printed=printed: order.stated(printed), board.orders):
                name = "ACC" if order.metric == "acc" else "ECE"
                pairs = [(printed.get(low, {}), printed.get(high, {})) for low in order.lower for high in order.higher]
                assert all(low[name] < high[name] for low, high in pairs if name in low and name in high), (data, order)
    cdc = boards.BOARDS["cdc"]
    told = [order.text for order in cdc.orders if order.stated(cdc.beside("cifar10")[1])]
    assert {"SCAN-2 below CC", "SPICE-3 below SPICE-2 by ECE", "Supervised+MoCo-v2 below CDC-Cal"} < set(told)
    assert "CC below SCAN-2" not in told


@pytest.mark.parametrize(
    ("paper", "data", "theirs", "row", "acc"),
    [
        ("cdc", "stl10", "STL-10", "CC", 80.0),
        ("cdc", "imagenet-dogs-2000", "ImageNet-Dogs", "CDC-Cal", 79.2),
        ("pica", "cifar20", "CIFAR-100", "PICA (mean)", 32.2),
        ("rdc", "bloodmnist", "BloodMNIST", "ACAI + K-means (phase 1)", 47.2),
        ("cdc", "fashion-mnist-10000", "CIFAR-10", "CC", 85.2),  # the paper has no such set
        ("rdc", "digits", "FMNIST", "R-DC", 66.6),
    ],
)
def test_a_board_stands_beside_the_papers_numbers_of_the_same_set(
    scripts: Any, paper: str, data: str, theirs: str, row: str, acc: float
) -> None:
    _, boards, _ = scripts
    name, printed = boards.BOARDS[paper].beside(data)
    assert (name, printed[row]["ACC"]) == (theirs, acc)


@pytest.mark.slow
def test_rows_run_apart_share_their_start_and_are_made_once(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script, _, _ = scripts
    words = f"board.py digits -k 10 --items 200 --papers rdc --rows ae dec finch --epochs 1 --runs {tmp_path / 'runs'}"
    words += f" --results {tmp_path / 'out'} --set ae.restarts=2"
    monkeypatch.setattr("sys.argv", words.split())
    script.main()
    path = tmp_path / "out" / "board_rdc_digits-200.json"
    first = json.loads(path.read_text())
    assert [one["row"] for one in first["records"]] == ["finch", "ae", "dec"]
    assert [one.get("starts_from") for one in first["records"]] == [None, None, "ae"]
    assert all(one["failed"] or one["peak_mib"] > 50 for one in first["records"])
    assert first["command"].startswith("python experiments/board.py digits -k 10 --items 200 --papers rdc --seeds 0")
    monkeypatch.setattr("sys.argv", [*words.split(), "--done"])
    script.main()
    assert json.loads(path.read_text())["records"] == first["records"]
    monkeypatch.setattr("sys.argv", [word.replace("restarts=2", "restarts=3") for word in words.split()])
    with pytest.raises(InputError, match="was made with"):
        script.main()


def test_no_row_is_begun_after_its_time_and_none_without_its_labels(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script, boards, _ = scripts
    words = f"board.py digits -k 10 --items 100 --papers rdc --minutes 0 --runs {tmp_path} --results {tmp_path / 'out'}"
    monkeypatch.setattr("sys.argv", words.split())
    script.main()
    assert json.loads((tmp_path / "out" / "board_rdc_digits-100.json").read_text())["records"] == []
    assert script.rows_here(boards.BOARDS["cdc"], ["scan3"]) == ["scan3"]
    assert "ddc" not in script.rows_here(boards.BOARDS["pica"], None)


def test_nets_are_those_of_another_device_where_it_is_named(scripts: Any) -> None:
    board, _, _ = scripts
    settings, spec = RunSettings(10), ItemSpec(kind="images", channels=1, height=28, width=28)
    found = {name: board.usual_backbone(name, settings, spec, "cpu") for name in ("kmeans", "ae", "moco", "supervised")}
    assert found == {"kmeans": "identity", "ae": "ae", "moco": "small-16", "supervised": "small-16"}
    assert board.usual_backbone("moco", settings, spec, "cuda") != "small-16"


def test_a_row_that_is_refused_is_told_and_the_others_go_on(scripts: Any, tmp_path: Path) -> None:
    board, _, _ = scripts
    # Neither row trains, so neither is asked for the backbone.
    words = "board.py digits -k 10 --items 60 --papers pica --rows kmeans nmf --backbone small-8 --set nmf.locality=1"
    words += f" --set nmf.neighbours=100 --runs {tmp_path / 'runs'} --results {tmp_path}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", words.split())
        board.main()
    records = json.loads((tmp_path / "board_pica_digits-60.json").read_text())["records"]
    failed = {record["row"]: record["failed"] for record in records}
    assert failed["kmeans"] is None
    assert "neighbours" in failed["nmf"]
    kept = [path.name for path in (tmp_path / "runs" / "records").glob("*.json")]
    assert kept == ["digits-60-kmeans-0.json"]  # a later command may ask for what nmf can do


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--papers cdc --rows kmean", "no row kmean: give some of kmeans moco"),
        ("--papers cdc --rows kmeans nmf", "no row nmf"),
        ("--papers cdc --rows kmeans --seeds 0 -1", "-1 is below 0"),
        ("--papers cdc --rows kmeans supervised", "supervised learns from labels: add --with-labels"),
        (
            "--papers cdc --rows kmeans --backbone mlp --nets-on cpu",
            "--backbone mlp is for all rows and --nets-on picks",
        ),
    ],
)
def test_a_row_that_nobody_would_make_is_refused_and_no_table_is_written(
    scripts: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: str,
    said: str,
) -> None:
    board, _, _ = scripts
    monkeypatch.setattr("sys.argv", ["board.py", "digits", *words.split(), "--results", str(tmp_path)])
    with pytest.raises(SystemExit):
        board.main()
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "setting", ["mocoo.epochs=1", "epochs=1", "method.epochs=1", "calibrate.epochs=1", "pica.over=7"]
)
def test_a_setting_that_no_row_would_take_is_refused(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str
) -> None:
    board, _, _ = scripts
    words = ["board.py", "digits", "--papers", "cdc", "--set", setting, "--results", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(InputError, match="no run here has such a setting; they begin with kmeans, moco"):
        board.main()
    assert not list(tmp_path.iterdir())


SCRIPT = f"""
import os, runpy, sys
os.setsid()
sys.path[0] = {str(EXPERIMENTS)!r}
sys.argv[0] = {str(EXPERIMENTS / "board.py")!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_what_a_user_can_mend_is_said_without_a_traceback(tmp_path: Path) -> None:
    done = forked.run(SCRIPT, "nosuch", "--runs", tmp_path)
    assert done.returncode == 1
    assert done.stderr == b"board.py: nosuch is no file, no folder and no named data set: check the path.\n"


@pytest.mark.slow
def test_a_row_ends_with_the_command_that_makes_it(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = f"digits -k 10 --items 200 --papers cdc --rows cc --epochs 5000 --runs {runs} --results {tmp_path / 'out'}"
    process = forked.start(SCRIPT, *words.split())
    try:
        wait_for(lambda: process.poll() is not None or any(runs.glob("*-cc-0/history.jsonl")), 120)
        assert process.poll() is None, process.output(2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: not in_session(process.pid), 60)
    finally:
        for pid in in_session(process.pid):
            os.kill(pid, signal.SIGKILL)


def wait_for(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def in_session(session: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(one.pid) == session and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one.pid)
    return found


@pytest.mark.parametrize(
    ("preset", "init", "epochs", "wanted"),
    [
        ("practical", None, None, ({}, None)),
        ("paper", None, None, ({"epochs": 500, "batch_size": 256}, 224)),
        ("paper", "runs/moco", None, ({"epochs": 50, "batch_size": 256}, None)),
        ("paper", None, 3, ({"epochs": 3, "batch_size": 256}, 224)),
    ],
)
def test_rows_that_read_labels_have_the_published_budget_with_the_published_presets(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, preset: str, init: str | None, epochs: int | None, wanted: Any
) -> None:
    board, boards, _ = scripts

    def refuse(*_: Any, settings: Any, image_size: Any, **__: Any) -> None:
        raise InputError(str((settings, image_size)))

    monkeypatch.setattr(board, "supervised", refuse)
    base = RunSettings(10, preset=preset, init=init)
    lines, part_of = boards.BOARDS["cdc"].lines, "imagenet10"
    rows = board.RowsInOwnProcess("d", "d.npy", base, Path(), {}, lines, (), None, part_of, epochs)
    with pytest.raises(InputError) as refused:
        board.with_labels(rows, "supervised", base)
    assert str(refused.value) == str(wanted)
