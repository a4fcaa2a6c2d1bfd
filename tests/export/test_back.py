"""Labels that come back: what a person said comes back as it was said, what nobody touched as nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coterie.data.judged import read_judged, table_content
from coterie.export.back import read_back
from coterie.export.items import items_of_run
from coterie.review import Review
from helpers.exports import NAMES, write_run

IDS = sorted(NAMES)
OURS = "id,label,name,confidence,source,decided\n"
INSIDE = {
    "fiftyone": "labels.json",
    "coco": "annotations/labels_default.json",
    "csv": "",
    "labelstudio": "tasks-0001.json",
}


def out_and_back(coterie, run, name: str, tmp_path: Path, change) -> dict[str, tuple[int, int]]:
    """Export, let `change` do what a person would, read back: id -> (label, proposed)."""
    ending = ".csv" if name == "csv" else ""
    place = tmp_path / f"{name}{ending}"
    code, _, said = coterie("export", run, "--to", name, "-o", place)
    assert code == 0, said
    path = place / INSIDE[name]
    if name == "csv":
        with open(path, newline="") as file:
            content: Any = list(csv.DictReader(file))
        change(content)
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(content[0]))
            writer.writeheader()
            writer.writerows(content)
    else:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return back(coterie, run, path, tmp_path)


def back(coterie, run, path: Path, tmp_path: Path) -> dict[str, tuple[int, int]]:
    out = tmp_path / "judged.csv"
    code, _, said = coterie("export", run, "--from", path, "-o", out, "--overwrite")
    assert code == 0, said
    with open(out, newline="") as file:
        return {row["id"]: (int(row["label"]), int(row["proposed"])) for row in csv.DictReader(file)}


def refused(coterie, run, path: Path, tmp_path: Path) -> str:
    code, _, said = coterie("export", run, "--from", path, "-o", tmp_path / "judged.csv")
    assert code == 2, said
    assert said.count("\n") == 1
    assert not (tmp_path / "judged.csv").exists()
    return said


def annotated(task: dict, choice: str, when: str = "2026-11-25T10:00:00.000Z", **more: Any) -> None:
    result = [{"type": "choices", "from_name": "group", "to_name": "image", "value": {"choices": [choice]}}]
    annotation = {"result": result, "updated_at": when, "was_cancelled": False, "completed_by": 1, **more}
    task.setdefault("annotations", []).append(annotation)


def by_id(tasks: list[dict]) -> dict[str, dict]:
    return {task["data"]["coterie_id"]: task for task in tasks}


def test_the_annotations_of_people_come_back_from_label_studio(coterie, run, tmp_path):
    def change(tasks):
        found = by_id(tasks)
        annotated(found[IDS[0]], "group 2")
        annotated(found[IDS[1]], "group 1")  # as it was: a person said so
        annotated(found[IDS[2]], "none of these")
        annotated(found[IDS[3]], "group 0", was_cancelled=True)

    assert out_and_back(coterie, run, "labelstudio", tmp_path, change) == {
        IDS[0]: (2, 0),
        IDS[1]: (1, 1),
        IDS[2]: (-1, 2),
    }


def test_label_studio_s_newest_annotation_counts_whatever_zone_it_was_written_in(coterie, run, tmp_path):
    def change(tasks):
        task = by_id(tasks)[IDS[0]]
        annotated(task, "group 1", "2026-11-25T12:30:00+00:00")
        annotated(task, "group 2", "2026-11-25T14:00:00+02:00", completed_by=2)  # half an hour before
        annotated(task, "group 2", "2026-11-25T13:00:00Z", completed_by=2, was_cancelled=True)

    assert out_and_back(coterie, run, "labelstudio", tmp_path, change) == {IDS[0]: (1, 0)}
    found = read_back(tmp_path / "labelstudio" / "tasks-0001.json", items_of_run(run))
    assert found.notes == [f"Of 1 item people disagree, the newest answer was taken: {IDS[0]}."]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda task: task["data"].update(coterie_id="gone.png"), "names 'gone.png', which is no id of the run"),
        (lambda task: task["data"].pop("coterie_id"), "has no coterie_id"),
        (lambda task: annotated(task, "grop 1"), "says 'grop 1' of"),
        (lambda task: annotated(task, "group 1", "yesterday"), "without updated_at"),
        (lambda task: task.pop("data"), "not as JSON-MIN"),
        (lambda task: None, "holds nothing that a person said"),
    ],
)
def test_what_label_studio_cannot_say(coterie, run, tmp_path, change, says):
    assert coterie("export", run, "--to", "labelstudio", "-o", tmp_path / "ls")[0] == 0
    path = tmp_path / "ls" / "tasks-0001.json"
    tasks = json.loads(path.read_text())
    change(tasks[0])
    path.write_text(json.dumps(tasks))
    assert says in refused(coterie, run, path, tmp_path)


def test_changed_groups_come_back_from_fiftyone(coterie, run, tmp_path):
    def change(content):
        content["labels"]["0000000"] |= {"label": 2, "confidence": None}
        content["labels"]["0000001"] = None

    assert out_and_back(coterie, run, "fiftyone", tmp_path, change) == {IDS[0]: (2, 0)}


def test_fiftyone_without_attributes_is_matched_by_names_that_are_unique(coterie, run, tmp_path):
    classes = ["group 0", "group 1", "group 2"]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"classes": classes, "labels": {"a/IMG_1": 2, "d": {"label": 0}}}))
    assert back(coterie, run, path, tmp_path) == {"a/IMG_1.jpg": (2, 0), "d.png": (0, 1)}


def test_fiftyone_s_key_of_two_pictures_is_refused_with_both(coterie, photos, tmp_path):
    (photos / "d.jpg").write_bytes((photos / "d.png").read_bytes())
    write_run(tmp_path / "r", photos, ["d.jpg", "d.png", "a/IMG_1.jpg"], np.array([0, 1, 1]), k=2)
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"classes": ["group 0", "group 1"], "labels": {"d": 1}}))
    assert "d.jpg or d.png" in refused(coterie, tmp_path / "r", path, tmp_path)
    path.write_text(json.dumps({"classes": ["group 0", "group 1"], "labels": {"a/IMG_1": -1}}))
    assert "label -1 of a/IMG_1, which is no place" in refused(coterie, tmp_path / "r", path, tmp_path)


def test_changed_groups_come_back_from_coco(coterie, run, tmp_path):
    def change(content):
        content["annotations"][0]["category_id"] = 3
        del content["annotations"][1]["score"]  # made by a person: the same group, no score
        content["categories"].reverse()

    assert out_and_back(coterie, run, "coco", tmp_path, change) == {IDS[0]: (2, 0), IDS[1]: (1, 1)}


def test_csv_of_an_export(coterie, run, tmp_path):
    def change(rows):
        rows[0]["label"] = "2"
        rows[1]["decided"] = "true"
        rows[2]["name"] = "group 0"
        rows[3]["label"] = "-1"

    assert out_and_back(coterie, run, "csv", tmp_path, change) == {
        IDS[0]: (2, 0),
        IDS[1]: (1, 1),
        IDS[2]: (0, 2),
        IDS[3]: (-1, 0),
    }


def test_csv_of_an_export_takes_a_group_that_is_called_na(coterie, run, tmp_path):
    """Before, such a name counted as an empty cell: the item was called unchanged."""
    with Review(run) as review:
        review.rename(2, "NA")

    def change(rows):
        rows[0]["name"] = "NA"

    assert out_and_back(coterie, run, "csv", tmp_path, change) == {IDS[0]: (2, 0)}


def test_csv_of_a_person_is_all_judged(coterie, run, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(f"id,label\n{IDS[0]},0\n{IDS[1]},2\n{IDS[2]},\n")
    assert back(coterie, run, path, tmp_path) == {IDS[0]: (0, 0), IDS[1]: (2, 1)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,label\na/IMG_1.jpg,9\n", "says group 9 of a/IMG_1.jpg"),
        ("id,label\na/IMG_1.jpg,1.5\n", "says '1.5' of a/IMG_1.jpg, and no group of the run is called so"),
        ("id,label\na/IMG_1.jpg,0_1\n", "says '0_1' of a/IMG_1.jpg, and no group of the run is called so"),
        ("id,name\na/IMG_1.jpg,cats\n", "no group of the run is called so"),
        ("id,label\nx.jpg,1\n", "names x.jpg, which is not in the source"),
        ("id,label,name\na/IMG_1.jpg,1,group 2\n", "label and name belong to different groups"),
        ("id,label,name\na/IMG_1.jpg,0,group 2\n", "label and name belong to different groups"),
        (f"{OURS}a/IMG_1.jpg,1,group 2,0.9,model,false\n", "label and name belong to different groups"),
        (
            f"{OURS}a/IMG_1.jpg,0,group 0,0.9,model,WAHR\n",
            "says 'wahr' of a/IMG_1.jpg in the column decided: write true",
        ),
        ("id,group\na/IMG_1.jpg,1\n", "needs a column label or name"),
        ("file,label\na/IMG_1.jpg,1\n", "needs a column id"),
        ("id,label\na/IMG_1.jpg,1\na/IMG_1.jpg,2\n", "says two things of a/IMG_1.jpg"),
    ],
)
def test_what_a_table_cannot_say(coterie, run, tmp_path, text, says):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    assert says in refused(coterie, run, path, tmp_path)


def test_a_group_that_is_called_0_1_is_not_group_1(coterie, run, tmp_path):
    """Python reads 0_1 as the number one."""
    with Review(run) as review:
        review.rename(2, "0_1")
    path = tmp_path / "mine.csv"
    path.write_text(f"id,label\n{IDS[0]},0_1\n{IDS[1]},1.0\n{IDS[3]},-1\n")
    assert back(coterie, run, path, tmp_path) == {IDS[0]: (2, 0), IDS[1]: (1, 1), IDS[3]: (-1, 0)}
    path.write_text("id,label\n" + "".join(f"{item},{label}\n" for item, label in zip(IDS, ["0_1"] * 4, strict=False)))
    read = read_judged(path, IDS, np.arange(8) % 3, 3, {"0_1": 2, "0_2": 1, "1_2": 0})
    assert read.groups.tolist() == [2] * 4


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '{"labels": []}', "nonsense", '"text"', "[" * 50 + "]" * 50])
def test_json_that_is_nothing_of_the_kind(coterie, run, tmp_path, content):
    path = tmp_path / "back.json"
    path.write_text(content)
    refused(coterie, run, path, tmp_path)


def test_a_folder_is_not_to_be_removed(coterie, run, tmp_path):
    assert "give the file that came back" in refused(coterie, run, tmp_path, tmp_path)


def test_untouched_predictions_of_every_kind_come_back_as_nothing(coterie, run, tmp_path):
    for name in ("labelstudio", "fiftyone", "coco", "csv"):
        place = tmp_path / f"{name}{'.csv' if name == 'csv' else ''}"
        assert coterie("export", run, "--to", name, "-o", place)[0] == 0
        path = {"fiftyone": place / "labels.json", "coco": place / "annotations" / "labels_default.json"}.get(
            name, place
        )
        path = place / "tasks-0001.json" if name == "labelstudio" else path
        assert "holds nothing that a person said" in refused(coterie, run, place / INSIDE[name], tmp_path)


@pytest.mark.parametrize(
    ("form", "inside", "key"),
    [("fiftyone", "labels.json", "confidence"), ("coco", "annotations/labels_default.json", "score")],
)
def test_labels_of_a_program_that_wrote_no_confidence_confirm_nothing(coterie, run, tmp_path, form, inside, key):
    """All of them counted as judged right, and `accept --judged` promised a bound by the model's own labels."""
    assert coterie("export", run, "--to", form, "-o", tmp_path / "out")[0] == 0
    path = tmp_path / "out" / inside
    content = json.loads(path.read_text())
    for one in content["labels"].values() if form == "fiftyone" else content["annotations"]:
        one.pop(key)
    path.write_text(json.dumps(content))
    assert "holds nothing that a person said" in refused(coterie, run, path, tmp_path)
    first = content["labels"]["0000000"] if form == "fiftyone" else content["annotations"][0]
    first["label" if form == "fiftyone" else "category_id"] = 2 if form == "fiftyone" else 3
    path.write_text(json.dumps(content))
    assert back(coterie, run, path, tmp_path) == {IDS[0]: (2, 0)}


