"""Promise 7: bad input gets exit code 2 and one clear sentence before anything is trained."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.disks import small_disk
from helpers.refused import refused


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources and runs of a test are named without their folder."""
    monkeypatch.chdir(tmp_path)


def make_source(kind: str) -> None:
    """Write the source "data" or "data.npy"."""
    rng = np.random.default_rng(0)
    if kind.startswith("vectors"):
        x = rng.normal(size=(30, 4)).astype(np.float32)
        if "nan" in kind or "inf" in kind:
            x[17, 2] = np.nan if "nan" in kind else np.inf
        np.save("data.npy", x * 0 if "constant" in kind else x)
        return
    Path("data").mkdir()
    good, bad = {"empty": (0, 0), "one": (1, 0), "unreadable": (0, 6), "half": (6, 6)}[kind]
    for number in range(good):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"data/{number}.png")
    for number in range(bad):
        Path(f"data/bad{number}.jpg").write_text("no image")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", ("data holds no images",)),
        ("one", ("n_samples=1", "at least 2")),
        ("unreadable", ("6 of the 6 images", "bad0.jpg")),
        ("half", ("6 of the 12 images", "bad0.jpg: not an image", "20%", "max_skipped")),
        ("vectors nan", ("NaN", "row 17, column 2")),
        ("vectors inf", ("infinity", "row 17, column 2")),
        ("vectors constant", ("constant",)),
    ],
)
def test_sources_that_cannot_be_clustered(coterie, kind, words):
    make_source(kind)
    source = "data.npy" if kind.startswith("vectors") else "data"
    refused(coterie("fit", source, "-k", 2, "-o", "run"), *words)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("nowhere", "-k", 3), ("nowhere is no file, no folder and no named data set",)),
        (("digit", "-k", 3), ("did you mean digits",)),
        (("data.npy",), ("How many groups?", "-k 10")),
        (("data.npy", "-k", 1), ("-k is 1", "at least 2")),
        (("data.npy", "-k", 31), ("-k is 31", "only 30 items")),
        (("data.npy", "-k", 3, "--set", "cdc.batch_size=31"), ("cdc.batch_size is 31", "only 30 items")),
        (("data.npy", "-k", 3, "--set", "cdc.sub_batch=1"), ("cdc.sub_batch is 1",)),
        (("data.npy", "-k", 3, "--set", "cdc.head_rate=-1"), ("cdc.head_rate is -1",)),
        (("data.npy", "-k", 3, "--set", "cdc.head_rate=.nan"), ("cdc.head_rate is nan",)),
        (("data.npy", "-k", 3, "--set", "cdc.cells=4", "--set", "cdc.cells=5"), ("cdc.cells is given twice",)),
        (
            ("data.npy", "-k", 3, "--set", "cells=4", "--set", "cdc.cells=5"),
            ("--set cells and --set cdc.cells are one",),
        ),
        (("data.npy", "-k", 3, "--set", "cdc.cels=4"), ("Unknown setting cdc.cels", "did you mean cdc.cells?")),
        (("data.npy", "-k", 3, "--set", "seed=4"), ("seed is no setting of cdc", "give it as --seed")),
        (("data.npy", "--set", "n_clusters=4", "-k", 3), ("n_clusters is no setting of cdc", "as -k")),
        (("data.npy", "-k", 3, "--set", "cdcc.cells=4"), ("did you mean cdc?",)),
        (("data.npy", "-k", 3, "--set", "cdc.cells=many"), ("cdc.cells is 'many'",)),
        (("data.npy", "-k", 3, "--set", "cdc.cells"), ("write it as method.cells=40",)),
        (("data.npy", "-k", 3, "--set", "cdc.cells=[1"), ("has a value that cannot be read",)),
        (("data.npy", "-k", 3, "--epochs", "-1"), ("--epochs is -1",)),
        (("data.npy", "-k", 3, "--method", "cdcc"), ("Unknown method 'cdcc'", "did you mean 'cdc'?")),
        (("data.npy", "-k", 3, "--preset", "papper"), ("Unknown preset 'papper'", "paper:cifar10")),
        (("data.npy", "-k", 3, "--device", "tpu"), ("Unknown device 'tpu'",)),
        (("data.npy", "-k", 3, "--precision", "fp8"), ("precision", "'fp8'")),
        (("data.npy", "-k", 3, "--backbone", "resnet18"), ("reads images", "mlp")),
        (("digits", "-k", 3, "--backbone", "resnet81"), ("Unknown backbone 'resnet81'", "did you mean")),
        (("digits", "-k", 3, "--backbone", "small-two"), ("Unknown backbone 'small-two'",)),
        (("digits", "-k", 3, "--backbone", "mlp"), ("reads embeddings",)),
        (("digits", "-k", 3, "--weights", "w.safetensors"), ("w.safetensors does not exist",)),
        (("digits", "-k", 3, "--image-size", 2), ("--image-size is 2",)),
        (("data.npy", "-k", 3, "--init", "nowhere"), ("There is no model at nowhere",)),
        (("data.npy", "-k", 3, "--resume"), ("--resume needs the run folder",)),
        (("data.npy", "-k", 3, "--config", "none.yaml"), ("none.yaml cannot be read",)),
        (("data.npy", "-k", 3, "--labels", "none.csv"), ("none.csv does not exist",)),
        (("data.npy", "-k", 3, "--labels", "data.npy"), ("data.npy has shape (30, 4)", "one label per item")),
        (("data.npy", "-k", 3, "--labels", "folders"), ("lie in no sub-folders",)),
        (("data.npy", "-k", "many"), ("-k (n_clusters) is 'many'", "a whole number or 'auto'")),
        (("data.npy", "-k", "auto", "--method", "pica"), ("'pica' takes images",)),
        (("data.npy", "-k", "auto", "--method", "rdc", "--set", "rdc.final=kmeans"), ("rdc.final is kmeans",)),
        (("data.npy", "-k", 3, "--method", "rdc", "--set", "rdc.final=dbscan"), ("rdc.final is dbscan", "-k auto")),
        (("data.npy", "-k", 3, "--sed", 1), ("No such option", "--sed")),
        ((), ("Nothing says what is grouped", "give SOURCE")),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_options_that_cannot_be(coterie, options, words, dry):
    make_source("vectors")
    place = () if "--resume" in options else ("-o", "run")
    refused(coterie("fit", *options, *place, *(("--dry-run",) if dry else ())), *words)
    assert [path.name for path in Path().iterdir()] == ["data.npy"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("fit", "data.npy", "-k", 1), "-k is 1"),
        (("fit", "data.npy", "-k", 3, "--method", "kmeans", "--epochs", 2), "epochs"),
        (("fit", "data.npy", "-k", 3, "--pretrain", "mocco"), "did you mean 'moco'?"),
        (("choose-k", "data.npy", "--least", 1), "from 2 on"),
        (("accept", "data.npy", "--level", 0.9), "No such option: --level (Possible options: --confidence-level)."),
        (("fit", "--source", "data.npy", "-k", 3), "No such option: --source (Possible options: --"),
        (("supervised", "data.npy", "--labels", "source", "--held-out", 2), "held_out is 2"),
        (("supervised", "data.npy", "--labels", "source", "--epochs", "-1"), "epochs is -1"),
        (("supervised", "data.npy", "--labels", "source", "--device", "tpu"), "Unknown device 'tpu'"),
    ],
)
def test_what_the_options_alone_say_is_refused_before_the_source_is_read(coterie, options, words):
    make_source("vectors")
    Path("data.npy").write_bytes(Path("data.npy").read_bytes()[:-8])  # whoever reads it says that it is cut off
    refused(coterie(*options), words)


