"""Tables of embeddings and files of labels on the command line: what is taken is said, kept, and asked for again."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from sklearn.datasets import make_blobs

import coterie.cli.fit as cli_fit
from coterie import Clusterer, load
from helpers.encoder_weights import random_weights

X, Y = make_blobs(60, n_features=8, centers=3, random_state=0)
COLUMNS = {f"f{place}": X[:, place].astype(np.float32) for place in range(8)}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(name: str, columns: dict) -> str:
    pq.write_table(pa.table(columns), name)
    return name


def groups(path: str | Path) -> list[int]:
    return pq.read_table(path)["label"].to_pylist()


def test_columns_are_chosen_said_kept_and_asked_for_again(coterie):
    mixed = table("mixed.parquet", {"w": Y, **COLUMNS, "species_id": Y, "label": Y})
    refused = coterie("fit", mixed, "-k", 3, "-o", "run")
    assert refused.code == 2
    assert "--columns 'f0..f7'" in refused.err
    assert not Path("run").exists()
    answer = coterie("fit", mixed, "-k", 3, "-o", "run", "--epochs", 1, "--columns", "f0..f7")
    assert answer.code == 0, answer.err
    assert "Note: Features: 8 columns, f0 to f7." in answer.out
    assert "Labels: column label of mixed.parquet, by row." in answer.out
    record = yaml.safe_load(Path("run/run.yaml").read_text())
    assert record["settings"]["columns"] == "f0..f7"
    assert record["source"]["spec"]["columns"] == list(COLUMNS)
    assert json.loads(Path("run/model/manifest.json").read_text())["spec"]["columns"] == list(COLUMNS)
    other = table("other.parquet", {"x": Y, **dict(reversed(COLUMNS.items()))})
    answer = coterie("predict", "run", other, "-o", "p.parquet")
    assert "another order than at fit" in answer.out
    assert groups("p.parquet") == groups("run/result.parquet")
    lacking = table("lacking.parquet", {name: cells for name, cells in COLUMNS.items() if name != "f5"})
    answer = coterie("predict", "run", lacking, "-o", "q.parquet")
    assert answer.code == 2
    assert "(f5)" in answer.err
    answer = coterie("fit", mixed, "-k", 3, "-o", "run", "--epochs", 1, "--columns", "f0..f7", "--resume")
    assert answer.code == 0, answer.err


def test_what_a_command_notes_stands_in_its_object_too(coterie):
    """With --json the chosen columns, and labels that could not be used, were not said at all."""
    path = table("two.parquet", {**COLUMNS, "label": Y, "target": np.arange(60) % 2})
    fit = ("fit", path, "-k", 3, "--method", "kmeans", "--no-calibrate", "-o", "run", "--resume")
    for words, some in (
        (fit, "Not measured against the labels"),
        (("predict", "run", path, "-o", "new.csv"), "a .csv table has no probabilities"),
        (("duplicates", path), "label"),
        (("accept", "run", "--draw", 5, "-o", "judge.csv"), "5 judged items cannot show"),
    ):
        answer = coterie(*words)
        assert answer.code == 0, answer.err
        said = [line.removeprefix("Note: ") for line in answer.out.splitlines() if line.startswith("Note: ")]
        assert [note for note in said if some in note], (words, said)
        for written in ("new.csv", "judge.csv"):
            Path(written).unlink(missing_ok=True)
        found = coterie(*words, "--json").object
        assert set(said) <= {*found["notes"], *found.get("warnings", [])}, words


def test_labels_in_any_order_and_form_measure_the_same(coterie, grouped):
    run = shutil.copytree(grouped, "run")
    order = np.random.default_rng(0).permutation(60)
    found = []
    for head, separator, name in (("filename", ",", "a.csv"), ("", ";", "b.csv"), ("Image ID", "\t", "c.tsv")):
        rows = [f"{head}{separator}species", *(f"{row}{separator}c{Y[row]}" for row in order)]
        Path(name).write_text("\n".join(rows))
        answer = coterie("evaluate", run, "--labels", name, "--json")
        assert answer.code == 0, answer.err
        found.append(answer.object["metrics"])
    assert all(metrics["acc"] == found[0]["acc"] > 0.9 for metrics in found)
    assert found[0]["labels"] == "column species of a.csv, matched by filename"
    rows = ["id,fine,kind", *(f"{row},{row % 7},c{Y[row]}" for row in order)]
    Path("d.csv").write_text("\n".join(rows))
    assert "--label-column" in coterie("evaluate", run, "--labels", "d.csv").err
    answer = coterie("evaluate", run, "--labels", "d.csv", "--label-column", "kind")
    assert "Labels: column kind of d.csv, matched by id." in answer.out
    assert json.loads((Path(run) / "metrics.json").read_text())["acc"] == found[0]["acc"]


def test_labels_of_the_source_that_cannot_be_used_do_not_lose_the_run(coterie):
    path = table("two.parquet", {**COLUMNS, "label": Y, "target": np.arange(60) % 2})
    answer = coterie("fit", path, "-k", 3, "-o", "run", "--epochs", 1)
    assert answer.code == 0, answer.err
    assert "Not measured against the labels of two.parquet" in answer.out
    assert coterie("evaluate", "run").code == 2
    answer = coterie("fit", path, "-k", 3, "-o", "runs", "--runs", 2, "--method", "kmeans", "--no-calibrate", "--json")
    assert answer.code == 0, answer.err
    assert "Not measured against the labels of two.parquet" in answer.object["notes"][0]
    assert Path("runs/ensemble.parquet").exists()
    words = ("-o", "runs", "--runs", 2, "--method", "kmeans", "--no-calibrate", "--resume", "--label-column", "label")
    found = coterie("fit", path, "-k", 3, *words, "--json").object
    assert found["metrics"].keys() == {"acc", "nmi", "ari", "ece", "confidence"}
    assert found["heads"].keys() == {"ensemble", "mean", "single"}
    assert found["metrics"] == found["heads"]["ensemble"]
    answer = coterie("evaluate", "run", "--label-column", "label", "--json")
    assert answer.object["metrics"]["labels"] == "column label of two.parquet, by row"


def test_names_go_from_files_to_frames_and_back():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS)
    settings = {"n_clusters": 3, "epochs": 1, "random_state": 0}
    fitted = Clusterer(**settings, columns="f*").fit(frame.assign(label=Y, w=Y))
    assert list(fitted.feature_names_in_) == list(COLUMNS)
    fitted.save("saved")
    loaded = load("saved")
    assert list(loaded.feature_names_in_) == list(COLUMNS)
    expected = fitted.labels_.tolist()
    reverse = table("reverse.parquet", dict(reversed(COLUMNS.items())))
    for model in (fitted, loaded):
        assert model.predict(frame[frame.columns[::-1]]).tolist() == expected
        assert model.predict(reverse).tolist() == expected
    whole = Clusterer(**settings).fit(reverse)
    assert list(whole.feature_names_in_) == list(reversed(COLUMNS))
    assert whole.predict(frame).tolist() == whole.labels_.tolist()
    with pytest.raises(ValueError, match=r"lacks 1 of the 8 columns .*\(f3\)"):
        whole.predict(frame.drop(columns="f3"))
    with pytest.raises(ValueError, match=r"called as labels.*\(label\)"):
        Clusterer(**settings).fit(frame.assign(label=Y))


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("ending", ["parquet", "npz"])
def test_labels_and_pictures_by_row_want_the_pictures_that_were_fitted(coterie, ending, embedded):
    name = f"x.{ending}"
    pixels = np.random.default_rng(0).integers(0, 60, (24, 12, 12, 3)) + 60 * (np.arange(24) % 3)[:, None, None, None]
    pixels, labels = pixels.astype(np.uint8), np.arange(24) % 3

    def write(order: np.ndarray, labels: np.ndarray, damaged: int | None = None) -> None:
        if ending == "npz":
            np.savez(name, x=pixels[order], y=labels)
            return
        cells = []
        for row in order.tolist():
            buffer = io.BytesIO()
            Image.fromarray(pixels[row]).save(buffer, "PNG")
            cells.append({"bytes": b"damaged" if row == damaged else buffer.getvalue()})
        table(name, {"image": cells, "y": labels})

    rows, damaged = np.arange(24), 5 if ending == "parquet" else None
    write(rows, labels, damaged)
    how = ["--encoder", "test_vit", "--weights", random_weights(Path(), "test_vit")] if embedded else ["--epochs", 1]
    method = "kmeans" if embedded else "ae"
    fitted = coterie("fit", name, "-k", 3, "--method", method, "--no-calibrate", "-o", "run", "--json", *how)
    assert fitted.code == 0, fitted.err
    if ending == "parquet":
        predicted = coterie("predict", "run", name, "-o", "p.parquet")
        assert predicted.code == 0, predicted.err
        assert groups("p.parquet") == groups("run/result.parquet")
    write(rows, 2 - labels, damaged)  # a label may be mended
    again = coterie("evaluate", "run", "--json")
    assert again.code == 0, again.err
    assert again.object["metrics"]["acc"] == fitted.object["metrics"]["acc"]
    exported = coterie("export", "run", "--to", "imagefolder", "-o", "out", "--json")
    assert exported.code == 0, exported.err
    write(rows[::-1], labels[::-1], damaged)
    refused = coterie("evaluate", "run")
    assert refused.code == 2
    assert f"{name} has changed since run was fitted" in refused.err
    refused = coterie("export", "run", "--to", "imagefolder", "-o", "other")
    assert refused.code == 2
    assert f"{name} has changed since the run was fitted, and its pictures are known by their row alone" in refused.err
    assert not Path("other").exists()
    write(rows, labels, damaged)
    os.rename(name, moved := f"moved.{ending}")
    assert coterie("export", "run", "--to", "imagefolder", "-o", "other", "--source", moved).code == 0


def test_labels_by_id_of_a_table_that_has_changed_say_so(coterie):
    ids = [f"i{row}" for row in range(60)]

    def write(ids: list[str], labels: np.ndarray) -> None:
        table("x.parquet", {"id": ids, "embedding": X.tolist(), "y": labels})

    write(ids, Y)
    assert coterie("fit", "x.parquet", "-k", 3, "--method", "kmeans", "--no-calibrate", "-o", "run").code == 0
    write(ids, 2 - Y)  # a label may be mended
    same = coterie("evaluate", "run", "--json").object["metrics"]
    assert (same["acc"], same["labels"]) == (1, "column y of x.parquet, matched by its ids")
    write([*ids[1:], ids[0]], Y)
    said = "x.parquet has changed since the run was fitted: its ids may be those of other items"
    assert coterie("evaluate", "run", "--json").object["metrics"]["labels"].endswith(said)
    assert f"{said}." in coterie("evaluate", "run").out


def test_labels_of_a_source_that_changes_while_it_is_fitted_measure_nothing(coterie, monkeypatch):
    real = cli_fit.run

    def meanwhile(*given: object, **named: object) -> object:
        done = real(*given, **named)
        np.savez("x.npz", x=X[::-1], y=Y[::-1])
        return done

    np.savez("x.npz", x=X, y=Y)
    monkeypatch.setattr(cli_fit, "run", meanwhile)
    fitted = coterie("fit", "x.npz", "-k", 3, "--method", "kmeans", "--no-calibrate", "-o", "run", "--json").object
    assert "metrics" not in fitted
    said = "Not measured against the labels of x.npz: x.npz has changed since run was fitted"
    assert any(note.startswith(said) for note in fitted["notes"])


@pytest.mark.parametrize("ending", ["parquet", "npz"])
def test_labels_by_row_want_the_rows_that_were_fitted(coterie, ending):
    name = f"x.{ending}"

    def write(order: np.ndarray, labels: np.ndarray) -> None:
        if ending == "npz":
            np.savez(name, x=X[order], y=labels)
        else:
            table(name, {"embedding": X[order].tolist(), "y": labels})

    rows = np.arange(60)
    write(rows, Y)
    fitted = coterie("fit", name, "-k", 3, "--method", "kmeans", "--no-calibrate", "-o", "run", "--json")
    assert fitted.object["metrics"]["acc"] == 1
    write(rows, 2 - Y)  # a label may be mended
    assert coterie("evaluate", "run", "--json").object["metrics"]["acc"] == 1
    assert coterie("evaluate", "run", "--labels", name, "--json").object["metrics"]["acc"] == 1
    write(rows[::-1], Y[::-1])
    for options in ([], ["--labels", name]):
        refused = coterie("evaluate", "run", *options)
        assert refused.code == 2
        assert f"{name} has changed since run was fitted" in refused.err
    write(rows[:30], Y[:30])
    refused = coterie("evaluate", "run")
    assert refused.code == 2
    assert f"The labels of {name} are for 30 rows, which are not those of the items: it has changed" in refused.err
    Path(name).unlink()
    refused = coterie("evaluate", "run")
    assert refused.code == 2
    assert f"{name} is not there any more: give the labels with --labels" in refused.err
