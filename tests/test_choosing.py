"""`choose_k` and `-k auto`: on embeddings, on a run's features, on pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_blobs

from coterie import Clusterer, choose_k
from coterie.choosing import PIXELS, features_of_source, reduced
from coterie.data import open_source
from coterie.types import InputError

POINTS = make_blobs(160, n_features=8, centers=4, cluster_std=0.5, random_state=3)[0].astype(np.float32)


def test_embeddings_in_four_groups():
    found = choose_k(POINTS, most=6)
    assert (found.k, found.clear) == (4, True)
    assert found.n == 160
    assert choose_k(POINTS, most=6) == found
    assert repr(found) == f"<Choice: {found.sentence}>"  # not the whole curve


def test_auto_is_settled_before_any_method_trains(tmp_path):
    model = Clusterer("auto", method="ae", epochs=1, random_state=0, calibrate=False, output=tmp_path / "run").fit(
        POINTS
    )
    assert model.predict_proba(POINTS).shape == (160, 4)
    chosen = model.record_["chosen_k"]
    assert (chosen["k"], chosen["clear"]) == (4, True)
    assert model.record_["n_clusters"] == 4
    assert any(text.startswith("Number of groups: 4") for text in model.record_["source"]["notes"])
    found = choose_k(tmp_path / "run", most=6)
    assert "These features were trained with 4 groups, which favours 4." in found.notes


def test_where_no_number_stands_out_a_warning_says_so():
    points = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    with pytest.warns(UserWarning, match=r"No number of groups stands out;.*Taken is"):
        model = Clusterer("auto", method="ae", epochs=0, random_state=0, calibrate=False).fit(points)
    assert not model.record_["chosen_k"]["clear"]
    assert any(
        text.startswith("No number of groups stands out;") and "Taken is" in text for text in model.record_["warnings"]
    )


def test_a_method_that_finds_the_number_itself_still_does():
    model = Clusterer("auto", method="finch", random_state=0, calibrate=False).fit(POINTS)
    assert "chosen_k" not in model.record_


def test_pictures_are_looked_at_as_pixels_and_that_is_said():
    images = np.random.default_rng(0).integers(0, 256, (20, 48, 48, 3), dtype=np.uint8)
    looked = features_of_source(open_source(images), 0)
    assert looked.points.shape == (20, 3 * 32 * 32)
    assert looked.notes == (PIXELS,)


def test_numbers_go_up_to_the_square_root_of_the_items_and_to_a_quarter_of_them():
    assert max(row.k for row in choose_k(POINTS[:104]).curve) == 10
    assert max(row.k for row in choose_k(POINTS[:11]).curve) == 2


def test_of_very_many_items_some_are_looked_at(monkeypatch):
    monkeypatch.setattr("coterie.choosing.SAMPLE", 50)
    for made in (POINTS, np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)):
        source = open_source(made)
        looked, again, other = (features_of_source(source, seed) for seed in (1, 1, 2))
        assert len(looked.points) == len({tuple(row.tolist()) for row in looked.points}) == 50
        assert looked.n == len(made)
        assert torch.equal(looked.points, again.points)
        assert not torch.equal(looked.points, other.points)


def test_long_embeddings_are_compared_by_angle_and_short_ones_by_feature():
    rng = np.random.default_rng(0)
    long = features_of_source(open_source(rng.normal(size=(30, 64)).astype(np.float32)), 0).points
    assert torch.allclose(long.norm(dim=1), torch.ones(30))
    short = features_of_source(open_source((rng.normal(size=(30, 4)) * [1, 10, 100, 1]).astype(np.float32)), 0).points
    assert torch.allclose(short.std(0, correction=0), torch.ones(4), atol=1e-4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(({"random_state": seed}, "random_state is") for seed in (-1, 2**63, True, "x", None)),
        ({"least": 1}, "The range is 1 groups on: give two numbers from 2 on"),
        ({"least": 5, "most": 3}, "The range is 5 to 3 groups"),
        ({"progress": 3}, "progress is 3: it takes a function of a text"),
        ({"columns": np.array(3)}, r"columns is array\(3\): it takes a text, or a list of texts"),
        *(({"least": least}, f"least is {least!r}: it takes a whole number") for least in (None, 2.5, "x", True)),
        *(({"most": most}, "most is .*: it takes a whole number") for most in ("x", [3], np.array([1, 2]))),
        *(({"columns": columns}, "columns is .*: it takes a text, or a list") for columns in (1, [1], {"a": 1}, b"x")),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_what_is_no_number_or_text_is_refused_in_a_sentence(given, said):
    with pytest.raises(InputError, match=said):
        choose_k(POINTS, **given)


def test_what_was_taken_and_left_out_is_said():
    points, _ = make_blobs(60, n_features=4, centers=3, random_state=0)
    points[5] = 1e6
    found = choose_k(pd.DataFrame(points, columns=["f0", "f1", "f2", "f3"]).assign(width=1.0), columns="f*", most=4)
    assert "row 5" in found.notes[0]
    assert any("f0 to f3" in note for note in found.notes)


def test_columns_beside_a_run_are_refused(tmp_path):
    Clusterer(3, method="kmeans", random_state=0, calibrate=False, output=tmp_path / "run").fit(POINTS)
    with pytest.raises(InputError, match="a run has its own"):
        choose_k(tmp_path / "run", columns="f0")


def test_a_large_seed_is_one_too():
    """scikit-learn's own end at 2**32; many pixels take its randomised components."""
    pixels = np.random.default_rng(0).normal(size=(700, 520)).astype(np.float32)
    assert reduced(torch.from_numpy(pixels), 2**40).shape == (700, 50)


@pytest.mark.parametrize("different", [2, 3, 4])
def test_there_are_no_more_groups_than_different_items(different):
    points = np.repeat(np.random.default_rng(0).normal(size=(different, 4)), 30, axis=0)
    found = choose_k(points)
    assert (found.k, found.plateau[1]) == (different, different)
    assert any(f"Only {different} of the items are different" in note for note in found.notes)
    with pytest.raises(InputError, match=f"Only {different} of the items are different, so there are no 5 groups"):
        choose_k(points, least=5, most=7)


def test_rows_that_differ_in_the_sign_of_a_zero_are_the_same_item():
    """Three items with zeros of either sign counted as 120 different ones, and 8 groups of them "hold"."""
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(3, 100)).clip(0), 40, axis=0).astype(np.float32)
    points[(points == 0) & (rng.random(points.shape) < 0.5)] = -0.0
    found = choose_k(points)
    assert (found.k, found.plateau, [row.k for row in found.curve]) == (3, (3, 3), [2, 3])


def test_too_few_items_to_look_for_a_number():
    with pytest.raises(InputError, match="at least 8 items"):
        Clusterer("auto", method="ae", random_state=0).fit(POINTS[:6])
