"""The review as Python has it: decisions, undo, conflicts, the table that follows."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from coterie.cli import main
from coterie.records.review import read_review
from coterie.review import BeingReviewed, Conflict, LogBroken, Review, reviewed_table
from coterie.review.table import is_current
from coterie.review.undoing import NeedsMore
from coterie.types import InputError
from helpers import forked
from helpers.review_runs import probabilities_of, small_run, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return small_run(tmp_path, pictures=False)


def test_every_decision_and_its_undo(run: Path) -> None:
    with Review(run, name="ana") as review:
        begun = review.state.label.copy()
        members = review.state.members(3)
        review.rename(2, "tabby cat").merge(2, [3])
        assert (review.state.label[members] == 2).all()
        assert review.state.live == [0, 1, 2]
        review.move(members[:4], 1).reject([int(members[5])])
        assert review.state.label[members[5]] == -1
        review.approve(0, seen=review.state.members(0)[:3])
        assert review.state.decided[review.state.members(0)].all()
        assert review.state.seen[review.state.members(0)].sum() == 3
        for _ in range(5):
            review.undo()
        assert (review.state.label == begun).all()
        assert not review.state.decided.any()
        assert review.state.groups[2].name == ""
        for _ in range(5):
            review.redo()
        assert review.state.groups[2].name == "tabby cat"
        assert review.state.label[members[5]] == -1
        with pytest.raises(InputError, match="nothing to redo"):
            review.redo()
        assert {event.by for event, _ in review.events} == {"ana"}
        assert all(" ana: " in line for line in review.history())


def test_the_history_counts_what_was_rejected(run: Path) -> None:
    with Review(run) as review:
        members = review.state.members(0)
        review.reject(members[:1]).reject(members[1:3])
        said = review.history()[-2:]
    assert said[0].endswith("1 item rejected: it belongs to no group.")
    assert said[1].endswith("2 items rejected: they belong to no group.")


def test_a_new_process_sees_the_same(run: Path) -> None:
    with Review(run) as review:
        review.merge(0, [1])
        parts = review.split(2, 2)
        review.move(review.state.members(parts[0])[:2], 3)
        label, decided, history = review.state.label.copy(), review.state.decided.copy(), review.history()
    with Review(run) as review:
        assert (review.state.label == label).all()
        assert (review.state.decided == decided).all()
        assert review.history() == history
        review.undo()
        assert (review.state.label[review.state.decided]).size == 0


def test_numbers_are_never_used_again(run: Path) -> None:
    with Review(run) as review:
        assert review.split(0, 2) == [4, 5]
        review.undo()
        assert review.split(0, 2) == [6, 7]
        assert review.state.live == [0, 1, 2, 3, 6, 7]
        review.merge(1, [6])
        with pytest.raises(InputError, match="Group 6 went into group 1"):
            review.move([0], 6)


def test_a_group_or_a_row_that_is_not_there_is_named_and_a_text_is_one_id(run: Path) -> None:
    with Review(run) as review:
        with pytest.raises(InputError, match="There is no group 99"):
            review.split(99)
        review.merge(0, [1])
        with pytest.raises(InputError, match="Group 1 went into group 0"):
            review.split(1)
        review.move(review.base.ids[12], 2)
        assert np.flatnonzero(review.state.decided).tolist() == [12]
        review.draw(5, seed=0)
        with pytest.raises(InputError, match="Rows go from 0 to"):
            review.judge(10**6, "right")


def test_what_stands_on_an_undone_split_is_undone_with_it(run: Path) -> None:
    with Review(run) as review:
        part = review.split(0, 2)[0]
        review.move(review.state.members(1)[:2], part)
        review.move(review.state.members(2)[:2], 3)
        with pytest.raises(NeedsMore, match="event 2 "):
            review.undo(1)
        review.undo(1, with_dependents=True)
        assert part not in review.state.live
        assert review.state.decided.sum() == 2


def test_conflicts(run: Path) -> None:
    with Review(run) as review:
        review.rename(0, "a")
        seen = review.last
        review.merge(1, [2])
        with pytest.raises(Conflict) as conflict:
            review.submit("rename", {"group": 2, "name": "b"}, after=seen)
        assert [event.type for event in conflict.value.events] == ["merge"]
        with pytest.raises(Conflict):
            review.submit("move", {"rows": "0", "to": 2}, after=seen)
        review.submit("rename", {"group": 3, "name": "c"}, after=seen)  # another group passes
        events = review.last
        review.submit("move", {"rows": "5", "to": 3}, after=events)
        with pytest.raises(Conflict):
            review.submit("move", {"rows": "4-6", "to": 0}, after=events)
        review.submit("move", {"rows": "7", "to": 0}, after=events)


def test_a_stale_tab_is_told_of_every_event_about_its_rows_and_of_no_other(run: Path) -> None:
    with Review(run) as review:
        for row in (3, 50, 7):
            review.move([row], 1)
        review.submit("move", {"rows": "20", "to": 1}, op="mine-1")
        review.merge(2, [3])
        with pytest.raises(Conflict) as conflict:
            review.submit("reject", {"rows": "0-40"}, after=0, sender="mine-")
        assert [event.seq for event in conflict.value.events] == [1, 3, 5]
        assert conflict.value.events[2].type == "merge"


def test_a_retry_is_written_once(run: Path) -> None:
    with Review(run) as review:
        first = review.submit("rename", {"group": 0, "name": "a"}, op="x")
        assert review.submit("rename", {"group": 0, "name": "a"}, op="x", after=0) == first
        assert review.last == 1
        with pytest.raises(InputError, match="another event"):
            review.submit("merge", {"into": 0, "from": [1]}, op="x")


def test_events_that_cannot_be_are_refused(run: Path) -> None:
    with Review(run) as review:
        review.rename(0, "cat")
        for kind, data, said in (
            ("rename", {"group": 1, "name": "cat"}, "called cat already"),
            ("rename", {"group": 1, "name": "c\u200bat"}, "called c\u200bat already"),
            ("rename", {"group": 1, "name": "\u200b"}, "Nothing is seen"),
            ("rename", {"group": 9, "name": "x"}, "no group 9"),
            ("rename", {"group": 1, "name": "x" * 81}, "1 to 80"),
            ("rename", {"group": 1, "name": "a\nb"}, "control"),
            ("merge", {"into": 0, "from": [0]}, "different groups"),
            ("move", {"rows": "", "to": 0}, "No item"),
            ("move", {"rows": "120", "to": 0}, "no row 120"),
            ("move", {"rows": "3-1", "to": 0}, "ascending"),
            ("move", {"rows": "1", "to": 0, "who": 1}, "Extra"),
            ("approve", {"group": 0, "rows": "1", "seen": "2"}, "looked at"),
            ("fly", {}, "no event"),
            ("undo", {"targets": [7]}, "no event 7"),
            ("judge", {"audit": 1, "row": 0, "shown": 0, "answer": "right"}, "no audit 1"),
            ("draw", {"audit": 1, "size": 5, "seed": -1, "max_error": 0.1, "level": 0.95}, "entry seed"),
            ("draw", {"audit": 1, "size": 5, "seed": 1 << 70, "max_error": 0.1, "level": 0.95}, "entry seed"),
            ("draw", {"audit": 1, "size": 5, "seed": 0, "max_error": 1e-20, "level": 0.95}, "entry max_error"),
            ("split", {"group": 0, "parts": [{"rows": "0"}], "how": {"by": "\ud800"}}, "entry how"),
            ("split", {"group": 0, "parts": [{"rows": "0"}], "how": {"by": float("inf")}}, "entry how"),
            ("import", {"sha256": "0" * 64, "kind": "\ud800", "rows": "0", "labels": [1]}, "entry kind"),
        ):
            with pytest.raises(InputError, match=said):
                review.submit(kind, data)
        assert review.last == 1
        for act in (review.split, lambda group, seed: review.refit(seed=seed)):
            with pytest.raises(InputError, match="seed is"):
                act(0, seed=1 << 70)


def test_a_reviewers_name_of_any_bytes_is_written_in_one_line(run: Path) -> None:
    with Review(run, name="an\udcffa\nb") as review:
        review.rename(0, "cat")
    with Review(run) as review:
        assert review.events[1][0].by == "an\\udcffa b"


@pytest.mark.parametrize(
    ("known", "newer"),
    [('"v":1', '"v":2'), ('"format":1', '"format":2'), ('"type":"rename"', '"type":"label"')],
)
def test_a_log_of_a_newer_version_is_not_called_damaged(run: Path, known: str, newer: str) -> None:
    with Review(run) as review:
        review.rename(0, "cat")
    log = run / "review" / "log.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace(known, newer), encoding="utf-8")
    with pytest.raises(InputError, match="newer version of coterie: update"):
        Review(run)


def test_a_second_process_is_refused(run: Path) -> None:
    with Review(run), pytest.raises(BeingReviewed, match=f"already by process {os.getpid()}"):
        Review(run)
    Review(run).close()


def test_a_file_system_without_locks_has_reviews(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with Review(run) as review:
        review.rename(0, "a")
    with Review(run) as review:
        assert review.last == 1


def test_another_result_is_refused(run: Path) -> None:
    with Review(run) as review:
        review.rename(0, "a")
    write_run(run, probabilities_of(120, 4, seed=9))
    with pytest.raises(InputError, match="has changed since the review began"):
        Review(run)
    with pytest.raises(InputError, match="has changed since the review began"):
        reviewed_table(run)  # before, the export of what was decided about the other result
    (run / "review" / "log.jsonl").unlink()
    with pytest.raises(InputError, match="has changed since the review began"):
        reviewed_table(run)


def test_a_torn_last_line_is_cut_and_a_bad_one_refused(run: Path) -> None:
    log = run / "review" / "log.jsonl"
    with Review(run) as review:
        review.rename(0, "a").rename(1, "b")
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"v":1,"seq":3,"op":"y"')
    with Review(run) as review:
        assert review.last == 2
        assert log.read_bytes() == whole
        review.rename(2, "c")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([lines[0], b"{}\n", *lines[2:]]))
    with pytest.raises(InputError, match=r"Line 2 of review/log.jsonl cannot be read"):
        Review(run)


@pytest.mark.parametrize(
    ("good", "bad"), [(b'"to":1', b'"to":77'), (b'"0-2"', b'"0-2000"'), (b'"0-2"', b'"0-999999999999"')]
)
def test_a_log_of_what_the_run_has_not_is_refused_by_its_line(run: Path, good: bytes, bad: bytes) -> None:
    with Review(run) as review:
        review.rename(0, "a").move([0, 1, 2], 1)
    log = run / "review" / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(good, bad))
    with pytest.raises(InputError, match=r"Line 3 of review/log.jsonl names a group or an item that the run does not"):
        Review(run)


@pytest.mark.parametrize("gone", [True, False])
def test_a_log_that_is_lost_is_not_begun_anew_over_its_table(run: Path, gone: bool) -> None:
    with Review(run) as review:
        review.rename(0, "a")
    log, table = run / "review" / "log.jsonl", run / "result.reviewed.parquet"
    kept = log.read_bytes()
    log.unlink() if gone else log.write_bytes(b"")
    assert reviewed_table(run) == table
    with pytest.raises(
        InputError, match=r"log.jsonl is gone or empty, but .* holds what was decided: put the log back"
    ):
        Review(run)
    log.write_bytes(kept)
    with Review(run) as review:
        assert review.state.groups[0].name == "a"
    log.unlink()
    table.rename(run.with_name("table.parquet"))
    with Review(run) as review:
        assert review.last == 0


def test_a_full_disk_loses_nothing_and_keeps_the_log_whole(run: Path) -> None:
    """A limit on the size of files stands in for the disk: the kernel writes a part of the line."""
    script = f"""