def test_the_file_is_one_for_accept_judged(coterie, run, tmp_path):
    path, out = tmp_path / "mine.csv", tmp_path / "judged.csv"
    path.write_text("id,label\n" + "".join(f"{item},{row % 3}\n" for row, item in enumerate(IDS)))
    code, said, failed = coterie("export", run, "--from", path, "-o", out, "--json")
    assert code == 0, failed
    assert json.loads(said)["judged"] == 8
    items = items_of_run(run)
    read = read_judged(out, items.ids, items.model_label, items.n_groups, {})
    assert read.right.all()
    arguments = ("accept", run, "--judged", out, "--max-error", 0.5, "--confidence-level", 0.5, "--json")
    code, said, failed = coterie(*arguments)
    assert code == 0, failed
    assert json.loads(said)["audit"]["judged"] == 8


def test_a_group_that_was_merged_is_the_model_s_own_still(coterie, run, tmp_path):
    with Review(run) as review:
        review.merge(0, [1]).rename(0, "cat")
    path = tmp_path / "mine.csv"
    path.write_text(f"id,name\n{IDS[1]},cat\n{IDS[2]},cat\n")
    assert back(coterie, run, path, tmp_path) == {IDS[1]: (1, 1), IDS[2]: (0, 2)}
    path.write_text(f"id,label\n{IDS[1]},1\n")
    assert "says group 1" in coterie("export", run, "--from", path, "-o", tmp_path / "j.csv")[2]


