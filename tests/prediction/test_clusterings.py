"""What a user may call a clustering, and what not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from coterie.prediction.clusterings import read_clustering
from coterie.types import InputError

P = np.array([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]])


@pytest.mark.parametrize(
    "form", [P, P.tolist(), P.astype(np.float16), torch.from_numpy(P), torch.from_numpy(P).bfloat16()]
)
def test_probabilities_come_in_many_forms(form: Any) -> None:
    said = read_clustering(form, 3)
    assert said.probabilities == pytest.approx(P, abs=5e-3)
    assert said.probabilities.dtype == np.float32
    assert said.probabilities.sum(1) == pytest.approx(1)
    assert said.groups.tolist() == [0, 1]
    assert said.rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ([5, 2, 5, 9], [2, 5, 9]),
        (np.array([5.0, 2.0, 5.0, 9.0]), [2, 5, 9]),
        (torch.tensor([5, 2, 5, 9]), [2, 5, 9]),
        (torch.tensor([20251129, 20251128, 20251129, 20251130]).double(), [20251128, 20251129, 20251130]),
        (["dog", "cat", "dog", "owl"], ["cat", "dog", "owl"]),
        (np.array(["dog", "cat", "dog", "owl"], dtype=object), ["cat", "dog", "owl"]),
    ],
)
def test_labels_become_one_hot_rows_over_their_sorted_values(labels: Any, groups: list[Any]) -> None:
    said = read_clustering(labels, 4)
    assert said.groups.tolist() == groups
    assert said.probabilities.tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_items_without_a_group_are_left_out() -> None:
    said = read_clustering([0, -1, 1, -1, 0], 5)
    assert said.rows.tolist() == [0, 2, 4]
    assert said.groups.tolist() == [0, 1]
    assert len(said.probabilities) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (P[:2], "There are 2 rows of probabilities for 3 embeddings"),
        ([0, 1], "There are 2 labels for 3 embeddings"),
        ([0, 0, 0], "at least 2 groups"),
        ([-1, -1, -1], "at least 2 groups"),
        ([4, -1, 4], "at least 2 groups"),
        (np.ones((3, 1)), "give labels with one axis"),
        (np.tile([0.9, 0.1], (3, 1)), "at least 2 groups"),
        ([0.0, np.nan, 1.0], "Label 1 is nan"),
        ([0.0, 1.0, 2.5], "Label 2 is 2.5"),
        ([0.0, np.inf, 1.0], "Label 1 is inf"),
        ([0, "cat", 1], "several kinds"),
        (np.array([[0.5, 0.5], [0.5, np.nan], [1, 0]]), "Row 1 of the probabilities holds a value that is not finite"),
        (np.array([[0.5, 0.5], [1, 0], [1.5, -0.5]]), "Row 2 of the probabilities holds a negative value"),
        (np.array([[0.5, 0.4], [1, 0], [0, 1]]), "Row 0 of the probabilities does not sum to 1"),
        (np.array([["a", "b"]] * 3), "give numbers"),
        (np.zeros((3, 2, 2)), "has the shape"),
        (0, "The clustering is a int"),
        ([[0.5, 0.5], [1.0], [0, 1]], "cannot be turned into an array"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_clustering(np.array(given, dtype=object) if message == "several kinds" else given, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a", None, "b"], "Label 1 is None"),
        (["a", float("nan"), "b"], "Label 1 is nan"),
        ([0, None, 1], "Label 1 is None"),
        (np.array([0.0, np.nan, 1.0]), "Label 1 is nan"),
        ([0, 1e300, 1], "Label 1 is 1e"),
        (np.array([0, 1j, 2]), "The labels have the dtype complex128"),
        (np.array(["2020-01-01", "2020-01-02", "NaT"], "M8[D]"), "The labels have the dtype datetime64"),
        (np.ma.masked_array([0, 1, 2], [False, True, False]), "masked values"),
        ([{}, 1, 2], "Label 0 is {}"),
        ([0, "a", 1], "The labels are of several kinds"),
        ({0: 1}, "The clustering is a dict"),
        (None, "The clustering is a NoneType"),
        ((label for label in (0, 1, 0)), "The clustering is a generator"),
        ([[0.5, 0.5], [1.0], [0.3, 0.7]], "The clustering, a list, cannot be turned into an array"),
        (np.array([[0.5, "x"]] * 3, dtype=object), "values that are no numbers"),
        (np.array([[0], [1], [0]]), "give labels with one axis"),
        (torch.tensor([[1 + 1j, 0]] * 3), "dtype complex64"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_clustering(given, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("none", ["-1", b"-1", -1])
def test_the_label_of_no_group_may_be_text(none: Any) -> None:
    one, two = (b"a", b"b") if isinstance(none, bytes) else ("a", "b") if isinstance(none, str) else (3, 4)
    said = read_clustering([one, none, two, none, one], 5)
    assert said.groups.tolist() == [one, two]
    assert said.rows.tolist() == [0, 2, 4]


def test_labels_of_pandas_are_labels() -> None:
    pd = pytest.importorskip("pandas")
    for labels in (pd.Series(["b", "a", "b"]), pd.Series(["b", "a", "b"], dtype="category")):
        assert read_clustering(labels, 3).groups.tolist() == ["a", "b"]
    assert read_clustering(pd.Series([2, 1, 2], dtype="Int64"), 3).groups.tolist() == [1, 2]
    with pytest.raises(InputError, match="Label 1 is "):
        read_clustering(pd.Series(["b", None, "b"]), 3)
    frame = pd.DataFrame(P, columns=["cat", "dog"])
    assert read_clustering(frame, 3).probabilities == pytest.approx(P)