import resource, signal
from coterie.review import LogBroken, Review
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
review = Review({str(run)!r})
size = (review.path / "review" / "log.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 60, resource.RLIM_INFINITY))
try:
    review.rename(0, "a")
except LogBroken as error:
    print(error)
print((review.path / "review" / "log.jsonl").stat().st_size == size, review.state.groups[0].name == "")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
review.rename(0, "a")
review.close()
"""
    done = forked.run(script)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode().splitlines()
    assert "could not be saved" in said[0]
    assert said[1] == "True True"
    with Review(run) as review:
        assert review.state.groups[0].name == "a"
    assert issubclass(LogBroken, Exception)


def test_a_run_that_is_moved_or_removed_takes_no_decision(run: Path) -> None:
    """Before, they were called saved, and went into a file that was in no folder."""
    review = Review(run).rename(0, "a")
    away = run.rename(run.with_name("away"))
    with pytest.raises(LogBroken, match=r"log.jsonl is not there any more. Move the run back"):
        review.rename(1, "b")
    away.rename(run)
    review.rename(1, "b")
    run.rename(away)
    with pytest.raises(InputError, match=r"its reviewed table was not written. Where it was moved to, the decisions"):
        review.close()
    assert not run.exists()
    with Review(away) as review:
        assert [review.state.groups[group].name for group in (0, 1)] == ["a", "b"]


@pytest.mark.parametrize("grown", [False, True])
def test_a_log_that_another_program_changed_takes_no_decision(run: Path, grown: bool) -> None:
    """Before, a gap was left in one that was cut, and what another review had added was overwritten."""
    log = run / "review" / "log.jsonl"
    with Review(run) as review:
        review.rename(0, "a").rename(1, "b")
        lines = log.read_bytes().splitlines(keepends=True)
        added = lines[2].replace(b'"seq":2', b'"seq":3').replace(b'"op":"', b'"op":"f').replace(b'"b"', b'"c"')
        changed = b"".join([*lines, added] if grown else lines[:2])
        log.write_bytes(changed)
        with pytest.raises(LogBroken, match=r"log.jsonl was changed by another program. End this review and begin it"):
            review.rename(2, "d")
        assert review.state.groups[2].name == ""
    assert log.read_bytes() == changed
    with Review(run) as review:
        assert review.state.groups[1].name == ("c" if grown else "")


def test_a_killed_process_keeps_what_it_acknowledged(run: Path) -> None:
    script = f"""
from coterie.review import Review
review = Review({str(run)!r})
for step in range(10_000):
    review.move([step % 120], step % 4)
    print(review.last, flush=True)
"""
    for _ in range(3):
        process = forked.start(script)
        while process.output(1).count(b"\n") < 5:
            assert process.poll() is None, process.output(2)
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        with Review(run) as review:
            assert review.last >= int(process.output(1).split()[-1])
            lines = (run / "review" / "log.jsonl").read_text().splitlines()
            assert [json.loads(line)["seq"] for line in lines] == list(range(len(lines)))


def test_the_table_without_a_decision_is_the_models(run: Path) -> None:
    with Review(run) as review:
        review.merge(0, [1])
        review.undo()
    table, result = pq.read_table(run / "result.reviewed.parquet"), pq.read_table(run / "result.parquet")
    for column in ("id", "label", "confidence", "probabilities"):
        assert table[column].to_pylist() == result[column].to_pylist()
    assert set(table["source"].to_pylist()) == {"model"}
    assert not any(table["decided"].to_pylist())


def test_the_table_after_decisions(run: Path) -> None:
    p = probabilities_of(120, 4)
    with Review(run) as review:
        review.rename(1, "both").merge(1, [2])
        review.split(0, 2)
        moved = int(review.state.members(3)[0])
        review.move([moved], 1)
        gone = int(review.state.members(3)[0])
        review.reject([gone])
        label = review.state.label.copy()
    table = pq.read_table(run / "result.reviewed.parquet").to_pandas()
    q = np.stack(table["probabilities"])
    assert q.shape == (120, 6)
    np.testing.assert_allclose(q.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(q[:, 1], p[:, 1] + p[:, 2], atol=1e-6)
    assert (q[:, [0, 2]] == 0).all()
    np.testing.assert_allclose(q[:, 4] + q[:, 5], p[:, 0], atol=1e-6)
    np.testing.assert_allclose(q[:, 3], p[:, 3], atol=1e-6)
    assert (table["label"] == label).all()
    there = label >= 0
    np.testing.assert_allclose(table["confidence"][there], q[there, label[there]], atol=1e-6)
    assert np.isnan(table["confidence"][gone])
    assert table["name"][moved] == "both"
    assert table["source"][moved] == "person"
    assert (table["model_label"] == p.argmax(1)).all()
    entry = read_review(run)
    assert entry is not None
    assert entry.rejected == 1
    assert [group.into for group in entry.groups] == [None, None, 1, None, None, None]
    assert entry.groups[4].parents == [0]
    likeliest = q.argmax(1) != label
    assert entry.not_likeliest == int((likeliest & ~table["decided"] & there).sum())


def test_the_table_follows_the_log_where_nobody_closed_the_review(run: Path) -> None:
    assert reviewed_table(run) is None
    review = Review(run)
    assert reviewed_table(run) is None  # nothing is decided
    review.rename(0, "a")
    path = reviewed_table(run)
    assert path is not None
    assert set(pq.read_table(path)["name"].to_pylist()) == {"a", ""}
    review.rename(0, "b")
    reviewed_table(run)
    assert set(pq.read_table(path)["name"].to_pylist()) == {"b", ""}
    review.close()
    log = run / "review" / "log.jsonl"  # mended by hand: as many events as before
    log.write_bytes(log.read_bytes().replace(b'"name":"b"', b'"name":"c"'))
    assert not is_current(run)
    reviewed_table(run)
    assert is_current(run)
    assert set(pq.read_table(path)["name"].to_pylist()) == {"c", ""}


def test_a_damaged_embedding_is_named(run: Path) -> None:
    path = run / "review" / "embedding.npy"
    path.parent.mkdir(exist_ok=True)
    for content in (b"", b"PK"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"embedding\.npy is damaged: remove it"):
            Review(run)


def test_the_run_is_never_changed(run: Path) -> None:
    before = {name: (run / name).read_bytes() for name in ("run.yaml", "result.parquet")}
    with Review(run) as review:
        review.merge(0, [1]).reject([0])
    assert {name: (run / name).read_bytes() for name in before} == before


def test_someone_elses_file_in_the_tables_place_is_left_alone(run: Path) -> None:
    (run / "result.reviewed.parquet").write_bytes(b"mine")
    review = Review(run)
    review.rename(0, "a")
    with pytest.raises(
        InputError, match=r"result\.reviewed\.parquet.* No decision is lost: all are in .*log\.jsonl\.$"
    ):
        review.close()
    assert (run / "result.reviewed.parquet").read_bytes() == b"mine"


def test_what_a_killed_process_left_of_the_table_is_taken_away(run):
    left = run / f".result.reviewed.parquet.{2**22 + 1}.part"  # no process has so high a number
    left.write_bytes(b"half a table")
    with Review(run) as review:
        review.rename(0, "cat")
        review.write()
    assert not left.exists()


def test_the_report_follows_the_log(run: Path) -> None:
    """Before, the report of a run whose review was killed had no section about it, or one of an older table."""
    with Review(run, name="ana") as review:
        review.rename(0, "tabby")
        (run / "result.reviewed.parquet").unlink(missing_ok=True)
        assert main(["report", str(run), "--quiet"]) == 0
        assert "tabby" in (run / "report.html").read_text()
        review.rename(0, "lynx")
        assert main(["report", str(run), "--quiet"]) == 0
        assert "lynx" in (run / "report.html").read_text()