def test_a_date_in_the_environment_that_is_none_is_refused(coterie, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    refused(coterie("methods"), "SOURCE_DATE_EPOCH is 'today'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n_cluster: 3", ("Unknown setting n_cluster", "did you mean n_clusters?")),
        ("- 1", ("must be a mapping of settings",)),
        ("a: [1", ("is no YAML",)),
        ("overrides: 3", ("overrides that are no mapping",)),
        ("n_clusters: 3\ncdc: {cels: 4}", ("did you mean cdc.cells?",)),
        ("n_clusters: ten", ("-k (n_clusters) is 'ten'", "a whole number or 'auto'")),
        ("n_clusters: 3\nn_clusters: 4", ("'n_clusters' stands there twice in line 2",)),
        ("n_clusters: 3\ncdc: {cells: 4, cells: 5}", ("'cells' stands there twice",)),
        ("n_clusters: 3\ncdc: {cells: 4}\noverrides: {cdc.cells: 5}", ("cdc.cells", "twice")),
        ("n_clusters: &a [9]\nseed: *a", ("*a is an alias",)),
        ("a: " + 3000 * "[", ("is no YAML", "nested too deeply")),
        ("n_clusters: " + 5000 * "7", ("is no YAML", "digits")),
        ("n_clusters: !!int ''", ("is no YAML",)),
        ("n_clusters: !!python/object:os.system {}", ("is no YAML", "line 1")),
        ("3: 4", ("the setting 3, which is no name",)),
        ("n_clusters: 3\ncdc: {1: 2}", ("Unknown setting cdc.1",)),
        ("n_clusters: 3\nmethod: [cdc]", ("method is ['cdc']",)),
        ("n_clusters: 3\nseed: [1]", ("--seed is [1]", "whole number")),
        ("n_clusters: 3\ncdc: {head_rate: .nan}", ("cdc.head_rate is nan", "finite")),
        ("n_clusters: 3\nby_items: true", ("by_items, which coterie decides by the items",)),
    ],
)
def test_configurations_that_cannot_be(coterie, text, words):
    make_source("vectors")
    Path("c.yaml").write_text(text)
    refused(coterie("fit", "data.npy", "--config", "c.yaml", "-o", "run"), *words)


