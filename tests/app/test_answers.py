"""What the server answers: pictures that are broken, numbers that must be those of the commands, decisions."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from coterie.app import exporting, posts
from coterie.app.listing import Listing
from coterie.app.places import Places
from coterie.app.site import Site
from coterie.cli import main
from coterie.export import Options, export, format_names
from coterie.export.items import items_of_run
from coterie.export.registry import format_of
from coterie.records import rows as row_texts
from coterie.review import Review
from coterie.review.audits import own_level, plan
from coterie.review.refitting import Proposal, propose_refit
from helpers import forked
from helpers.app_runs import Running
from helpers.forked import COTERIE
from helpers.review_runs import (
    embedding_of,
    probabilities_of,
    put_far_outside,
    small_run,
    write_pictures,
    write_run,
)


def decide(app: Running, number: int, kind: str, data: dict[str, Any], after: int = 0) -> Any:
    return app.post("events", {"op": f"test-a-{number}", "after": after, "type": kind, "data": data})


def test_pictures_that_cannot_be_shown_say_why(serve: Any, tmp_path: Path) -> None:
    ids = write_pictures(tmp_path / "photos", 8, 2)
    (tmp_path / "photos" / ids[0]).unlink()
    whole = (tmp_path / "photos" / ids[1]).read_bytes()
    (tmp_path / "photos" / ids[1]).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "photos" / ids[2]).write_bytes(b"no picture")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "photos" / ids[3], compress_level=1)  # 400 megapixels
    app = serve(write_run(tmp_path / "run", probabilities_of(8, 2), ids=ids, source=str(tmp_path / "photos")))
    said = [app.get(f"thumb/{row}") for row in range(5)]
    assert [answer.status_code for answer in said] == [410, 410, 410, 410, 200]
    reasons = [answer.json()["error"] for answer in said[:4]]
    assert "not in" in reasons[0]
    assert reasons[1:] == ["truncated", "not an image", "more than 179 megapixels"]
    assert app.get("changes?after=0&wait=0").json()["broken"] == 4
    assert app.get("").status_code == 200


def test_pictures_that_changed_since_the_fit_are_said(serve: Any, tmp_path: Path) -> None:
    ids = write_pictures(tmp_path / "photos", 8, 2)
    run = write_run(tmp_path / "run", probabilities_of(8, 2), ids=ids, source=str(tmp_path / "photos"))
    record = yaml.safe_load((run / "run.yaml").read_text())
    record["source"]["read_at"] = time.time()  # of this fit, whose fingerprint is not that of the pictures
    (run / "run.yaml").write_text(yaml.safe_dump(record))
    os.utime(tmp_path / "photos" / ids[3], (time.time() + 10, time.time() + 10))
    assert f"1 of 8 pictures was written since the run was fitted, the first is {ids[3]}" in serve(run).get("").text


def test_the_map_on_the_audit_page_is_that_of_the_table(serve: Any, run: Path) -> None:
    with Review(run) as review:
        for place, row in enumerate(review.draw(40, max_error=0.1, seed=0)):
            review.judge(int(row), "wrong" if place % 3 == 0 else "right")
        review.end_audit()
        table = review.table()
    text = serve(run).get("audit").text
    found = re.search(r"logit c′ = (-?[\d.]+) ln c − (-?[\d.]+) ln\(1 − c\) ([+-][\d.]+);", text)
    assert found is not None
    a, b, c0 = map(float, found.groups())
    c = table["confidence"].to_numpy().astype(float).clip(1e-4, 1 - 1e-4)
    mapped = 1 / (1 + np.exp(-(a * np.log(c) - b * np.log1p(-c) + c0)))
    assert mapped == pytest.approx(table["confidence_judged"].to_numpy(), abs=0.02)


def test_recalibrated_confidences_are_said_to_lie_elsewhere(serve: Any, run: Path) -> None:
    said = "those that judged items corrected are in result.recalibrated.parquet"
    app = serve(run)
    assert said not in app.get("").text
    off = {"confidence": 0.9, "accuracy": 0.7, "gap": 0.2, "gap_interval": [0.1, 0.3], "ece": 0.2, "by_chance": 0.05}
    map_ = {"kind": "temperature", "theta": [2.0], "corners": []}
    entry = {"map": map_, "before": {**off, "p": 0.01}, "after": {**off, "p": 0.5}, "judged": 40}
    (run / "recalibration.json").write_text(json.dumps(entry))
    assert said in app.get("").text
    assert said in app.get("accept").text


def test_names_of_any_kind(serve: Any, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    names = [os.fsencode("<img src=x onerror=alert(1)>.png"), b"=cmd().png", "🐈 قطة.png".encode(), b"\xff\xfe.png"]
    names += [b"x" * 250 + b".png", "\u202egnp.exe.png".encode()]
    write_pictures(photos, len(names), 2)
    for row, name in enumerate(names):
        os.rename(photos / f"photo_{row:05}.png", os.fsencode(photos) + b"/" + name)
    from coterie.data.folders import ids_of, list_images

    ids = ids_of([path for path, _, _ in list_images(photos).files])
    app = serve(write_run(tmp_path / "run", probabilities_of(len(ids), 2), ids=ids, source=str(photos)))
    assert [app.get(f"thumb/{row}").status_code for row in range(len(ids))] == [200] * len(ids)
    page = app.get("g/0").text + app.get("g/1").text + app.get("").text
    assert "<img src=x" not in page
    # A mark that turns the direction would turn the confidence behind the name as well.
    shown = {item["id"] for item in app.get("items?limit=60").json()["items"]}
    assert shown == {item.replace("\u202e", "\\u202e") for item in ids}
    assert "\u202e" not in page


def test_no_probability_is_rounded_to_none_or_all(tmp_path: Path) -> None:
    p = np.array([[0.99998, 0.00002], [1, 0], [0.41238, 0.58762]], np.float32)
    with Review(write_run(tmp_path / "run", p)) as review:
        shown = Listing(review).items(np.arange(3))
    assert [item["confidence"] for item in shown] == [0.9999, 1, 0.5876]
    assert [item["top"] for item in shown] == [[[0, 0.9999], [1, 0.0001]], [[0, 1], [1, 0]], [[1, 0.5876], [0, 0.4124]]]


def test_each_order_is_what_it_says(tmp_path: Path) -> None:
    """Before, "not looked at first" had last what was decided without a look: what it was made for."""
    p, z = probabilities_of(60, 3).astype(float), embedding_of(60, 3).astype(np.float32)
    with Review(small_run(tmp_path, 60, 3, pictures=False)) as review:
        looked_at = review.state.members(1)[-3:]  # of those that are approved
        review.approve(1, seen=looked_at).reject([row for row in (0, 2, 3, 5) if row not in review.state.members(1)])
        listing, label, seen = Listing(review), review.state.label, review.state.seen
        for group in (None, -1, 1):
            rows = [row for row in range(60) if group in (None, label[row])]
            own = {row: p[row, label[row]] if label[row] >= 0 else 0.0 for row in rows}
            other = {row: max(p[row, g] for g in range(3) if g != label[row]) for row in rows}
            far = dict(zip(rows, ((z[rows] - z[rows].mean(0)) ** 2).sum(1), strict=True))
            keys: dict[str, Callable[[int], Any]] = {
                "surest": lambda row, own=own: -own[row],
                "doubtful": lambda row, own=own: own[row],
                "edge": lambda row, own=own, other=other: own[row] - other[row],
                "unlike": lambda row, far=far: -far[row],
                "open": lambda row, own=own: (seen[row], own[row]),
            }
            for order, key in keys.items():
                assert listing.rows(group, order).tolist() == sorted(rows, key=key), (group, order)
        assert listing.rows(1, "surest", undecided=True).tolist() == []
        assert set(listing.rows(1, "open")[-3:].tolist()) == set(looked_at.tolist())


@pytest.mark.usefixtures("unchecked_types")
def test_the_map_places_other_items_as_it_was_made(tmp_path: Path) -> None:
    """By angles, where it was made by angles: a short vector was placed beside the short ones of all groups."""
    rng, group = np.random.default_rng(0), np.arange(80) % 2
    far = rng.normal(size=(2, 64))[group] + 0.1 * rng.normal(size=(80, 64))
    features = (far * rng.choice([0.1, 1, 10], size=(80, 1))).astype(np.float32)
    with Review(small_run(tmp_path, 80, 2, pictures=False, features=False)) as review:
        review.set_features(features)
        np.savez(review.path / "map.npz", rows=np.arange(40), xy=np.float32([[0, 0], [1, 1]])[group[:40]])
        places = Places.of(cast(Site, SimpleNamespace(review=review, places={})))
    assert places.exact.tolist() == [row < 40 for row in range(80)]
    np.testing.assert_array_equal(places.xy, np.float32([[0, 0], [1, 1]])[group])


def test_the_users_folder_keeps_its_bytes_and_times(app: Running, run: Path) -> None:
    photos = run.parent / "photos"

    def facts() -> list[tuple[str, bytes, int]]:
        return sorted((path.name, path.read_bytes(), path.stat().st_mtime_ns) for path in photos.iterdir())

    before = facts()
    for path in ("", "thumb/0", "image/0", "queue/next", "g/1"):
        assert app.get(path).status_code == 200
    assert decide(app, 1, "reject", {"rows": "0-9"}).status_code == 200
    app.review.write()
    assert facts() == before


def test_the_slider_says_what_accept_says(app: Running, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accept", str(run), "--max-error", "0.2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = app.get(f"accept/at?threshold={told['threshold']}").json()
    assert (found["accepted"], found["n"]) == (told["accepted"], told["n"])
    assert found["shown"] == f"{100 * told['threshold']:.1f}%"
    assert found["expected_error"] == pytest.approx(told["expected_error"])
    for mine, theirs in zip(found["groups"], told["per_cluster"], strict=True):
        assert (mine["size"], mine["accepted"]) == (theirs["size"], theirs["accepted"])


@pytest.mark.parametrize(("threshold", "shown"), [(0.99997, "99.997%"), (1.0, "100.0%"), (0.0, "0.0%"), (0.5, "50.0%")])
def test_the_slider_shows_a_threshold_below_1_as_one(app: Running, threshold: float, shown: str) -> None:
    assert app.get(f"accept/at?threshold={threshold}").json()["shown"] == shown


def test_the_slider_leaves_out_rows_far_outside(serve: Any, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_far_outside(run, "3,40-44")
    app = serve(run)
    test_the_slider_says_what_accept_says(app, run, capsys)
    assert app.get("accept/at?threshold=0").json()["accepted"] == 114
    assert "6 rows far outside the others: not accepted." in app.get("accept").text


def test_an_audit_that_is_void_says_so_and_the_next_is_planned_at_its_own_level(app: Running) -> None:
    """Before, it was judged to its end; and of the second audit the page showed what a first one could accept."""
    items, shares = app.review.confidence, []
    for drawn in range(2):
        level = own_level(0.95, drawn + 1)
        found = [plan(items, size, error, level) for error in (0.05, 0.1) for size in (120,)]
        row = re.findall(r"<tr><th scope=\"row\">.*?</tr>", app.get("audit").text.partition("</table>")[0])
        shares.append(row)
        for text, one in zip(row, found, strict=True):
            said = f"{one['allowed']} of about {one['expected']}" if one["coverage"] else f"it takes {one['needed']}"
            assert said in text
        if not drawn:
            app.review.judge(int(app.review.draw(20)[0]), "right")
            assert app.get("audit/next").json()["voided"] is None
            assert 'class="banner warn" hidden' in app.get("audit").text
            app.review.split(0, 2)
            assert "a split (event 3)" in app.get("audit/next").json()["voided"]
            assert "Nothing can be claimed from this audit any more: a split (event 3)" in app.get("audit").text
            assert 'class="banner warn" hidden' not in app.get("audit").text
            app.review.undo()
            app.review.end_audit()
    assert shares[0] != shares[1]


def test_a_small_run_is_told_what_its_audit_can_show(asked: Running) -> None:
    words = asked.get("audit").text  # of 120 items, fewer than the usual sample of 150
    assert words.count('<tr><th scope="row">') == 2
    assert "300 for" not in words


def test_conflicts_retries_and_what_is_wrong(app: Running) -> None:
    first = decide(app, 1, "rename", {"group": 0, "name": "cat"})
    assert decide(app, 1, "rename", {"group": 0, "name": "cat"}).json()["seq"] == first.json()["seq"]  # a retry
    other = {"op": "test-b-1", "after": 0, "type": "rename", "data": {"group": 0, "name": "dog"}}
    answer = app.post("events", other)
    assert answer.status_code == 409
    assert answer.json()["events"][0]["text"] == "Group 0 is called cat."
    assert decide(app, 2, "rename", {"group": 0, "name": "dog"}).status_code == 200  # its own are no conflict
    assert decide(app, 3, "move", {"rows": "0", "to": 77}).status_code == 422
    assert decide(app, 4, "undo", {"targets": [1]}).status_code == 422
    assert app.post("events", {"op": "test-a-5"}).status_code == 422
    assert decide(app, 6, "move", {"rows": "0-999999999999", "to": 0}).status_code == 422
    for path, body in (
        ("undo", {"op": "test-a-7", "after": 2, "what": "from", "event": -2}),
        ("split/1/preview", {"k": 2, "seed": 1 << 80}),
        ("jobs/export", {"settings": {"to": "csv", "out": "a\0b"}}),
    ):
        assert app.post(path, body).status_code == 422
    assert app.review.last == 2
    far = ("some?rows=99999999999999999999", "changes?after=9&wait=nan", "accept/at?threshold=nan")
    for path in (
        "g/99",
        "compare/0/99",
        "items?order=best",
        "items?limit=501",
        "export/size?to=csv&only=best",
        "some?rows=x",
        "queue/next?skip=a",
        *far,
    ):
        answer = app.get(path)
        assert answer.status_code == 422, path
        assert answer.json()["error"].endswith(".")


def test_rows_may_be_sent_as_bits(app: Running) -> None:
    """As the pages send very many scattered rows, which are more than 2 MB as a text."""
    rows = app.review.state.members(0)

    def bits(chosen: Any) -> str:
        place = np.zeros(128, np.uint8)
        place[chosen] = 1
        return "bits:" + base64.b64encode(np.packbits(place, bitorder="little").tobytes()).decode()

    assert decide(app, 1, "approve", {"group": 0, "rows": bits(rows), "seen": bits(rows[:3])}).status_code == 200
    assert app.review.state.decided.sum() == len(rows)
    assert app.review.state.seen.sum() == 3
    assert decide(app, 2, "split", {"group": 0, "parts": [{"rows": bits(rows[:5])}]}, 1).status_code == 200
    assert app.review.state.members(4).tolist() == rows[:5].tolist()
    assert app.review.events[1][0].data["rows"] == row_texts.written(rows)  # the log has the text
    for wrong in ("bits:?", "bits:" + "A" * 30, bits([127])):  # no base64, too, and a row that is not there
        assert decide(app, 3, "reject", {"rows": wrong}, 2).status_code == 422
    assert app.review.last == 2


def test_all_ways_back_and_what_is_listed_meanwhile(app: Running) -> None:
    """One event, all after one, everything, and each way back again; lists leave out what is decided if asked to."""
    rows = app.review.state.members(0)[:2].tolist()
    decide(app, 1, "rename", {"group": 0, "name": "cat"})
    decide(app, 2, "rename", {"group": 1, "name": "dog"}, 1)
    decide(app, 3, "move", {"rows": f"{rows[0]},{rows[1]}", "to": 2}, 2)

    def back(number: int, **what: Any) -> tuple[str, list[str], bool]:
        body = {"op": f"test-b-{number}", "after": app.review.last, **what}
        answer = app.post("undo", body)
        assert answer.json() == app.post("undo", body).json() | {"text": answer.json()["text"]}  # sent again: once
        groups = app.review.state.groups
        moved = bool((app.review.state.label[rows] == 2).all())
        return answer.json()["text"], [groups[0].name, groups[1].name], moved

    assert back(1, what="event", event=2) == ("Undone: Group 1 is called dog.", ["cat", ""], True)
    assert back(2, what="redo")[1:] == (["cat", "dog"], True)
    wanted = app.server.site.listing.rows(2, "doubtful", undecided=True).tolist()
    assert len(wanted) == (app.review.state.label == 2).sum() - 2
    found = app.get("items?group=2&order=doubtful&undecided=1&offset=1&limit=3").json()
    assert (found["total"], [item["row"] for item in found["items"]]) == (len(wanted), wanted[1:4])
    order = app.get("order?group=2&order=doubtful&undecided=1").content
    assert np.frombuffer(order, "<i4").tolist() == wanted
    assert [item["row"] for item in app.get("some?rows=5,3,5").json()["items"]] == [5, 3, 5]
    assert [app.get(f"items?limit={limit}").status_code for limit in (0, 500, 501, -1)] == [200, 200, 422, 422]
    assert back(3, what="from", event=1) == ("Undone: 2 decisions.", ["cat", ""], False)
    assert back(4, what="redo")[1:] == (["cat", "dog"], True)
    assert back(5)[1:] == (["cat", "dog"], False)
    assert back(6, what="all") == ("Undone: 2 decisions.", ["", ""], False)
    assert app.post("undo", {"op": "test-b-7", "after": app.review.last, "what": "all"}).status_code == 422


def test_a_second_server_is_refused(app: Running, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", str(run), "--no-browser", "--port", "0"]) == 2
    assert f"is being reviewed already by process {os.getpid()}" in capsys.readouterr().err


# Asks for the page, as a browser in the terminal does, and stops the server when it has it or has waited long enough.
TEXT_BROWSER = """
import os, pathlib, signal, sys, urllib.request
try: pathlib.Path(sys.argv[0] + ".html").write_bytes(urllib.request.urlopen(sys.argv[1], timeout=20).read())
finally: os.kill(os.getppid(), signal.SIGINT)
"""


def test_a_browser_in_the_terminal_is_answered(run: Path, tmp_path: Path) -> None:
    script = tmp_path / "browser.py"
    script.write_text(TEXT_BROWSER)
    env = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
    env["BROWSER"] = f"{sys.executable} {script} %s"
    answer = forked.run(COTERIE, "review", run, "--port", 0, env=env)
    assert answer.returncode == 0, answer.stderr
    assert b"Overview" in (tmp_path / "browser.py.html").read_bytes()


def test_without_its_extra_review_says_how_to_get_it(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "fastapi" else find(name, *a))
    assert main(["review", str(run)]) == 2
    assert "review needs its extra: pip install 'coterie[review]'." in capsys.readouterr().err


def test_photos_that_moved(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    assert main(["review", str(run), "--no-browser", "--port", "0"]) == 2
    assert "The photos are not where they were" in capsys.readouterr().err


def test_an_export_of_the_review(app: Running, tmp_path: Path) -> None:
    decide(app, 1, "rename", {"group": 0, "name": "cat"})
    out = tmp_path / "groups.csv"
    assert app.post("jobs/export", {"settings": {"to": "csv", "out": str(out), "only": ""}}).status_code == 200
    for _ in range(600):
        job = app.get("jobs").json()["jobs"][0]
        if job["state"] != "running":
            break
        app.review.wait(app.review.last, 0.05)
    assert job["state"] == "done", job["message"]
    assert ",cat," in out.read_text()
    assert "cat" in pq.read_table(app.review.path / "result.reviewed.parquet")["name"].to_pylist()


def test_the_export_page_counts_what_each_format_writes(app: Running, run: Path, tmp_path: Path) -> None:
    """Before, what belongs nowhere was in no number, also of formats that write it, and what is gone was in all."""
    (run.parent / "photos" / items_of_run(run).ids[5]).unlink()
    app.review.reject(app.review.state.members(0)[:7]).move(app.review.state.members(1)[:5], 2).approve(3)
    app.review.move([5], 3)
    app.review.write()
    items = items_of_run(run)
    for name in format_names():
        place = tmp_path / f"{name}{getattr(format_of(name), 'ending', '')}"
        done = export(items, [name], place, Options(only="decided"), [run])
        assert app.get(f"export/size?to={name}&only=decided").json()["items"] == done[0].items, name


def test_the_export_page_has_a_size_where_a_picture_is_gone(
    serve: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.parent / "photos" / "photo_00000.png").unlink()
    app = serve(run)
    few = app.get("export/size?to=imagefolder").json()
    assert few["bytes"] > 0
    # A million files are not looked for while every other page waits.
    monkeypatch.setattr(exporting, "LOOKED_FOR", 10)
    assert app.get("export/size?to=imagefolder").json()["items"] == few["items"] + 1


def test_what_is_decided_while_the_head_trains_stays(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person gives an item to a group while the head is trained, which would put it into another one."""
    rng = np.random.default_rng(0)
    right = np.arange(400) % 4
    said = np.where(np.arange(400) % 8 == 3, 2, right)
    p = np.full((400, 4), 0.02, np.float32)
    p[np.arange(400), said] = 0.94
    features = np.eye(4)[right] * 6 + rng.normal(size=(400, 4))
    app = serve(write_run(tmp_path / "run", p, embedding=features, kind="embeddings"))
    wrong = np.flatnonzero(said != right)
    app.review.move(wrong[:20], 3)
    for group in range(3):
        good = np.flatnonzero((right == group) & (said == group))[:10]
        app.review.approve(group, good, seen=good)
    decided: list[int] = []

    def trained(review: Review) -> Proposal:
        found = propose_refit(review)
        decided.append(int(found.rows[0]))
        review.move(decided, 0)
        return found

    monkeypatch.setattr(posts, "propose_refit", trained)
    assert app.post("jobs/refit", {"settings": {}}).status_code == 200
    while (job := app.get("jobs").json()["jobs"][0])["state"] == "running":
        time.sleep(0.1)
    assert job["result"]["better"]
    answer = app.post("refit", {"op": "a" * 8, "after": app.review.last})
    assert answer.status_code == 409
    assert app.review.state.label[decided[0]] == 0


def test_a_group_of_one_has_one_image(serve: Any, tmp_path: Path) -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], np.float32)
    ids = write_pictures(tmp_path / "photos", 3, 2)
    app = serve(write_run(tmp_path / "run", p, ids=ids, source=str(tmp_path / "photos")))
    for page in ("", "g/0", "split/0", "compare/1/0"):
        text = app.get(page).text
        assert "1 image" in text
        assert "1 images" not in text
