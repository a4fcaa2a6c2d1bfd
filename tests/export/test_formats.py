"""Each format: what it holds, read by the program it is for where that is installed here, else by its rules."""

from __future__ import annotations

import csv
import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from coterie.data import open_source
from coterie.export import Options, export, format_names
from coterie.export.items import items_of_run
from coterie.review import Review
from helpers.exports import NAMES, write_pictures, write_run

IDS = sorted(NAMES)
GROUPS = np.arange(8) % 4


def exported(coterie, run, formats, out, *more):
    code, said, failed = coterie("export", run, "--to", formats, "-o", out, *more)
    assert code == 0, failed
    return said


def mapped(folder: Path) -> dict[str, str]:
    """File (or row) -> id, of `coterie.jsonl`."""
    lines = [json.loads(line) for line in (folder / "coterie.jsonl").read_text().splitlines()[1:]]
    return {next(value for name, value in line.items() if name != "id"): line["id"] for line in lines if "id" in line}


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_formats_of_the_documentation():
    assert set(format_names()) == {
        *("csv", "parquet", "imagefolder", "hf", "hf-parquet", "coco", "fiftyone", "labelstudio", "embedding-atlas"),
        *("cleanlab", "projector", "lightly"),
    }


@pytest.mark.parametrize("judged", [0, 7])
def test_what_people_taught_stands_where_a_format_has_a_place_for_it(coterie, run, tmp_path, judged):
    if judged:
        record = yaml.safe_load((run / "run.yaml").read_text())
        (run / "run.yaml").write_text(yaml.safe_dump({**record, "labels_used": {"judged": judged}}))
    exported(coterie, run, "parquet,hf-parquet,hf,imagefolder", tmp_path / "out")
    for name in ("parquet.parquet", "hf-parquet.parquet", "hf/train/metadata.parquet"):
        metadata = pq.read_schema(tmp_path / "out" / name).metadata
        assert metadata.get(b"coterie.labels_used") == (b"7" if judged else None)
    for name in ("hf", "imagefolder"):
        head = json.loads((tmp_path / "out" / name / "coterie.jsonl").read_text().splitlines()[0])
        assert head.get("labels_used") == (judged or None)


def test_csv(coterie, reviewed, tmp_path):
    exported(coterie, reviewed, "csv", tmp_path / "groups.csv")
    rows = read_csv(tmp_path / "groups.csv")
    assert [row["id"].removeprefix("'") for row in rows] == IDS
    assert rows[0] == {
        "id": IDS[0],
        "label": "0",
        "name": "tabby cat",
        "confidence": "0.99",
        "source": "person",
        "decided": "true",
    }
    assert rows[2]["name"] == "'=1+1"
    assert rows[4] | {"id": ""} == {
        "id": "",
        "label": "-1",
        "name": "",
        "confidence": "",
        "source": "person",
        "decided": "true",
    }


@pytest.mark.parametrize("name", ["csv", "lightly"])
def test_no_cell_of_a_csv_begins_like_a_formula(coterie, photos, tmp_path, name):
    """Names of groups, and the ids of a run whose ids are no paths."""
    ids = ["=1+1", "+2", "-3", "@a", "b=1", "c-2", "d", "e"]
    write_run(tmp_path / "run", photos if name == "lightly" else None, IDS if name == "lightly" else ids, GROUPS)
    with Review(tmp_path / "run") as review:
        for group, text in enumerate(("=cmd()", "@sum", "+3", "-4")):
            review.rename(group, text)
    exported(coterie, tmp_path / "run", name, tmp_path / "a.csv")
    rows = read_csv(tmp_path / "a.csv")
    assert not [cell for row in rows for cell in row.values() if cell[:1] in "=+-@"]
    column = {"csv": "name", "lightly": "class_name"}[name]
    assert [row[column] for row in rows] == ["'=cmd()", "'@sum", "'+3", "'-4"] * 2
    if name == "csv":
        assert [row["id"] for row in rows] == ["'=1+1", "'+2", "'-3", "'@a", *ids[4:]]