def test_a_folder_is_no_configuration(coterie, vectors, tmp_path):
    answer = coterie("fit", vectors, "--config", tmp_path)
    assert answer.code == 2
    assert answer.err == f"coterie: The configuration {tmp_path} is no file.\n"


def test_labels_of_another_length_are_refused_before_training(coterie):
    make_source("vectors")
    np.save("labels.npy", np.zeros(29, int))
    refused(coterie("fit", "data.npy", "-k", 3, "-o", "run", "--labels", "labels.npy"), "29 labels for 30 items")
    Path("labels.csv").write_text("id,label\n0,a\n99,b\n")
    refused(coterie("fit", "data.npy", "-k", 3, "-o", "run", "--labels", "labels.csv"), "names 99", "not in the source")
    assert not Path("run").exists()


@pytest.mark.parametrize("dry", [False, True])
def test_output_folders_that_cannot_be(coterie, grouped, vectors, dry, monkeypatch):
    """A dry run refuses what the run would; it did so only of folders that were there."""
    fit = ("fit", vectors, "-k", 3, *(("--dry-run",) if dry else ()))
    arguments = (*fit, "-o")
    refused(coterie(*arguments, grouped, "--epochs", 1), "already holds a run", "--resume")
    refused(coterie(*arguments, grouped / "second"), "lies in the run")
    refused(coterie(*arguments, grouped / "model" / "second"), "is a place of the run in")
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    refused(coterie(*arguments, "mine"), "not empty and holds no run")
    refused(coterie(*arguments, "mine/letter.txt"), "is a file")
    refused(coterie(*arguments, "mine/letter.txt/run"), "cannot be made")
    Path("lost").symlink_to("nowhere")
    refused(coterie(*arguments, "lost"), "is a link that leads nowhere")
    assert Path("mine/letter.txt").read_text() == "dear"
    with monkeypatch.context() as inside:
        inside.chdir(grouped)
        refused(coterie(*fit), "lies in the run")
    assert not (grouped / "runs").exists()
    assert not (grouped / "second").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_folders_without_the_right_to_write(coterie, vectors):
    Path("locked").mkdir(mode=0o500)
    refused(coterie("fit", vectors, "-k", 3, "-o", "locked"), "may not be written")
    refused(coterie("fit", vectors, "-k", 3, "-o", "locked/run"), "cannot be made")


