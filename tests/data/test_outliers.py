"""Rows far outside all others are found and named; what is merely unusual is left as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from coterie import Clusterer, Spaces, calibrate, load
from coterie.data import open_source
from coterie.data.outliers import mark_outliers
from coterie.types import InputError, Source
from coterie.views import normalisation


def groups(n: int = 200, d: int = 16, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_blobs(n, n_features=d, centers=k, random_state=0)
    return x.astype(np.float32), y


def to_fit(x: np.ndarray) -> Source:
    source = open_source(x)
    mark_outliers(source)
    return source


def with_value(row: int, column: int | slice, value: float, d: int = 16) -> np.ndarray:
    x, _ = groups(d=d)
    x[row, column] = value
    return x


@pytest.mark.parametrize("d", [2, 16, 128])
@pytest.mark.parametrize("value", [1e4, 1e6, -1e12, 1e30])
def test_a_single_value_is_enough(d: int, value: float) -> None:
    source = to_fit(with_value(7, 1, value, d))
    assert list(source.outliers) == [7]
    (text,) = source.warnings
    assert text.startswith("1 row of array lies far outside the others (row 7, column 1: ")
    assert "\n" not in text


@pytest.mark.parametrize("factor", [1_000, -1_000, 1e6])
@pytest.mark.parametrize("rows", [[7], [0, 199], list(range(0, 200, 20))])
def test_whole_rows_of_another_unit_are_found(factor: float, rows: list[int]) -> None:
    x, _ = groups(d=128)
    x[rows] *= factor
    source = to_fit(x)
    assert list(source.outliers) == rows
    assert f"{len(rows)} row" in source.warnings[0]


@pytest.mark.parametrize("columns", [slice(None), 3])
def test_codes_for_missing_values_are_found_though_they_repeat(columns: int | slice) -> None:
    x, _ = groups()
    x = x / x.std(0)
    x[5:15, columns] = -999
    source = to_fit(x)
    assert list(source.outliers) == list(range(5, 15))
    x[5:15, columns] = -9  # no code, and not far
    assert len(to_fit(x).outliers) == 0


def test_a_code_that_is_not_far_enough_to_matter_is_still_named() -> None:
    rng = np.random.default_rng(0)
    ages = rng.integers(0, 90, (300, 4)).astype(np.float32)
    ages[[3, 50, 60], 2] = -999
    source = to_fit(ages)
    assert len(source.outliers) == 0
    assert "Column 2 of array has the value -999 in several rows and else 0 to 89" in source.warnings[0]


def ordinary() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    blobs, _ = groups(400)
    minority = np.concatenate([rng.normal(size=(990, 16)), rng.normal(size=(10, 16)) + 8])
    tight = np.concatenate([rng.normal(size=(990, 2)) * 0.1, rng.normal(size=(10, 2)) * 0.1 + 10])
    length = rng.normal(size=(500, 300))
    return {
        "normal": rng.normal(size=(5000, 10)),
        "uniform": rng.random((500, 3)),
        "blobs": blobs,
        "minority": minority,
        "a tight group far away": tight,
        "log-normal": np.exp(rng.normal(size=(3000, 8))),
        "student": rng.standard_t(3, (3000, 8)),
        "counts": rng.poisson(0.05, (1000, 40)).astype(float),
        "one-hot": np.eye(30)[rng.integers(0, 30, 600)],
        "few words": rng.random((300, 500)) * (rng.random((300, 500)) < 0.02),
        "unit length": length / np.linalg.norm(length, axis=1, keepdims=True),
        "features of unlike size": rng.normal(size=(500, 8)) * 10.0 ** np.arange(8),
        "one feature much larger": rng.normal(size=(500, 128)) * np.where(np.arange(128) == 5, 50, 1),
        "rare counts": np.where(rng.random((400, 30)) < 0.003, 9.0, 0.0),
        "few rows": rng.normal(size=(5, 3)),
    }


@pytest.mark.parametrize("form", ordinary())
def test_ordinary_data_keep_every_row_and_their_scale_to_the_bit(form: str) -> None:
    x = ordinary()[form].astype(np.float32)
    source = to_fit(x)
    assert len(source.outliers) == 0
    assert source.warnings == []
    values = torch.from_numpy(x)
    mean, std = normalisation(source.items)
    variance = (values - values.mean(0)).square().mean(0) * (values.amax(0) > values.amin(0))
    if x.shape[1] >= 64:
        variance = variance.mean().expand(x.shape[1])
    assert torch.equal(mean, values.mean(0))
    assert torch.equal(std, torch.where(variance > 0, variance.sqrt(), 1.0))


@pytest.mark.parametrize("change", ["times a thousand", "a million", "one value of 1e30", "codes"])
def test_the_others_are_grouped_as_without_them(tmp_path: Path, change: str) -> None:
    x, y = groups(d=128 if change == "times a thousand" else 16)
    rows = np.array([7])
    if change == "times a thousand":
        x[7] *= 1000
    elif change == "a million":
        x[7] = 1e6
    elif change == "one value of 1e30":
        x[7, 3] = 1e30
    else:
        rows = np.arange(0, 200, 20)
        x[rows] = -9999
    with pytest.warns(UserWarning, match=r"rows? .*far outside"):
        model = Clusterer(4, random_state=0, epochs=3).fit(x)
    others = np.delete(np.arange(200), rows)
    assert adjusted_rand_score(y[others], model.labels_[others]) == 1
    assert any("row" in text and "far outside" in text for text in model.record_["warnings"])
    assert (model.predict(x) == model.labels_).all()
    assert np.isfinite(model.predict_proba(x)).all()
    again = load(model.save(tmp_path / "run"))
    assert (again.predict_proba(x) == model.predict_proba(x)).all()
    scores = model.ood_score(x)
    assert np.isfinite(scores).all()


def test_a_row_far_outside_gets_finite_probabilities_from_any_model() -> None:
    x, _ = groups()
    model = Clusterer(4, random_state=0, epochs=2).fit(x)
    for value in (1e6, 1e20, -1e37):
        p = model.predict_proba(np.full((2, 16), value))
        assert np.isfinite(p).all()
        assert p.sum(1) == pytest.approx(1, abs=1e-5)


def test_a_run_that_goes_on_from_another_leaves_such_rows_out_too(tmp_path: Path) -> None:
    x, y = groups()
    Clusterer(4, random_state=0, epochs=1, output=tmp_path / "first").fit(x)
    x[7] = 1e25
    with pytest.warns(UserWarning, match="row 7"):
        model = Clusterer(4, random_state=0, epochs=3, init=tmp_path / "first").fit(x)
    others = np.delete(np.arange(200), 7)
    assert adjusted_rand_score(y[others], model.labels_[others]) == 1
    assert any("row 7" in text for text in model.record_["warnings"])


def test_calibration_is_not_moved_by_a_row_far_outside() -> None:
    x, y = groups()
    quick = {"epochs": 12}
    x[7] = 1e20
    with pytest.warns(UserWarning, match="row 7, column"):
        found = calibrate(x, y, settings=quick)
    others = np.delete(np.arange(200), 7)
    assert (found.labels[others] == y[others]).all()
    assert np.isfinite(found.probabilities).all()


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint64, np.longdouble])
def test_small_differences_of_large_numbers_are_kept(tmp_path: Path, dtype: type) -> None:
    x, y = groups()
    times = (np.round(x * 10).astype(np.int64) + 1_700_000_000_000).astype(dtype)
    source = open_source(times)
    taken = source.items.take(torch.arange(200)).numpy()
    assert np.array_equal(taken - taken[0], np.round(x * 10) - np.round(x[0] * 10))
    assert "had an offset subtracted: 0 (1.7e+12)" in source.notes[0]
    np.save(tmp_path / "x.npy", times)
    assert torch.equal(open_source(tmp_path / "x.npy").items.take(torch.arange(200)), torch.from_numpy(taken))
    if dtype is not np.float64:
        return
    model = Clusterer(4, random_state=0, epochs=3).fit(times)
    assert adjusted_rand_score(y, model.labels_) == 1
    loaded = load(model.save(tmp_path / "run"))
    assert (loaded.predict(times[::-1]) == model.labels_[::-1]).all()
    assert (loaded.predict(times.astype(np.int64)) == model.labels_).all()
    with pytest.raises(InputError, match=r"has dtype float32, but .* give float64"):
        loaded.predict(times.astype(np.float32))


def test_other_columns_keep_their_values_and_rounding_is_no_difference() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    x[:, 1] = 1e9 + rng.integers(0, 50, 60)
    taken = open_source(x).items.take(torch.arange(60)).numpy()
    assert np.array_equal(taken[:, [0, 2]], x[:, [0, 2]].astype(np.float32))
    assert len(np.unique(taken[:, 1])) == len(np.unique(x[:, 1]))
    x[:, 1] = 1.7e12 + rng.integers(0, 9, 60)
    taken = open_source(x).items.take(torch.arange(60)).numpy()
    assert len(np.unique(taken[:, 1])) == len(np.unique(x[:, 1]))
    x[:, 1] = 0.1 + rng.normal(size=60) * 1e-17
    source = open_source(x)
    assert (source.notes, source.items.spec.offset) == ([], ())


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1.0, 1e22, 1e30])
def test_the_size_of_all_numbers_does_not_matter(size: float) -> None:
    x, y = groups()
    model = Clusterer(4, random_state=0, epochs=3).fit(x.astype(np.float64) * size)
    assert adjusted_rand_score(y, model.labels_) == 1


def test_more_rows_than_may_be_left_out_are_named_and_stay() -> None:
    x, _ = groups()
    x[::4] = 1e6 * (1 + np.arange(50))[:, None]
    source = to_fit(x)
    assert len(source.outliers) == 0
    assert "50 rows of array lie far outside" in source.warnings[0]
    assert "they determine the scale of all" in source.warnings[0]


def test_of_thousands_some_are_looked_at() -> None:
    x, _ = groups(6000, d=4)
    x[100:1000] = -9999
    source = to_fit(x)
    assert list(source.outliers) == list(range(100, 1000))
    assert "and 895 more" in source.warnings[0]
    group = x.copy()
    group[100:1000] = 5000 + np.random.default_rng(0).normal(size=(900, 4))
    assert to_fit(group).outliers == []


@pytest.mark.parametrize("n", [200, 20_000])
def test_a_value_in_a_column_that_is_else_constant_is_found(n: int) -> None:
    x = np.random.default_rng(0).normal(size=(n, 4))
    x[:, 2] = 5
    x[7, 2] = 1e30
    assert to_fit(x).outliers == [7]
    x[7, 2] = 6
    assert to_fit(x).outliers == []


def test_rows_of_zeros_among_dense_ones_are_named() -> None:
    x, _ = groups()
    x[[3, 70]] = 0
    source = to_fit(x)
    assert (source.outliers, source.warnings) == (
        [],
        ["Nothing but zeros: rows 3, 70 of array; remove what has no embedding."],
    )
    more = x.copy()
    more[10:17] = 0
    assert "rows 3, 10, 11, 12, 13 and 4 more of array" in to_fit(more).warnings[0]
    assert to_fit(x[:, :2]).warnings == []
    assert to_fit(np.where(x > 0, x, 0)).warnings == []


def column_of(*far: float, inside: float = 1.0) -> list[int]:
    """The rows left out of 201 from -1 to 1, whose unit is 0.75, with one at `inside` and these after them."""
    x = np.zeros((201 + len(far), 2), np.float32)
    x[:, 1] = np.random.default_rng(0).normal(size=len(x))
    x[:201, 0], x[0, 0], x[201:, 0] = np.linspace(-1, 1, 201), inside, far
    return to_fit(x).outliers


def test_a_row_is_far_from_40_units_on_and_8_times_farther_than_the_others() -> None:
    assert column_of(29) == []
    assert column_of(31) == [201]
    assert column_of(15 * 7.9, inside=15) == []
    assert column_of(15 * 8.1, inside=15) == [201]
    assert column_of(1e5, 1e3) == [201, 202], "the innermost gap counts"


def test_three_rows_that_keep_together_are_a_group_and_two_are_not() -> None:
    """Together is within five units."""
    assert column_of(1000, 1003) == [201, 202]
    assert column_of(1000, 1003, 1001) == []
    assert column_of(1000, 1004, 1008) == [201, 202, 203]


def test_rows_far_outside_in_any_of_several_spaces_are_left_out() -> None:
    first, second = groups()[0], groups(d=5)[0]
    first[[3, 50], 0], second[9, 1] = 1e6, -1e6
    source = open_source(Spaces([first, second]))
    mark_outliers(source)
    assert source.outliers == [3, 9, 50]
    assert len(source.warnings) == 2


def test_the_values_that_are_named_are_those_of_the_file() -> None:
    """Also where a constant was taken off numbers that are close together and far from 0."""
    x = 1e6 + np.random.default_rng(0).normal(size=(100, 3)) / 8
    x[7, 1] = 1e6 + 60
    assert open_source(x).items.spec.offset[1] > 0
    assert "(row 7, column 1: 1.00006e+06, the median is 1e+06)" in to_fit(x).warnings[0]
