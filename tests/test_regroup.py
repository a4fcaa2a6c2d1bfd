"""Merging, naming and exporting the groups of a fitted Clusterer: what is saved is what is predicted."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs

from coterie import Clusterer, load
from coterie.export import Options, export_run
from coterie.prediction.merging import merge_columns
from coterie.records import read_record
from coterie.types import InputError

K = 5
X = make_blobs(120, n_features=6, centers=4, random_state=0)[0].astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; every test loads or fits its own model from it."""
    path = tmp_path_factory.mktemp("regroup") / "run"
    Clusterer(K, random_state=0, epochs=1, output=path, backbone="mlp").fit(X)
    return path


def quietly(model: Clusterer, lists: list[list[int]]) -> Clusterer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.merge_groups(lists)


def slow_merge(p: np.ndarray, groups: list[int]) -> np.ndarray:
    """Column by column, row by row."""
    found = p.copy()
    for row in range(len(found)):
        for group in groups[1:]:
            found[row, groups[0]] = found[row, groups[0]] + found[row, group]
            found[row, group] = 0
    return found


def test_labels_are_those_that_are_predicted(folder):
    model = load(folder)
    before = model.predict_proba(X)
    quietly(model, [[2, 4], [0, 1]])
    after = model.predict_proba(X)
    assert (after == slow_merge(slow_merge(before, [2, 4]), [0, 1])).all()
    assert (model.labels_ == model.predict(X)).all()
    assert (model.confidence_ == after.max(axis=1)).all()
    assert not {1, 4} & set(model.labels_.tolist())
    for head, p in model.result_.heads.items():
        assert p.sum(axis=1) == pytest.approx(1, abs=1e-4), head


def test_merges_and_names_are_kept(folder, tmp_path):
    model = quietly(load(folder), [[2, 4]]).rename({2: " tabby cat ", 0: "e\u0301"})
    quietly(model, [[3, 2]])
    assert model.model_.names == {0: "é"}  # a group that was merged away has no name
    model.rename({3: "cats"}).save(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.model_.names == {0: "é", 3: "cats"}
    assert again.model_.merges == [(4, 2), (2, 3)]
    assert (again.labels_ == model.labels_).all()
    assert (again.labels_ == again.predict(X)).all()
    assert (again.predict_proba(X) == model.predict_proba(X)).all()
    assert read_record(tmp_path / "saved")["labels_used"] == {"merges": 2}
    with pytest.raises(InputError, match="was merged into another"):
        again.merge_groups([[0, 4]])


def test_merging_keeps_what_the_record_says_of_judgements(folder):
    """`evaluate` and `accept --judged` leave the judged rows out by it; a merge took it away."""
    model, used = load(folder), {"judged": 3, "rows": "0-2", "sha256": "ab"}
    model.record_ = {**model.record_, "labels_used": used}
    quietly(model, [[2, 4]])
    assert model.record_["labels_used"] == {**used, "merges": 1}
    assert quietly(model, [[0, 1]]).record_["labels_used"] == {**used, "merges": 2}


def test_a_renamed_model_goes_back_into_its_folder_and_a_merged_one_does_not(folder, tmp_path):
    place = load(folder).save(tmp_path / "saved")
    table = (place / "result.parquet").read_bytes()
    load(place).rename({1: "cats"}).save(place)
    assert load(place).model_.names == {1: "cats"}
    load(place).rename({1: ""}).save(place)
    assert load(place).model_.names == {}
    with pytest.raises(InputError, match="holds this model with other groups"):
        quietly(load(place), [[2, 4]]).save(place)
    assert (place / "result.parquet").read_bytes() == table


def test_the_order_of_merges_makes_the_same_sums_on_every_side(folder):
    model = load(folder)
    for pair in ([0, 4], [0, 1], [0, 3]):
        quietly(model, [pair])
    assert (model.predict_proba(X) == model.result_.heads[next(iter(model.result_.heads))]).all()


def test_a_saved_model_without_names_is_as_it_always_was(folder):
    assert "names" not in (folder / "model" / "manifest.json").read_text()
    assert load(folder).model_.names == {}


def test_outsiders_that_move_are_counted(folder):
    model = load(folder)
    head = next(iter(model.result_.heads))
    p = np.tile(np.float32([0.35, 0.3, 0.35, 0, 0]), (120, 1))
    p[:7] = [0.34, 0.26, 0.4, 0, 0]
    p[7:] = [0.6, 0.1, 0.3, 0, 0]
    model.result_.heads = {head: p}
    model.result_.labels = p.argmax(axis=1)
    with pytest.warns(UserWarning, match="moved 7 of 120 items"):
        model.merge_groups([[0, 1]])
    assert (model.labels_ == 0).all()
    with pytest.raises(InputError, match="At least two groups must be left"):
        model.merge_groups([[0, 2, 3, 4]])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.permutations(range(6)).map(lambda order: tuple(order[:2])), max_size=4))
