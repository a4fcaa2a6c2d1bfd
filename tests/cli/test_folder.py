"""A folder as people have them: nested, with pictures of all kinds and some that are none."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

BAD = {"1/cut.png": "truncated", "2/nothing.png": "empty file (0 bytes)", "3/letter.jpg": "not an image"}


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 grey PNGs in folders named by their class, RGBA, palette, 16 bit, a large one, and three broken files."""
    root = tmp_path_factory.mktemp("messy") / "photos"
    digits = load_digits()
    grey = (digits.images * (255 / 16)).astype(np.uint8)
    for row in range(60):
        folder = root / str(digits.target[row])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey[row]).save(folder / f"{row:02d}.png")
    Image.fromarray(np.dstack([grey[60]] * 3 + [255 - grey[60]])).save(root / "0" / "rgba.png")
    Image.fromarray(grey[61]).convert("P").save(root / "0" / "palette.png")
    Image.fromarray(grey[62].astype(np.uint16) * 257).save(root / "0" / "deep.png")
    Image.fromarray(grey[63]).resize((1200, 1600)).save(root / "0" / "large.png")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50), dtype=np.uint8))
    (root / "1/cut.png").write_bytes(encoded(noise)[:1500])
    (root / "2/nothing.png").write_bytes(b"")
    (root / "3/letter.jpg").write_text("I am no image.")
    return root


OPTIONS = ("--image-size", 16, "--labels", "folders")


@pytest.fixture(scope="module")
def run(coterie, quick, photos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    answer = coterie("fit", photos, "-k", 10, "-o", folder, *quick, *OPTIONS)
    assert answer.code == 0, answer.err
    assert "3 unreadable images were left out" in answer.out
    for name, reason in BAD.items():
        assert f"{name}: {reason}" in answer.out
    return folder


def test_what_cannot_be_read_is_listed_and_counted(run, photos):
    source = yaml.safe_load((run / "run.yaml").read_text())["source"]
    assert {item["id"]: item["reason"] for item in source["skipped"]} == BAD
    assert source["n"] == 64
    ids = pq.read_table(run / "result.parquet")["id"].to_pylist()
    assert sorted([*ids, *BAD]) == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.*g"))


def test_predict_gives_the_same_and_lists_the_same(coterie, run, photos, tmp_path):
    found = coterie("predict", run, photos, "-o", tmp_path / "again.parquet", "--json").object
    assert (found["n"], found["skipped"]) == (64, 3)
    assert {item["id"]: item["reason"] for item in found["skipped_items"]} == BAD
    # How familiar an item looks is a question about new ones; fit does not ask it.
    again = pq.read_table(tmp_path / "again.parquet").drop_columns("ood_score")
    assert again.equals(pq.read_table(run / "result.parquet"))


def test_fit_lists_them_in_its_object_too(coterie, quick, photos, tmp_path):
    answer = coterie("fit", photos, "-k", 10, "-o", tmp_path / "run", "--json", *quick, *OPTIONS, "--epochs", 0)
    found = answer.object
    assert (found["n"], found["skipped"]) == (64, 3)
    assert {item["id"]: item["reason"] for item in found["skipped_items"]} == BAD
    assert 0 <= found["metrics"]["acc"] <= 1


def test_the_report_shows_them(coterie, run):
    page = Path(coterie("report", run, "--json").object["report"]).read_text()
    for name, reason in BAD.items():
        assert name in page
        assert reason in page


def test_labels_may_name_the_images_that_cannot_be_read(coterie, run, photos, tmp_path):
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.*g"))]
    assert len(names) == 67
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\n" + "".join(f"{name},{name.split('/')[0]}\n" for name in names))
    by_file = coterie("evaluate", run, "--labels", labels, "--json").object["metrics"]
    by_folder = coterie("evaluate", run, "--labels", "folders", "--json").object["metrics"]
    assert by_file["acc"] == by_folder["acc"]
    assert by_file["n"] == 64


def test_the_folder_is_left_as_it_was(coterie, quick, photos, tmp_path):
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [photos, *photos.rglob("*")]}
    coterie("fit", photos, "-k", 3, "-o", tmp_path / "run", *quick, *OPTIONS, "--epochs", 0)
    coterie("predict", tmp_path / "run", photos, "-o", tmp_path / "x.parquet")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [photos, *photos.rglob("*")]} == before


def test_predict_takes_a_single_file_and_fit_says_what_it_wants(coterie, run, photos, tmp_path):
    whole = pq.read_table(run / "result.parquet").to_pylist()
    one = next(row for row in whole if row["id"] == "0/large.png")
    answer = coterie("predict", run, photos / "0" / "large.png", "-o", tmp_path / "one.parquet")
    assert answer.code == 0, answer.err
    (found,) = pq.read_table(tmp_path / "one.parquet").to_pylist()
    assert found["id"] == "large.png"
    assert found["label"] == one["label"]
    assert found["confidence"] == pytest.approx(one["confidence"], abs=1e-4)
    refused = coterie("fit", photos / "0" / "large.png", "-k", 2, "-o", tmp_path / "none")
    assert (refused.code, refused.out) == (2, "")
    assert "a single picture, which cannot be grouped: give the folder" in refused.err


def test_the_family_is_guessed_recorded_and_can_be_said(coterie, photos):
    assert "--family" in coterie("fit", "--help").out
    answer = coterie("fit", photos, "-k", 10, "--image-size", 8, "--dry-run", "--json").object
    assert answer["source"]["family"] == "glyph"
    assert any("look like letters" in note for note in answer["source"]["notes"])
    said = coterie("fit", photos, "-k", 10, "--image-size", 8, "--family", "photo", "--dry-run", "--json").object
    assert said["source"]["family"] == "photo"
    assert not any("look like" in note for note in said["source"]["notes"])
    wrong = coterie("fit", photos, "-k", 10, "--family", "letters", "--dry-run")
    assert wrong.code == 2
    assert "family" in wrong.err


@pytest.mark.parametrize("source", ["", "  ", "~nobody-of-that-name/x", "http://example.org/x.zip", "pipe"])
def test_sources_that_are_none_end_with_one_sentence(coterie, run, source, tmp_path):
    if source == "pipe":
        os.mkfifo(tmp_path / "pipe")
        source = str(tmp_path / "pipe")
    for command in (
        ["fit", source, "-k", 2, "-o", tmp_path / "run"],
        ["predict", run, source, "-o", tmp_path / "x.parquet"],
    ):
        answer = coterie(*command)
        assert answer.code == 2
        assert answer.err.startswith("coterie: ")
        assert answer.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_configuration_that_is_a_pipe_is_not_waited_for(coterie, photos, tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    answer = coterie("fit", photos, "-k", 2, "--config", tmp_path / "pipe.yaml")
    assert answer.code == 2
    assert "is no file" in answer.err