def test_a_run_is_resumed_only_as_it_was_begun(coterie, grouped, vectors):
    run = shutil.copytree(grouped, "run")
    shutil.copy(vectors, "same.npy")
    arguments = ("-o", run, "--resume", "--epochs", 1)
    assert coterie("fit", "same.npy", "-k", 3, *arguments).code == 0
    # The same run in other words: defaults that are typed, and a device that is named.
    words = ("--device", "cpu", "--seed", 0, "--backbone", "mlp", "--precision", "fp32", "--preset", "practical")
    assert coterie("fit", vectors, "-k", 3, *arguments, *words).code == 0
    refused(coterie("fit", vectors, "-k", 4, *arguments), "-k = 3, not 4")
    refused(coterie("fit", vectors, "-k", 3, *arguments, "--set", "cdc.cells=9"), "cdc.cells = ", "not 9")
    refused(coterie("fit", vectors, "-k", 3, *arguments, "--seed", 1), "--seed = 0, not 1")
    np.save("other.npy", np.load(vectors) + 1)
    refused(coterie("fit", "other.npy", "-k", 3, *arguments), "The data have changed")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one page."""
    with small_disk(tmp_path / "full", "4k") as place:
        yield place


def test_a_full_disk_is_named(coterie, grouped, vectors, full_disk):
    refused(coterie("fit", vectors, "-k", 3, "-o", full_disk / "run"), "0 MiB are free")
    (full_disk / "filler").write_bytes(b"x" * 4096)
    out = full_disk / "new.parquet"
    refused(coterie("predict", grouped, vectors, "-o", out), "could not be written (No space left on device)")
    assert [path.name for path in full_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("command", ["predict", "fit"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("version", ("has format 99",)),
        ("pickle", ("holds weights.pt, a pickle",)),
        ("no manifest", ("manifest.json is missing: fit the model again.",)),
        ("half manifest", ("manifest.json is damaged (it is no JSON",)),
        ("half weights", ("do not fit their manifest",)),
    ],
)
def test_model_folders_that_cannot_be_trusted(coterie, grouped, vectors, command, damage, words):
    model = shutil.copytree(grouped, "run") / Path("model")
    manifest, weights = model / "manifest.json", model / "weights.safetensors"
    if damage == "version":
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    elif damage == "pickle":
        (model / "weights.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "half manifest":
        manifest.write_text(manifest.read_text()[:40])
    else:
        weights.write_bytes(weights.read_bytes()[:400])
    if command == "predict":
        refused(coterie("predict", "run", vectors, "-o", "new.parquet"), *words)
    else:
        refused(coterie("fit", vectors, "-k", 3, "--init", "run", "-o", "next"), *words)
    assert not Path("next").exists()


def test_predict_says_what_is_wrong_before_it_works(coterie, grouped, vectors):
    refused(coterie("predict", grouped, vectors, "-o", "new.txt"), "must end in .parquet or .csv")
    Path("new.parquet").mkdir()
    refused(coterie("predict", grouped, vectors, "-o", "new.parquet"), "is a folder")
    Path("note.txt").write_text("")
    refused(coterie("predict", grouped, vectors, "-o", "note.txt/new.parquet"), "is a file")
    refused(coterie("predict", grouped, vectors), "Missing option '-o'")
    refused(coterie("predict", grouped, "nowhere", "-o", "x.parquet"), "nowhere is no file")
    refused(coterie("predict", grouped, "digits", "-o", "x.parquet"), "holds images, but the model was fitted on emb")
    np.save("narrow.npy", np.load(vectors)[:, :5])
    refused(coterie("predict", grouped, "narrow.npy", "-o", "x.parquet"), "5 features", "8 features")
    refused(coterie("predict", "nowhere", vectors, "-o", "x.parquet"), "There is no model at nowhere")


def test_what_was_never_run_or_has_not_ended_is_said(coterie, grouped, vectors):
    for command in (("evaluate", "nowhere"), ("report", "nowhere")):
        refused(coterie(*command), "nowhere holds no run")
    run = shutil.copytree(grouped, "run")
    shutil.rmtree(Path(run) / "model")
    (Path(run) / "run.yaml").write_text((Path(run) / "run.yaml").read_text().replace("status: done", "status: stopped"))
    refused(coterie("predict", run, vectors, "-o", "x.parquet"), "its status is 'stopped'", "--resume")
    for command in (
        ("evaluate", run),
        ("duplicates", run),
        ("choose-k", run),
        ("fit", vectors, "-k", 3, "--init", run),
    ):
        refused(coterie(*command), "has no model, its status is 'stopped'")


def test_evaluate_wants_labels(coterie, grouped):
    refused(coterie("evaluate", grouped), "carries no labels", "--labels FILE")
    refused(coterie("evaluate", grouped, "--labels", "labels.txt"), "labels.txt does not exist")
    np.save("labels.npy", np.zeros(3, int))
    refused(coterie("evaluate", grouped, "--labels", "labels.npy"), "3 labels for 60 items")


def test_a_seed_is_called_as_the_option_is(coterie, vectors):
    for command in (("choose-k", vectors), ("supervised", vectors, "--labels", "l.csv"), ("fit", vectors, "-k", 3)):
        refused(coterie(*command, "--seed", -1), "--seed is -1")


def test_the_share_to_hold_out_is_of_a_source_without_a_second(coterie, vectors):
    given = ("supervised", vectors, "--labels", "l.csv", "--test", vectors, "--held-out", 0.5)
    refused(coterie(*given), "--held-out is a share of the source", "leave one of them out")


def test_unknown_methods_and_commands(coterie):
    refused(coterie("methods", "moko"), "Unknown method 'moko'", "did you mean 'moco'?")
    refused(coterie("fti", "digits"), "No such command 'fti'")


def test_a_working_directory_that_was_deleted_is_said(coterie, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    refused(coterie("methods", "cdc"), "The folder that you are in is not there any more")