def test_numpy_and_torch_add_alike(seed, merges):
    p = np.random.default_rng(seed).dirichlet(np.full(6, 0.3), 50).astype(np.float32)
    before = p.copy()
    assert (merge_columns(torch.from_numpy(p), merges).numpy() == merge_columns(p, merges)).all()
    assert (p == before).all()


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ([[1]], "takes at least two groups"),
        ([[1, 9]], "9 is no group"),
        ([[1, True]], "True is no group"),
        ([[1, 2], [3, 2]], "Group 2 is named twice"),
        ([[1, 1]], "Group 1 is named twice"),
        ([[0, 1, 2, 3, 4]], "At least two groups must be left"),
        ([3, 4], "takes lists of groups"),
    ],
)
def test_what_cannot_be_merged(folder, unchecked_types, lists, says):
    model = load(folder)
    before = model.model_.manifest(), model.labels_.copy()
    with pytest.raises(InputError, match=says):
        model.merge_groups(lists)
    assert model.model_.manifest() == before[0]
    assert (model.labels_ == before[1]).all()


@pytest.mark.parametrize(
    ("names", "says"),
    [({9: "a"}, "9 is no group"), ({1: "a", 2: "A"}, "both called"), ({1: "a\n"}, None), ({1: "x" * 81}, "1 to 80")],
)
def test_what_no_group_is_called(folder, names, says):
    model = load(folder)
    if says is None:
        assert model.rename(names).model_.names == {1: "a"}
        assert model.rename({1: ""}).model_.names == {}
        return
    with pytest.raises(InputError, match=says):
        model.rename(names)
    assert model.model_.names == {}


def test_a_damaged_manifest_is_refused(folder, tmp_path):
    load(folder).rename({1: "a"}).save(tmp_path / "saved")
    path = tmp_path / "saved" / "model" / "manifest.json"
    text = path.read_text()
    for wrong in (text.replace('"1": "a"', '"7": "a"'), text.replace('"1": "a"', '"x": "a"')):
        path.write_text(wrong)
        with pytest.raises(InputError, match=r"names and merges must be of groups 0 to 4"):
            load(tmp_path / "saved")


def test_export_in_python(folder, tmp_path):
    quietly(load(folder), [[2, 4]]).rename({2: "tabby cat"}).export("csv", tmp_path / "groups.csv")
    with open(tmp_path / "groups.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    assert {row["name"] for row in rows if row["label"] == "2"} <= {"tabby cat"}
    assert not any(row["label"] == "4" for row in rows)
    fitted = Clusterer(K, random_state=0, epochs=1, backbone="mlp").fit(X)
    fitted.export("projector,embedding-atlas", tmp_path / "out")
    vectors = np.loadtxt(tmp_path / "out" / "projector" / "vectors.tsv", delimiter="\t")
    assert vectors == pytest.approx(fitted.embedding_, rel=1e-5, abs=1e-6)
    with pytest.raises(InputError, match="is not empty"):
        fitted.export(["projector"], tmp_path / "out")
    with pytest.raises(InputError, match="has no option 'over'"):
        fitted.export("csv", tmp_path / "a.csv", over=True)
    with pytest.raises(InputError, match="no pictures"):
        fitted.export("imagefolder", tmp_path / "pictures")


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": None}, "to is None: it takes the name of a format or a list of them"),
        ({"to": [1]}, "A format is 1: it takes a text"),
        ({"only": np.array([1, 2])}, r"only is array\(\[1, 2\]\): it takes a text"),
        ({"limit": "3"}, "limit is '3': it takes a whole number"),
        ({"limit": True}, "limit is True: it takes a whole number"),
        ({"limit": 2.5}, "limit is 2.5: it takes a whole number"),
        ({"source": 5}, "source is 5: it takes a path"),
        ({"overwrite": "no"}, "overwrite is 'no': it takes True or False"),
        ({"overwrite": None}, "overwrite is None: it takes True or False"),
        ({"thumbs": np.array([1, 2])}, "it takes True or False"),
    ],
)
def test_options_of_an_export_have_their_types(folder, tmp_path, options, said):
    with pytest.raises(InputError, match=said):
        load(folder).export(**{"to": "csv", "out": tmp_path / "a.csv", **options})
    assert not (tmp_path / "a.csv").exists()


def test_an_export_takes_the_values_of_python(folder, tmp_path):
    with pytest.raises(InputError, match="the run is over embeddings: leave source out"):
        load(folder).export("csv", tmp_path / "a.csv", source=tmp_path)  # a Path
    load(folder).export("csv", tmp_path / "a.csv", limit=np.int64(3), only=None, overwrite=np.True_)
    with open(tmp_path / "a.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_a_saved_run_is_exported_with_its_names(folder, tmp_path):
    quietly(load(folder), [[2, 4]]).rename({2: "tabby cat"}).save(tmp_path / "saved")
    export_run(tmp_path / "saved", ["csv"], tmp_path / "a.csv", Options())
    quietly(load(folder), [[2, 4]]).rename({2: "tabby cat"}).export("csv", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_save_keeps_the_embeddings_of_the_table(tmp_path):
    from coterie.pipeline import run
    from coterie.training.plan import RunSettings

    run(X, RunSettings(n_clusters=K, method="kmeans", calibrate=False, store_embedding=True), tmp_path / "run")
    load(tmp_path / "run").rename({0: "tabby cat"}).save(tmp_path / "saved")
    before, after = load(tmp_path / "run").result_, load(tmp_path / "saved").result_
    assert np.array_equal(before.embedding, after.embedding)
    export_run(tmp_path / "saved", ["projector"], tmp_path / "out", Options())
    assert "tabby cat" in (tmp_path / "out" / "metadata.tsv").read_text()