def test_a_run_without_a_review_keeps_the_model_s_labels(coterie, run, tmp_path):
    exported(coterie, run, "csv", tmp_path / "groups.csv")
    rows = read_csv(tmp_path / "groups.csv")
    result = pq.read_table(run / "result.parquet").to_pydict()
    assert [int(row["label"]) for row in rows] == result["label"]
    assert np.array([row["confidence"] for row in rows], np.float32).tolist() == result["confidence"]
    assert {(row["source"], row["decided"], row["name"]) for row in rows} == {
        ("model", "false", f"group {group}") for group in range(3)
    }


def test_original_leaves_the_review_out(coterie, reviewed, run, tmp_path):
    exported(coterie, reviewed, "csv", tmp_path / "a.csv", "--original")
    (reviewed / "result.reviewed.parquet").unlink()
    shutil.rmtree(reviewed / "review")
    exported(coterie, run, "csv", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_parquet_has_the_columns_of_a_review(coterie, reviewed, tmp_path):
    exported(coterie, reviewed, "parquet", tmp_path / "a.parquet")
    table, before = pq.read_table(tmp_path / "a.parquet"), pq.read_table(reviewed / "result.reviewed.parquet")
    assert table.column_names == before.column_names
    assert table.to_pydict() == before.to_pydict()
    exported(coterie, reviewed, "parquet", tmp_path / "b.parquet", "--original")
    plain = pq.read_table(tmp_path / "b.parquet")
    assert plain.column_names == before.column_names
    assert plain["probabilities"].to_pylist() == pq.read_table(reviewed / "result.parquet")["probabilities"].to_pylist()


def test_imagefolder_is_one_of_torchvision_s(coterie, reviewed, photos, tmp_path):
    from torchvision.datasets import ImageFolder

    out = tmp_path / "out"
    exported(coterie, reviewed, "imagefolder", out)
    read = ImageFolder(str(out))
    assert read.classes == ["00_tabby-cat", "01", "02_1-1"]
    ids = mapped(out)
    items = items_of_run(reviewed)
    label = dict(zip(items.ids, items.label.tolist(), strict=True))
    assert len(read.samples) == 7
    for path, target in read.samples:
        item = ids[os.path.relpath(path, out)]
        assert int(read.classes[target][:2]) == label[item]
        assert Path(path).read_bytes() == (photos / item).read_bytes()


def test_rejected_photos_only_on_request(coterie, reviewed, tmp_path):
    exported(coterie, reviewed, "imagefolder", tmp_path / "out", "--include-rejected")
    assert os.listdir(tmp_path / "out" / "_unlabeled") == ["_-rf.png"]


def test_names_that_agree_but_for_case_are_marked_both(coterie, photos, tmp_path):
    ids = ["b/IMG_1.jpg", "b/img_1.JPG", "d.png"]
    write_run(tmp_path / "r", photos, ids, np.array([0, 0, 0]), k=2)
    exported(coterie, tmp_path / "r", "imagefolder", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "00").iterdir())
    assert [name.split("~")[0] for name in names] == ["IMG_1", "d.png", "img_1"]
    assert mapped(tmp_path / "out")[f"00/{names[0]}"] == "b/IMG_1.jpg"


@pytest.mark.parametrize("link", ["copy", "symlink", "hard"])
def test_pictures_are_copied_or_linked_as_asked(coterie, run, photos, tmp_path, link):
    said = exported(coterie, run, "imagefolder", tmp_path / "out", "--link", link)
    path = tmp_path / "out" / "01" / "IMG_2.png"
    assert path.read_bytes() == (photos / "a" / "IMG_2.png").read_bytes()
    assert path.is_symlink() == (link == "symlink")
    assert path.samefile(photos / "a" / "IMG_2.png") == (link != "copy")
    assert ("a program that edits the copy edits your photo" in said) == (link == "hard")


