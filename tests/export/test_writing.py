"""Exports are whole or not there, take the place of nothing that is not an export, and follow no link out."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from coterie.data import open_source
from coterie.export import Options, export_run
from coterie.prediction.results import read_result
from coterie.review import Review
from helpers import forked
from helpers.disks import fill, small_disk
from helpers.exports import NAMES, write_run


def refused(coterie, *arguments) -> str:
    code, _, said = coterie("export", *arguments)
    assert code == 2, said
    assert said.count("\n") == 1
    return said


def test_a_folder_that_is_not_empty_is_refused(coterie, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    said = refused(coterie, run, "--to", "imagefolder", "-o", tmp_path / "out")
    assert "is not empty: give a new folder, or --overwrite to replace what coterie wrote there." in said
    said = refused(coterie, run, "--to", "imagefolder", "-o", tmp_path / "out", "--overwrite")
    assert "holds mine.txt, which coterie did not write" in said
    assert os.listdir(tmp_path / "out") == ["mine.txt"]


@pytest.mark.parametrize("form", ["imagefolder", "hf"])
def test_a_full_disk_is_said_of_the_export(coterie, run, photos, tmp_path, form):
    held = sum(path.stat().st_size for path in photos.rglob("*") if path.is_file())
    with small_disk(tmp_path / "disk", "256k") as disk:
        # Room for the first line of the map and for all bytes of the pictures, not for the pages that they begin.
        fill(disk, spare=held // 4096 * 4096 + 2 * 4096)
        said = refused(coterie, run, "--to", form, "-o", disk / "out")
        assert f"{disk / 'out'} could not be written (No space left on device): free some space" in said
        assert os.listdir(disk) == ["filler"]


def test_a_reviewed_run_on_a_full_disk_is_exported_elsewhere(coterie, reviewed, tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        run = shutil.copytree(reviewed, disk / "run")
        (run / "result.reviewed.parquet").unlink()  # as when its server was killed
        fill(disk)
        for place in (run, reviewed):
            assert coterie("export", place, "--to", "csv", "-o", tmp_path / f"{place.parent.name}.csv")[0] == 0
        assert not (run / "result.reviewed.parquet").exists()
    assert (tmp_path / "disk.csv").read_bytes() == (tmp_path / f"{reviewed.parent.name}.csv").read_bytes()


def test_copies_that_do_not_fit_are_said_in_units_of_their_size(coterie, run, photos, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "d.png")  # 30 kB
    with small_disk(tmp_path / "disk", "256k") as disk:
        fill(disk, spare=4 * 4096)
        said = refused(coterie, run, "--to", "imagefolder", "-o", disk / "out")
        assert re.search(r"The copies take 3\d\.\d kB, but only 1\d\.\d kB are free at ", said)


def test_overwrite_replaces_an_export_and_no_file_of_anyone_else(coterie, run, tmp_path):
    out = tmp_path / "out"
    assert coterie("export", run, "--to", "imagefolder", "-o", out)[0] == 0
    (out / "00" / "mine.jpg").write_bytes(b"x")
    assert "holds 00/mine.jpg" in refused(coterie, run, "--to", "hf", "-o", out, "--overwrite")
    (out / "00" / "mine.jpg").unlink()
    assert coterie("export", run, "--to", "hf", "-o", out, "--overwrite")[0] == 0
    assert sorted(os.listdir(out)) == ["coterie.jsonl", "train"]
    assert sorted(os.listdir(tmp_path)) == ["out", "photos", "run"]


def test_overwrite_follows_no_link_out_of_the_folder(coterie, run, tmp_path):
    out, precious = tmp_path / "out", tmp_path / "precious"
    precious.mkdir()
    (precious / "a.txt").write_text("x")
    assert coterie("export", run, "--to", "imagefolder", "-o", out)[0] == 0
    (out / "link").symlink_to(precious)
    assert "holds link" in refused(coterie, run, "--to", "imagefolder", "-o", out, "--overwrite")
    lines = (out / "coterie.jsonl").read_text() + json.dumps({"file": "link"}) + "\n"
    (out / "coterie.jsonl").write_text(lines)  # even where it is said to be an export's own
    assert coterie("export", run, "--to", "imagefolder", "-o", out, "--overwrite")[0] == 0
    assert (precious / "a.txt").read_text() == "x"
    assert not (out / "link").exists()


def test_nothing_is_written_through_a_link_that_waits_for_it(coterie, run, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "out.part").symlink_to(tmp_path / "precious")
    assert "coterie did not write it" in refused(coterie, run, "--to", "imagefolder", "-o", tmp_path / "out")
    assert os.listdir(tmp_path / "precious") == []


@pytest.mark.parametrize("place", ["photos/out", "photos", "run/model", "run/review/x", "run", "."])
def test_places_where_an_export_may_not_go(coterie, run, photos, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    refused(coterie, run, "--to", "imagefolder", "-o", place, "--overwrite")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_of_someone_else_is_not_replaced(coterie, run, tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("id,label\n1,2\n")
    refused(coterie, run, "--to", "csv", "-o", path)
    assert "coterie did not write it" in refused(coterie, run, "--to", "csv", "-o", path, "--overwrite")
    assert path.read_text() == "id,label\n1,2\n"
    path.unlink()
    assert coterie("export", run, "--to", "csv", "-o", path)[0] == 0
    said = refused(coterie, run, "--to", "csv", "-o", path)
    assert (
        "is there already: give another name, or move it away, or --overwrite to replace what coterie wrote there."
        in said
    )
    assert coterie("export", run, "--to", "csv", "-o", path, "--overwrite")[0] == 0


def test_what_a_killed_export_left_is_taken_away(coterie, run, tmp_path):
    script = (
        "import os, sys\n"
        "from coterie.export import pictures\nfrom coterie.export.formats import imagefolder\n"
        "from coterie.cli import main\n"
        "imagefolder.put = lambda *a: (pictures.put(*a), os.kill(os.getpid(), 9))\n"
        f"main(['export', {str(run)!r}, '--to', 'imagefolder', '-o', {str(tmp_path / 'out')!r}])\n"
    )
    assert forked.run(script).returncode == -9
    assert (tmp_path / "out.part").is_dir()
    assert not (tmp_path / "out").exists()
    assert coterie("export", run, "--to", "imagefolder", "-o", tmp_path / "out")[0] == 0
    assert not (tmp_path / "out.part").exists()


def test_an_export_that_a_killed_overwrite_set_aside_is_taken_back(coterie, run, tmp_path):
    out, old = tmp_path / "out", tmp_path / f".out.{2**22 + 1}.old"  # no process has so high a number
    assert coterie("export", run, "--to", "imagefolder", "-o", out)[0] == 0
    before = sorted(path.relative_to(out) for path in out.rglob("*"))
    out.rename(old)  # as a kill between the two renames leaves it
    assert "is not empty" in refused(coterie, run, "--to", "imagefolder", "-o", out)
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == before
    shutil.copytree(out, old)  # as a kill before the last step leaves it
    assert coterie("export", run, "--to", "imagefolder", "-o", out, "--overwrite")[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["out", "photos", "run"]
    old.mkdir()
    (old / "mine.txt").write_text("x")
    kept = shutil.copytree(out, tmp_path / old.name.removeprefix("."))  # by somebody
    assert coterie("export", run, "--to", "imagefolder", "-o", out, "--overwrite")[0] == 0
    assert (old / "mine.txt").exists()
    assert kept.is_dir()


def test_two_exports_to_one_place_do_not_mix(coterie, run, tmp_path):
    part = tmp_path / "out.part"
    part.mkdir()
    (part / "coterie.jsonl").write_text('{"coterie": "export"}\n')
    held = os.open(part, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        assert "Another export is being written" in refused(coterie, run, "--to", "imagefolder", "-o", tmp_path / "out")
    finally:
        os.close(held)


def test_a_failure_leaves_nothing_behind(run, tmp_path, monkeypatch):
    from coterie.export.formats import imagefolder

    def full(*arguments):
        raise OSError(28, "No space left on device", "out")

    monkeypatch.setattr(imagefolder, "put", full)
    with pytest.raises(OSError, match="No space"):
        export_run(run, ["imagefolder"], tmp_path / "out", Options())
    assert sorted(os.listdir(tmp_path)) == ["photos", "run"]


def test_the_user_s_photos_keep_their_bytes_and_times(coterie, run, photos, tmp_path):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) for path in photos.rglob("*.*")}
    for number, link in enumerate(("copy", "symlink", "hard")):
        assert coterie("export", run, "--to", "imagefolder", "-o", tmp_path / f"{number}", "--link", link)[0] == 0
        assert coterie("export", run, "--to", "hf", "-o", tmp_path / f"{number}", "--overwrite")[0] == 0
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) for path in before}


@pytest.mark.parametrize(("link", "call"), [("symlink", "symlink"), ("hard", "link")])
def test_a_disk_without_links_is_said(coterie, run, tmp_path, monkeypatch, link, call):
    """As FAT and exFAT, on memory cards, which are rarely at hand to be mounted."""

    def refuse(source: str, place: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", source)

    monkeypatch.setattr(os, call, refuse)
    said = refused(coterie, run, "--to", "imagefolder", "-o", tmp_path / "out", "--link", link)
    assert "(Operation not permitted)" in said
    assert said.rstrip().endswith("links; use --link copy.")
    assert not (tmp_path / "out").exists()


def test_photos_that_are_gone_are_counted_and_named(coterie, run, photos, tmp_path):
    (photos / "d.png").unlink()
    code, said, _ = coterie("export", run, "--to", "imagefolder", "-o", tmp_path / "out", "--json")
    assert code == 0
    (one,) = json.loads(said)["exports"]
    assert "Left out (1): items whose pictures are not there any more, the first is d.png." in one["notes"]
    assert one["left_out"] == 1
    photos.rename(tmp_path / "moved")
    said = refused(coterie, run, "--to", "imagefolder", "-o", tmp_path / "out2")
    assert f"The photos are not where they were ({photos}): say where with --source." in said
    moved = ("--source", tmp_path / "moved")
    assert coterie("export", run, "--to", "imagefolder", "-o", tmp_path / "out2", *moved)[0] == 0


def test_coco_of_pictures_none_of_which_can_be_read_is_refused(coterie, run, photos, tmp_path):
    for picture in photos.rglob("*.*"):
        picture.write_bytes(b"no picture")
    assert "can be read any more" in refused(coterie, run, "--to", "coco", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("formats", "end"), [("csv", ".csv"), ("imagefolder,csv", ""), ("labelstudio", "")])
def test_photos_that_changed_since_the_fit_are_counted_and_named(coterie, run, photos, tmp_path, formats, end):
    record = yaml.safe_load((run / "run.yaml").read_text())
    record["source"] |= {"fingerprint": open_source(photos).fingerprint, "read_at": time.time()}
    (run / "run.yaml").write_text(yaml.safe_dump(record))

    def told(place: str) -> list[bool]:
        code, said, _ = coterie("export", run, "--to", formats, "-o", tmp_path / f"{place}{end}", "--json")
        assert code == 0
        wanted = "1 of 8 pictures was written since the run was fitted, the first is d.png"
        return [any(note.startswith(wanted) for note in one["notes"]) for one in json.loads(said)["exports"]]

    assert not any(told("same"))
    (photos / "d.png").write_bytes((photos / "a" / "IMG_2.png").read_bytes())
    os.utime(photos / "d.png", (time.time() + 10, time.time() + 10))
    assert all(told("other"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "coco"), "Give a file or folder with -o"),
        (("-o", "x"), "Give formats with --to"),
        (("-o", "x", "--to", "csv", "--from", "y.csv"), "leave one of them out"),
        (("--to", "cvs", "-o", "x.csv"), "did you mean csv?"),
        (("--to", "csv", "-o", "x"), "must end in .csv"),
        (("--to", ",", "-o", "x"), "No format is named"),
        (("--to", "csv", "-o", "x.csv", "--only", "some"), "--only is 'some'"),
        (("--to", "csv", "-o", "x.csv", "--link", "soft"), "--link is 'soft'"),
        (("--to", "csv", "-o", "x.csv", "--limit", "0"), "--limit is 0"),
        (("--to", "csv", "-o", "x.csv", "--only", "accepted"), "Nothing is accepted yet"),
        (("--to", "csv", "-o", "x.csv", "--thumbs"), "--thumbs is for embedding-atlas, and changes nothing of csv"),
        (("--to", "csv", "-o", "x.csv", "--document-root", "."), "--document-root is for labelstudio, and changes"),
        (("--to", "csv,coco", "-o", "x", "--link", "hard"), "--link is for hf and imagefolder, and changes nothing of"),
        (("--to", "csv", "-o", "x.csv", "--include-rejected"), "--include-rejected is for hf and imagefolder"),
        (("--to", "hf-parquet", "-o", "x.parquet", "--prefix-names"), "--prefix-names is for hf and imagefolder"),
        (("--to", "coco", "-o", "x", "--document-root", "."), "--document-root is for labelstudio"),
        (("--from", "y.csv", "-o", "x.csv", "--only", "decided"), "--only is of what --to writes"),
        (("--to", "projector", "-o", "x"), "stores no embeddings"),
        (("--to", "embedding-atlas", "-o", "x.parquet"), "neither embeddings nor a map"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(coterie, run, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused(coterie, run, *arguments)
    assert sorted(os.listdir(tmp_path)) == ["photos", "run"]


def test_the_items_that_only_names_are_exported(coterie, reviewed, tmp_path):
    with Review(reviewed) as review:
        for row in review.draw(3, max_error=0.5, level=0.5, seed=0).tolist():
            review.judge(row, "right")
        claim = review.end_audit()

    def ids(only: str) -> set[str]:
        path = tmp_path / f"{only}.csv"
        assert coterie("export", reviewed, "--to", "csv", "-o", path, "--only", only, "--overwrite")[0] == 0
        return {line.split(",")[0] for line in path.read_text().splitlines()[1:]}

    assert ids("decided") | ids("undecided") == ids("all")
    assert not ids("decided") & ids("undecided")
    assert claim.threshold is not None
    assert len(ids("accepted")) == 7


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [("id", "x", "they are of two runs"), ("label", -2, "in group -2")],
)
def test_a_review_that_does_not_fit_is_refused(coterie, reviewed, tmp_path, column, value, says):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = reviewed / "result.reviewed.parquet"
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[3] = value
    table = table.set_column(table.column_names.index(column), column, pa.array(values, table[column].type))
    pq.write_table(table, path)
    assert says in refused(coterie, reviewed, "--to", "csv", "-o", tmp_path / "a.csv")


def test_groups_of_a_split_and_a_merge_keep_their_numbers(coterie, photos, tmp_path):
    rng = np.random.default_rng(0)
    write_run(
        tmp_path / "r", photos, sorted(NAMES), np.array([0, 0, 0, 0, 1, 1, 2, 2]), embedding=rng.normal(size=(8, 4))
    )
    with Review(tmp_path / "r") as review:
        parts = review.split(0)
        review.merge(1, [2])
        review.rename(parts[0], "new")
    assert parts == [4, 5]
    assert coterie("export", tmp_path / "r", "--to", "imagefolder,labelstudio", "-o", tmp_path / "out")[0] == 0
    assert sorted(os.listdir(tmp_path / "out" / "imagefolder")) == ["01", "04_new", "05", "coterie.jsonl"]
    choices = (tmp_path / "out" / "labelstudio" / "config.xml").read_text()
    assert [name in choices for name in ('"group 0"', '"group 1"', '"group 2"', '"new"')] == [False, True, False, True]


def test_a_name_that_a_review_gives_wins_over_the_model_s(coterie, run, tmp_path):
    (run / "model").mkdir()
    (run / "model" / "manifest.json").write_text(json.dumps({"names": {"0": "cat", "1": "dog"}}))
    with Review(run) as review:
        review.rename(2, "Mouse")
    assert coterie("export", run, "--to", "imagefolder", "-o", tmp_path / "out")[0] == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["00_cat", "01_dog", "02_Mouse", "coterie.jsonl"]


def test_a_run_that_is_not_finished_is_refused(coterie, run, tmp_path):
    record = yaml.safe_load((run / "run.yaml").read_text())
    (run / "run.yaml").write_text(yaml.safe_dump({**record, "status": "stopped"}))
    assert "is not finished" in refused(coterie, run, "--to", "csv", "-o", tmp_path / "a.csv")


def test_embeddings_have_no_pictures_but_tables(coterie, tmp_path):
    ids = [*map(str, range(7)), "a\u2028b", "a\x85b"]  # line ends of a text, not of coterie.jsonl
    write_run(tmp_path / "r", None, ids, np.arange(9) % 3, embedding=np.eye(9))
    said = refused(coterie, tmp_path / "r", "--to", "imagefolder", "-o", tmp_path / "out")
    assert "over embeddings, which have no pictures" in said
    said = refused(coterie, tmp_path / "r", "--to", "csv", "-o", tmp_path / "out.csv", "--source", tmp_path)
    assert "--source says where the pictures are, and the run is over embeddings" in said
    said = refused(coterie, tmp_path / "r", "--to", "csv,coco,cleanlab", "-o", tmp_path / "out")
    assert "coco needs the pictures. The run is over embeddings" in said
    for name, out in (("csv", "a.csv"), ("cleanlab", "cl"), ("projector", "pr"), ("embedding-atlas", "a.parquet")):
        for over in ((), ("--overwrite",)):
            code, _, said = coterie("export", tmp_path / "r", "--to", name, "-o", tmp_path / out, *over)
            assert code == 0, said


def test_of_several_formats_the_one_that_cannot_be_is_named(coterie, run, tmp_path):
    with Review(run) as review:
        review.reject(sorted(NAMES))
    said = refused(coterie, run, "--to", "csv,cleanlab", "-o", tmp_path / "out")
    assert "cleanlab: There is nothing to export: no item belongs to a group." in said
    assert not (tmp_path / "out").exists()


def test_names_of_every_kind_of_file(coterie, tmp_path):
    odd = [b"x\xff.png", b"x\\xff.png", b"new\nline.png", b"<img src=x onerror=alert(1)>.png", b"NUL.png"]
    odd += ["e\u0301.png".encode(), "é.png".encode(), b"=cmd().png", ("n" * 250 + ".png").encode()]
    odd += ["\u202egpj.png".encode(), "🐈.png".encode(), b"CON.PNG", b"con.png", b" a.png", b"a b%23#.png"]
    source = tmp_path / "source"
    source.mkdir()
    for number, name in enumerate(odd):
        Path(os.fsdecode(bytes(source) + b"/" + name)).write_bytes(_png(number))
    from coterie.data.folders import ids_of, list_images

    paths = [name for name, _, _ in list_images(source).files]
    ids = ids_of(paths)
    write_run(tmp_path / "r", source, ids, np.zeros(len(ids), int), k=2)
    assert coterie("export", tmp_path / "r", "--to", "imagefolder", "-o", tmp_path / "out")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "coterie.jsonl").read_text().splitlines()[1:]]
    assert len(lines) == len(odd)
    for line in lines:
        raw = paths[ids.index(line["id"])]
        assert (tmp_path / "out" / line["file"]).read_bytes() == (source / raw).read_bytes()
        assert Path(line["file"]).parent == Path("00")
        assert Path(line["file"]).suffix.lower() == ".png"  # also of two files whose names are printed alike
    for name, needs in (("fiftyone", 14), ("labelstudio", 14), ("coco", 14)):
        code, said, failed = coterie("export", tmp_path / "r", "--to", name, "-o", tmp_path / name)
        assert code == 0, failed
        assert f"Left out ({len(odd) - needs}): items whose names are not UTF-8" in said


def _png(shade: int) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (10 * shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_bare_install_evaluates_reports_and_exports_without_torch_or_a_web_server(run, tmp_path):
    own = shutil.copytree(run, tmp_path / "own")
    (own / "model").mkdir()  # which a finished run has
    ids = read_result(own / "result.parquet").ids
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(f"{name},{row % 3}\n" for row, name in enumerate(ids)))
    formats = "csv,parquet,imagefolder,hf,hf-parquet,coco,fiftyone,labelstudio,cleanlab,lightly"
    script = (
        "import sys\nfrom coterie.cli import main\n"
        f"code = main(['report', {str(own)!r}])\n"
        "early = [name for name in ('scipy.optimize',) if name in sys.modules]\n"
        f"code += main(['evaluate', {str(own)!r}, '--labels', {str(tmp_path / 'labels.csv')!r}])\n"
        # pyarrow's conversions import pandas
        "early += [name for name in ('torch', 'pandas') if name in sys.modules]\n"
        f"code += main(['export', {str(own)!r}, '--to', {formats!r}, '-o', {str(tmp_path / 'out')!r}])\n"
        "print(early, [name for name in ('torch', 'fastapi', 'datasets', 'fiftyone') if name in sys.modules], code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "[] [] 0", done.stdout + done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 11
