"""Several spaces of features: rows belong together by id, models know their own spaces, what cannot be is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from coterie import Clusterer, Spaces, load
from coterie.cli.commands import app
from coterie.cli.predict import PredictRequest, predict_parted
from coterie.cli.speech import Speech
from coterie.data import open_source
from coterie.data.spaces import open_spaces, source_given
from coterie.pipeline import run
from coterie.prediction.results import read_result
from coterie.scaling.engines import Task
from coterie.training.plan import RunSettings
from coterie.types import InputError, Skipped
from coterie.views.normalise import normalisation

QUICK = {"turtle.epochs": 2, "turtle.steps": 5, "turtle.inner_rate": 0.01, "turtle.outer_rate": 0.01}
SETTINGS = RunSettings(n_clusters=3, method="turtle", device="cpu", calibrate=False, overrides=QUICK)
TRUTH = np.arange(60) % 3


def space(seed: int, d: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (scale * (2 * rng.normal(size=(3, d))[TRUTH] + rng.normal(size=(60, d)))).astype(np.float32)


def table(path: Path, rows: np.ndarray, ids: Sequence[str]) -> Path:
    columns = {f"f{place}": column for place, column in enumerate(rows.T)}
    pq.write_table(pa.table({"id": list(ids), **columns}), path)
    return path


def names(n: int = 60) -> list[str]:
    return [f"{row:03}.png" for row in range(n)]


def test_spaces_stand_side_by_side() -> None:
    a, b = space(0, 70), space(1, 80)
    opened = open_source(Spaces([a, b]))
    assert [part.dim for part in opened.items.spec.spaces] == [70, 80]
    assert opened.items.spec.dim == 150
    rows = torch.tensor([5, 0])
    np.testing.assert_array_equal(opened.items.take(rows).numpy(), np.concatenate([a, b], 1)[[5, 0]])
    assert opened.notes[0] == "2 spaces of features, matched by row number: space 1 (70), space 2 (80)."


def test_each_space_has_a_scale_of_its_own() -> None:
    a, b = space(0, 70), space(1, 80, scale=100.0)
    joined = open_source(Spaces([a, b])).items
    mean, std = normalisation(joined)
    for part, values in ((slice(0, 70), a), (slice(70, 150), b)):
        own_mean, own_std = normalisation(open_source(values).items)
        torch.testing.assert_close(mean[part], own_mean)
        torch.testing.assert_close(std[part], own_std)


def test_a_row_far_outside_in_one_space_is_named_and_sets_no_scale() -> None:
    one, other = space(0, 4), space(1, 6)
    clean = Clusterer(3, "turtle", random_state=0, calibrate=False, settings=QUICK).fit(Spaces([one, other]))
    other[7] = 1e30
    with pytest.warns(UserWarning, match=r"1 row of space 2 lies far outside the others \(row 7, "):
        found = Clusterer(3, "turtle", random_state=0, calibrate=False, settings=QUICK).fit(Spaces([one, other]))
    # As it is without the row: what varies still has the deviation 1.
    assert torch.allclose(found.model_.net.std, clean.model_.net.std, rtol=0.1)


def test_one_fingerprint_of_all_spaces() -> None:
    a, b, c = space(0, 70), space(1, 80), space(2, 80)
    found = [open_source(Spaces(parts)).fingerprint for parts in ([a, b], [a, c], [a, b.copy()])]
    assert found[0] == found[2] != found[1]


def test_pictures_and_what_was_left_out_of_any_space_go_along() -> None:
    one, other = open_source(space(0, 4)), open_source(space(1, 3))
    pictures = open_source(np.arange(60 * 64, dtype=np.uint16).astype(np.uint8).reshape(60, 8, 8)).items
    broken, torn = Skipped("a", "broken"), Skipped("b", "torn")
    opened = {
        "one": replace(one, skipped=[broken], warnings=["odd"]),
        "other": replace(other, skipped=[broken, torn], warnings=["odd"], pictures=pictures),
    }
    joined = open_spaces(Spaces(["one", "other"]), None, lambda part, like: opened[part])
    assert (joined.skipped, joined.pictures, joined.warnings) == ([broken, torn], pictures, ["odd"])


def test_rows_are_matched_by_id_or_refused(tmp_path: Path) -> None:
    a, b = space(0, 4), space(1, 5)
    first = table(tmp_path / "a.parquet", a, names())
    same = table(tmp_path / "b.parquet", b, names())
    opened = open_source(Spaces([str(first), str(same)]))
    assert list(opened.ids) == names()
    assert "matched by the items' ids" in opened.notes[0]
    other = table(tmp_path / "c.parquet", b, names()[::-1])
    with pytest.raises(InputError, match=r"same items in another order \(row 0: 000.png, 059.png\)"):
        open_source(Spaces([str(first), str(other)]))
    fewer = table(tmp_path / "d.parquet", b[2:], names()[2:])
    with pytest.raises(InputError, match=r"d.parquet lacks 2 items of the other space \(000.png, 001.png\)"):
        open_source(Spaces([str(first), str(fewer)]))
    with pytest.raises(InputError, match=r"d.parquet lacks 2 items of the other space .*: embed the same items"):
        open_source(Spaces([str(fewer), str(first)]))
    with pytest.raises(InputError, match="names its items and space 2 only numbers its rows"):
        open_source(Spaces([str(first), b]))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([space(0, 4)], "at least two sources of features, and 1 was given"),
        ({1: space(0, 4), "1": space(1, 4)}, "Each space has a name of its own: 1, 1 were given"),
        (3, "Spaces are a list or a dict of sources of features, not 3"),
        (np.array(3), r"Spaces are a list or a dict of sources of features, not array\(3\)"),
        ("features", "Spaces are a list or a dict of sources of features, not 'features'"),
        ([space(0, 4), space(1, 5)[:50]], "space 1 has 60 rows and space 2 50"),
        (
            [space(0, 4), np.zeros((60, 8, 8), np.uint8) + np.arange(60, dtype=np.uint8)[:, None, None]],
            "holds pictures",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_what_cannot_be_spaces_is_refused(sources: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_source(Spaces(sources))


def test_a_run_takes_both_spaces_and_wants_them_again(tmp_path: Path) -> None:
    a, b = space(0, 70), space(1, 80, scale=50.0)
    done = run(Spaces({"clip": a, "dino": b}), SETTINGS, tmp_path / "run")
    model = load(tmp_path / "run").model_
    assert [(part.name, part.dim) for part in model.spec.spaces] == [("clip", 70), ("dino", 80)]
    assert [len(part[0]) for part in model.net.task.directions] == [70, 80]
    again = load(tmp_path / "run")
    for given in ({"clip": a, "dino": b}, {"dino": b, "clip": a}):
        np.testing.assert_array_equal(again.predict_proba(Spaces(given)), done.assignments.probabilities.numpy())
    with pytest.raises(InputError, match="not the spaces of the run: clip, siglip were given, and the run was fitted"):
        again.predict(Spaces({"clip": a, "siglip": b}))
    with pytest.raises(InputError, match="fitted on 2 spaces of features, and one was given"):
        again.predict(np.concatenate([a, b], 1))
    assert any("give ae, dec or vade one of the spaces" in note for note in again.record_["notes"])
    single = Clusterer(3, method="turtle", device="cpu", calibrate=False, settings=QUICK).fit(a)
    assert any("take ae, dec or vade" in note for note in single.record_["notes"])
    with pytest.raises(InputError, match="Several spaces of features were given, but the run was fitted on one"):
        single.predict(Spaces([a, b]))
    with pytest.raises(InputError, match="80"):
        Clusterer(3, method="turtle", device="cpu", calibrate=False, settings=QUICK).fit(Spaces([a, b])).predict(
            Spaces([b, a])
        )


def test_a_method_of_one_space_says_so() -> None:
    both = Spaces([space(0, 70), space(1, 80)])
    with pytest.raises(InputError, match="K-means groups the features of one space, and 2 were given: choose --method"):
        run(both, RunSettings(n_clusters=3, method="kmeans", device="cpu"))
    with pytest.raises(InputError, match="-k auto looks at one space"):
        run(both, RunSettings(n_clusters="auto", method="turtle", device="cpu"))


def test_the_command_line_takes_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = space(0, 70), space(1, 80)
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", b)
    both = ["--features", str(tmp_path / "a.npy"), "--features", str(tmp_path / "b.npy")]
    quick = [word for name, value in QUICK.items() for word in ("--set", f"{name}={value}")]
    out, said = tmp_path / "run", tmp_path / "new.parquet"
    command = ["fit", "-k", "3", *both, "-o", str(out), "--no-calibrate", "--device", "cpu", "--json", "-q", *quick]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["method"] == "turtle"
    found = CliRunner().invoke(app, ["predict", str(out), *both, "-o", str(said), "--device", "cpu", "-q"])
    assert found.exit_code == 0, found.output
    np.testing.assert_array_equal(read_result(said).labels, read_result(out / "result.parquet").labels)

    def elsewhere(task: Task, numbers: Sequence[int]) -> Iterator[str]:
        with contextlib.chdir(out):  # a worker of a cluster has a working directory of its own
            done = list(map(task, numbers))
        yield from done

    monkeypatch.chdir(tmp_path)
    parts = tmp_path / "parts"
    request = PredictRequest(
        out, source_given(None, ["a.npy", "b.npy"]), parts, device="cpu", speech=Speech(quiet=True)
    )
    assert predict_parted(request, parts, elsewhere).n == 60


def test_a_command_line_names_one_kind_of_source() -> None:
    assert source_given("photos/", []) == "photos/"
    assert source_given(None, ["a/"]) == "a/"
    assert str(source_given(None, ["a/", "b/"])) == "a/ + b/"
    for source, features, message in ((None, [], "Nothing says"), ("a/", ["b/"], "SOURCE and --features both")):
        with pytest.raises(InputError, match=message):
            source_given(source, features)