def test_prefix_names_puts_the_group_before_each_file_name(coterie, run, tmp_path):
    exported(coterie, run, "imagefolder", tmp_path / "out", "--prefix-names")
    for path in (tmp_path / "out").rglob("*.jpg"):
        assert path.name.startswith(f"{path.parent.name}_")


def test_hf_says_each_label_in_its_metadata(coterie, reviewed, tmp_path):
    exported(coterie, reviewed, "hf", tmp_path / "out", "--include-rejected")
    train = tmp_path / "out" / "train"
    lines = pq.read_table(train / "metadata.parquet").to_pylist()
    assert {line["file_name"] for line in lines} == {
        str(path.relative_to(train)) for path in train.rglob("*") if path.suffix != ".parquet" and path.is_file()
    }
    by_id = {line["id"]: line for line in lines}
    assert list(by_id) == IDS
    assert by_id[IDS[0]] == {
        "file_name": by_id[IDS[0]]["file_name"],
        "label": "tabby cat",
        "confidence": pytest.approx(0.99),
        "source": "person",
        "id": IDS[0],
    }
    assert by_id[IDS[4]]["label"] is None


def test_hf_keeps_names_that_look_like_a_time_or_a_split(coterie, run, tmp_path):
    """`datasets` takes such a text in JSON for a time, and such a word in a folder's name for another split."""
    with Review(run) as review:
        review.rename(0, "2024-05-01").rename(1, "val d'Isère").rename(2, "train 2")
    exported(coterie, run, "hf", tmp_path / "out")
    train = tmp_path / "out" / "train"
    assert sorted(path.name for path in train.iterdir()) == ["00_2024-05-01", "01", "02_train-2", "metadata.parquet"]
    table = pq.read_table(train / "metadata.parquet")
    assert {str(table.schema.field(name).type) for name in ("file_name", "label", "source", "id")} == {"string"}
    assert set(table["label"].to_pylist()) == {"2024-05-01", "val d'Isère", "train 2"}
    assert all((train / name).is_file() for name in table["file_name"].to_pylist())


def test_hf_parquet_is_a_source_of_coterie_again(coterie, reviewed, photos, tmp_path):
    path = tmp_path / "out.parquet"
    exported(coterie, reviewed, "hf-parquet", path)
    source = open_source(str(path))
    assert list(source.ids) == IDS
    assert source.items.spec.kind == "images"
    cells = pq.read_table(path)["image"].to_pylist()
    assert [cell["bytes"] for cell in cells] == [(photos / item).read_bytes() for item in IDS]
    about = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert about["label"]["names"] == ["tabby cat", "group 1", "=1+1", "group 3"]
    assert pq.read_table(path)["label"].to_pylist() == [0, 1, 2, 0, None, 2, 0, 1]


def test_hf_parquet_has_row_groups_of_a_hundred(coterie, tmp_path):
    names = [f"{row:03}.png" for row in range(230)]
    (tmp_path / "many").mkdir()
    for name in names:
        Image.new("L", (4, 4)).save(tmp_path / "many" / name)
    write_run(tmp_path / "r", tmp_path / "many", names, np.arange(230) % 4)
    exported(coterie, tmp_path / "r", "hf-parquet", tmp_path / "a.parquet")
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)] == [100, 100, 30]


def test_coco(coterie, reviewed, tmp_path):
    said = exported(coterie, reviewed, "coco", tmp_path / "out")
    assert "Datumaro refuses" not in said
    assert (tmp_path / "out" / "images").is_dir()  # Datumaro looks for it
    found = json.loads((tmp_path / "out" / "annotations" / "labels_default.json").read_text())
    assert [image["file_name"] for image in found["images"]] == IDS
    assert [image["id"] for image in found["images"]] == list(range(1, 9))
    for image in found["images"]:
        row = NAMES.index(image["file_name"])
        assert (image["width"], image["height"]) == (12 + row, 10)
    said = {one["image_id"]: one for one in found["annotations"]}
    assert said[1] == {"id": 1, "image_id": 1, "category_id": 1, "score": 0.99}
    assert 5 not in said
    assert [one["name"] for one in found["categories"]] == ["tabby cat", "group 1", "=1+1", "group 3"]