def test_nothing_of_anyone_else_is_replaced(coterie, run, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("id,label\na/IMG_1.jpg,1\n")
    for out in (path, run / "result.parquet"):
        before = out.read_bytes()
        assert coterie("export", run, "--from", path, "-o", out, "--overwrite")[0] == 2
        assert out.read_bytes() == before


ODD = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=8).map(str.strip)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(ODD.filter(lambda name: name and "\ufffd" not in name), unique=True, min_size=2, max_size=6))
def test_ids_of_any_name_come_back_through_csv(tmp_path, names):
    """As `accept --draw` writes them and `--judged` reads them; two that a table cannot tell apart are refused."""
    path = tmp_path / "ids.csv"
    labels = np.arange(len(names)) % 2
    path.write_bytes(table_content(path, {"id": names, "label": labels}))
    try:
        read = read_judged(path, names, labels, 2, {})
    except ValueError:
        return
    assert [names[row] for row in read.rows] == names
    assert read.right.all()


def test_judgements_for_groups_that_a_review_split_off_are_left_out(coterie, run, tmp_path):
    """Before, they were written, and accept, recalibrate and fit --judged refused the whole file."""
    with Review(run) as review:
        review.submit("split", {"group": 0, "parts": [{"rows": "0,3"}]})
        review.approve(4, seen=[0, 3]).approve(1, [1])
    table = run / "result.reviewed.parquet"
    assert back(coterie, run, table, tmp_path) == {IDS[1]: (1, 1)}
    said = coterie("export", run, "--from", table, "-o", tmp_path / "j.csv")[1]
    assert "Left out (2): judgements for group 4, which the review split off and the run has not." in said
    with Review(run) as review:
        review.undo()
    (tmp_path / "judged.csv").unlink()
    assert "No judgement is left. Left out (2)" in refused(coterie, run, table, tmp_path)


def test_the_table_of_a_review_holds_judgements_only_where_somebody_decided(coterie, reviewed, tmp_path):
    table = reviewed / "result.reviewed.parquet"
    code, _, said = coterie("accept", reviewed, "--judged", table)
    assert code == 2
    assert f"{table} is a table of a review or of coterie export" in said
    assert f"coterie export RUN --from {table} -o judged.csv" in said
    code, said, _ = coterie("export", reviewed, "--from", table, "-o", tmp_path / "judged.csv", "--json")
    assert code == 0
    assert json.loads(said)["judged"] == pq.read_table(table)["decided"].to_pylist().count(True)