def test_fiftyone_keeps_the_traps_of_its_reader_out(coterie, reviewed, photos, tmp_path):
    exported(coterie, reviewed, "fiftyone", tmp_path / "out")
    data = json.loads((tmp_path / "out" / "data.json").read_text())
    found = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert list(data) == [f"{row:07d}" for row in range(8)] == list(found["labels"])
    assert list(data.values()) == [str(photos / item) for item in IDS]
    assert found["labels"]["0000004"] is None
    first = found["labels"]["0000000"]
    assert found["classes"][first["label"]] == "tabby cat"
    assert first["attributes"] == {"coterie_id": IDS[0]}


def test_labelstudio(coterie, reviewed, photos, tmp_path):
    said = exported(coterie, reviewed, "labelstudio", tmp_path / "out", "--document-root", tmp_path)
    assert f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={tmp_path}" in said
    tasks = json.loads((tmp_path / "out" / "tasks-0001.json").read_text())
    assert sorted(task["data"]["coterie_id"] for task in tasks) == [IDS[row] for row in (1, 3, 5, 7)]
    for task in tasks:
        url = urlsplit(task["data"]["image"])
        assert url.path == "/data/local-files/"
        assert (tmp_path / parse_qs(url.query)["d"][0]) == photos / task["data"]["coterie_id"]
    choices = [one.get("value") for one in ElementTree.parse(tmp_path / "out" / "config.xml").iter("Choice")]
    assert choices == ["tabby cat", "group 1", "=1+1", "group 3", "none of these"]
    for task in tasks:
        assert task["predictions"][0]["result"][0]["value"]["choices"][0] in choices


def test_labelstudio_offers_the_groups_that_are_decided_already(coterie, photos, tmp_path):
    """A choice is for whatever a person sees, also where no undecided item has any probability of that group."""
    labels = np.array([0, 0, 1, 1, 2, 2, 0, 1])
    write_run(tmp_path / "run", photos, IDS, labels, confidence=np.ones(8))
    with Review(tmp_path / "run") as review:
        review.move([IDS[4], IDS[5]], 2)
    exported(coterie, tmp_path / "run", "labelstudio", tmp_path / "out", "--limit", 2)
    choices = [one.get("value") for one in ElementTree.parse(tmp_path / "out" / "config.xml").iter("Choice")]
    assert choices == ["group 0", "group 1", "group 2", "none of these"]


def test_labelstudio_begins_with_the_most_doubtful(coterie, run, tmp_path):
    exported(coterie, run, "labelstudio", tmp_path / "out", "--limit", 3)
    tasks = json.loads((tmp_path / "out" / "tasks-0001.json").read_text())
    assert [task["data"]["coterie_id"] for task in tasks] == IDS[:-4:-1]  # confidences fall with the row


def test_the_model_version_is_that_of_the_result_whatever_is_exported(coterie, run, tmp_path):
    def version(place: str, *options: object) -> str:
        exported(coterie, run, "labelstudio", tmp_path / place, *options)
        (task, *_) = json.loads((tmp_path / place / "tasks-0001.json").read_text())
        return task["predictions"][0]["model_version"]

    assert version("all") == version("few", "--limit", 2)


def test_labelstudio_has_files_of_ten_thousand(coterie, photos, tmp_path, monkeypatch):
    from coterie.export.formats import labelstudio

    monkeypatch.setattr(labelstudio, "TASKS", 3)
    write_run(tmp_path / "r", photos, IDS, np.zeros(8, int))
    exported(coterie, tmp_path / "r", "labelstudio", tmp_path / "out")
    parts = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("tasks-*.json"))]
    assert [len(part) for part in parts] == [3, 3, 2]


def test_a_document_root_that_the_server_does_not_serve_is_refused(coterie, run, photos, tmp_path):
    out = tmp_path / "out"
    code, _, said = coterie("export", run, "--to", "labelstudio", "-o", out, "--document-root", photos)
    assert (code, "not the root itself" in said) == (2, True)
    code, _, said = coterie("export", run, "--to", "labelstudio", "-o", out, "--document-root", tmp_path / "elsewhere")
    assert (code, "does not lie below the document root" in said) == (2, True)
    assert not out.exists()
    assert not (tmp_path / "out.part").exists()


def embedded(tmp_path: Path, photos: Path) -> Path:
    run = tmp_path / "embedded"
    rng = np.random.default_rng(0)
    write_run(run, photos, IDS, np.arange(8) % 3, embedding=rng.normal(size=(8, 5)))
    return run


def test_embedding_atlas(coterie, photos, tmp_path):
    run = embedded(tmp_path, photos)
    said = exported(coterie, run, "embedding-atlas", tmp_path / "a.parquet", "--thumbs")
    assert "--x projection_x --y projection_y --neighbors neighbors --image image" in said
    table = pq.read_table(tmp_path / "a.parquet").to_pydict()
    z = np.array(pq.read_table(run / "result.parquet")["embedding"].to_pylist())
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    distance = 1 - z @ z.T
    for row, near in enumerate(table["neighbors"]):
        assert near["ids"] == [other for other in np.argsort(distance[row]).tolist() if other != row]
        assert near["distances"] == pytest.approx(np.sort(distance[row])[1:], abs=1e-5)
    assert all(cell["bytes"].startswith(b"\xff\xd8\xff") for cell in table["image"])
    assert np.isfinite(table["projection_x"]).all()
    exported(coterie, run, "embedding-atlas", tmp_path / "one.parquet", "--limit", "1")
    assert pq.read_table(tmp_path / "one.parquet")["neighbors"].to_pylist() == [{"ids": [], "distances": []}]


def test_embedding_atlas_of_equal_embeddings(coterie, photos, tmp_path):
    write_run(tmp_path / "r", photos, IDS, np.arange(8) % 3, embedding=np.ones((8, 3)))
    exported(coterie, tmp_path / "r", "embedding-atlas", tmp_path / "a.parquet")
    for row, near in enumerate(pq.read_table(tmp_path / "a.parquet")["neighbors"].to_pylist()):
        assert row not in near["ids"]
        assert len(set(near["ids"])) == 7


def test_cleanlab_misses_no_class(coterie, run, tmp_path):
    exported(coterie, run, "cleanlab", tmp_path / "out")
    p, labels = np.load(tmp_path / "out" / "pred_probs.npy"), np.load(tmp_path / "out" / "labels.npy")
    assert sorted(set(labels)) == list(range(p.shape[1])) == [0, 1, 2]
    assert p.sum(1) == pytest.approx(1, abs=1e-5)
    assert [one["group"] for one in json.loads((tmp_path / "out" / "classes.json").read_text())] == [0, 1, 2]
    assert list(mapped(tmp_path / "out").values()) == IDS


def test_cleanlab_has_even_probabilities_where_all_was_in_a_group_that_is_left_out(coterie, tmp_path):
    """A person moved the only item of group 2, of which the model was sure."""
    write_run(tmp_path / "run", None, list("abc"), np.array([0, 1, 2]), k=3, confidence=np.array([0.8, 0.6, 1.0]))
    with Review(tmp_path / "run") as review:
        review.move(["c"], 0)
    said = exported(coterie, tmp_path / "run", "cleanlab", tmp_path / "out")
    assert "Note: 1 group without items was left out, with up to 1 of a row's probability" in said
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [0, 1, 0]
    p = np.load(tmp_path / "out" / "pred_probs.npy")
    assert p == pytest.approx(np.array([[8 / 9, 1 / 9], [0.25, 0.75], [0.5, 0.5]]))


def test_imagefolder_names_a_picture_that_torchvision_leaves_out(coterie, tmp_path):
    write_pictures(tmp_path / "photos", ("a.gif", "b.PNG", "c.jpeg"))
    write_run(tmp_path / "run", tmp_path / "photos", ["a.gif", "b.PNG", "c.jpeg"], np.array([0, 1, 0]), k=2)
    said = exported(coterie, tmp_path / "run", "imagefolder", tmp_path / "out")
    assert "1 picture is of a type that torchvision leaves out, such as 00/a.gif" in said


def test_projector(coterie, photos, tmp_path):
    run = embedded(tmp_path, photos)
    with Review(run) as review:
        review.reject([IDS[4]])
    exported(coterie, run, "projector", tmp_path / "out")
    vectors = np.loadtxt(tmp_path / "out" / "vectors.tsv", delimiter="\t")
    assert vectors == pytest.approx(np.array(pq.read_table(run / "result.parquet")["embedding"].to_pylist()), rel=1e-6)
    lines = (tmp_path / "out" / "metadata.tsv").read_text().splitlines()
    assert lines[0].split("\t")[:3] == ["id", "group", "name"]
    assert [line.split("\t")[0] for line in lines[1:]] == IDS
    assert lines[1].split("\t")[1:] == ["0", "group 0", "0.99", "model", "false"]
    assert lines[5].split("\t")[1:] == ["-1", "", "", "person", "true"]


def test_projector_has_one_line_an_item_whatever_a_file_is_called(coterie, tmp_path):
    ids = ["a\nb.png", "c\rd.png", "e\tf.png", "g.png"]
    write_run(tmp_path / "run", None, ids, np.arange(4) % 3, embedding=np.eye(4))
    exported(coterie, tmp_path / "run", "projector", tmp_path / "out")
    lines = (tmp_path / "out" / "metadata.tsv").read_bytes().decode().split("\n")
    assert [line.split("\t")[0] for line in lines] == ["id", "a b.png", "c d.png", "e f.png", "g.png", ""]
    assert list(mapped(tmp_path / "out").values()) == ids


def test_lightly(coterie, reviewed, photos, tmp_path):
    exported(coterie, reviewed, "lightly", tmp_path / "a.csv")
    rows = read_csv(tmp_path / "a.csv")
    assert [row["file_path_abs"] for row in rows] == [str(photos / item) for item in IDS if item != IDS[4]]
    assert rows[0]["class_name"] == "tabby cat"


@pytest.mark.parametrize("name", format_names())
def test_two_exports_are_equal_bytes(coterie, photos, tmp_path, name):
    run = embedded(tmp_path, photos)
    ending = {"csv": ".csv", "lightly": ".csv"}.get(name, ".parquet" if name.endswith(("parquet", "atlas")) else "")
    for out in ("one", "two"):
        exported(coterie, run, name, tmp_path / f"{out}{ending}")
    first, second = (tmp_path / f"{out}{ending}" for out in ("one", "two"))
    assert (content(first) == content(second)) if first.is_dir() else (first.read_bytes() == second.read_bytes())
    if first.is_dir():
        assert sorted(set(mapped(first).values())) == IDS


def test_several_formats_at_once(coterie, reviewed, tmp_path):
    exported(coterie, reviewed, "csv,imagefolder,coco", tmp_path / "all")
    exported(coterie, reviewed, "imagefolder", tmp_path / "one")
    whole = content(tmp_path / "all")
    assert {name.split("/")[0] for name in whole} == {"csv.csv", "imagefolder", "coco", "coterie.jsonl"}
    assert content(tmp_path / "all" / "imagefolder") == content(tmp_path / "one")
    exported(coterie, reviewed, "csv,imagefolder,coco", tmp_path / "all", "--overwrite")
    assert content(tmp_path / "all") == whole


def test_who_watches_hears_of_every_picture_of_every_format(run, tmp_path):
    heard: list[tuple[str, int, int]] = []
    items = items_of_run(run)
    export(items, ["imagefolder", "csv", "hf"], tmp_path / "out", Options(), progress=lambda *said: heard.append(said))
    assert heard == [(name, done + 1, len(items)) for name in ("imagefolder", "hf") for done in range(len(items))]
