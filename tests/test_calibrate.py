"""`coterie.calibrate`: calibrated confidence for clusterings that coterie did not make."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.mixture import GaussianMixture

from coterie import calibrate
from coterie.calibration import Calibration
from coterie.evaluation import accuracy, calibration_error, match
from coterie.types import InputError

LOSSES = get_args(get_type_hints(Calibration)["loss"])
QUICK = {"epochs": 12}


def overlapping(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three groups of which about a sixth lies nearer to another group."""
    angles = 2 * np.pi * np.arange(3) / 3
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], 1)
    x, y = make_blobs(n, centers=centres, cluster_std=1.4, random_state=seed)
    return x.astype(np.float32), y


def ece(p: np.ndarray, y: np.ndarray) -> float:
    found = p.argmax(1)
    return calibration_error(p.max(1), match(y, found, p.shape[1]).correct(y, found))


def test_the_labels_of_k_means_on_overlapping_blobs_get_believable_confidences() -> None:
    x, y = overlapping(400)
    labels = KMeans(3, n_init=5, random_state=0).fit_predict(x)
    found = calibrate(x, labels)
    assert repr(found) == f"<Calibrated: 400 items in 3 groups, mean confidence {found.confidence.mean():.2f}>"
    before = 1 - accuracy(y, labels)  # all confidences are 1
    assert before > 0.1
    assert ece(found.probabilities, y) < 0.5 * before
    assert accuracy(y, found.labels) > accuracy(y, labels) - 0.02
    assert (found.labels == labels).mean() > 0.95
    # The unsure ones are those between the groups.
    wrong = found.labels != match(y, labels).class_of.argsort()[y]
    assert found.confidence[wrong].mean() < found.confidence[~wrong].mean() - 0.05


def test_the_calibration_error_of_k_means_on_digits_falls() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = x[:500], y[:500]
    labels = KMeans(10, n_init=3, random_state=0).fit_predict(x)
    found = calibrate(x, labels)
    assert ece(found.probabilities, y) < 0.6 * (1 - accuracy(y, labels))
    assert accuracy(y, found.labels) > accuracy(y, labels) - 0.02


def test_groups_of_unequal_sizes_keep_their_sizes_and_their_sureness() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(400) > 0.95).astype(int)
    x = 6 * y[:, None] + rng.normal(size=(400, 3)) * 0.5
    found = calibrate(x, y)
    assert (found.labels == y).all()
    assert found.confidence.mean() > 0.97


def test_probabilities_that_are_too_sure_are_tempered() -> None:
    x, y = overlapping(400)
    p = GaussianMixture(3, random_state=0).fit(x).predict_proba(x) ** 4
    p /= p.sum(1, keepdims=True)
    found = calibrate(x, p)
    assert ece(found.probabilities, y) < ece(p, y)
    assert found.confidence.mean() < p.max(1).mean()


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_gives_probabilities_that_agree_with_the_clustering(loss: str) -> None:
    x, _ = overlapping(200)
    labels = KMeans(3, n_init=1, random_state=0).fit_predict(x)
    found = calibrate(x, labels, loss=loss, settings={"epochs": 25})
    assert found.probabilities.shape == (200, 3)
    assert found.probabilities.dtype == np.float32
    assert found.probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    assert (found.probabilities.max(1) == found.confidence).all()
    assert (found.groups[found.probabilities.argmax(1)] == found.labels).all()
    assert (found.labels == labels).mean() > 0.9


def test_one_seed_one_answer() -> None:
    x, _ = overlapping(120)
    labels = (x[:, 0] > 0).astype(int)
    first, again, other = (calibrate(x, labels, random_state=seed, settings=QUICK) for seed in (3, 3, 4))
    assert (first.probabilities == again.probabilities).all()
    assert (first.probabilities != other.probabilities).any()


def test_groups_keep_their_names_and_items_without_one_get_one() -> None:
    x, _ = make_blobs(300, centers=3, cluster_std=0.5, random_state=1)
    truth = KMeans(3, n_init=1, random_state=0).fit_predict(x)
    names = np.array(["dog", "owl", "cat"])[truth]
    found = calibrate(x, names, settings=QUICK)
    assert found.groups.tolist() == ["cat", "dog", "owl"]
    assert (found.labels == names).all()
    noisy = truth.copy()
    noisy[::10] = -1
    found = calibrate(x, noisy, settings=QUICK)
    assert found.groups.tolist() == [0, 1, 2]
    assert (found.labels == truth).all()


@pytest.mark.parametrize(("n", "k"), [(2, 2), (5, 3), (11, 2), (64, 30)])
def test_small_data_work(n: int, k: int) -> None:
    x = np.random.default_rng(0).normal(size=(n, 3))
    found = calibrate(x, np.arange(n) % k, settings=QUICK)
    assert found.probabilities.shape == (n, k)
    assert np.isfinite(found.probabilities).all()


def test_shift_and_scale_of_the_embeddings_do_not_matter() -> None:
    x, _ = overlapping(200)
    labels = (x[:, 0] > 0).astype(int)
    here = calibrate(x, labels, settings=QUICK)
    there = calibrate(1000 * x.astype(np.float64) + 5000, labels, settings=QUICK)
    assert there.probabilities == pytest.approx(here.probabilities, abs=0.05)


def test_the_input_is_not_changed() -> None:
    x, _ = overlapping(60)
    p = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    copies = x.copy(), p.copy()
    calibrate(x, p, settings={"epochs": 1})
    assert (x == copies[0]).all()
    assert (p == copies[1]).all()


@pytest.mark.parametrize(
    ("embeddings", "clustering", "message"),
    [
        (np.full((6, 2), np.nan), [0, 1] * 3, "contains NaN"),
        (np.zeros((6, 2)), [0, 1] * 3, "constant"),
        (np.eye(6), [0, 1] * 2, "4 labels for 6 embeddings"),
        (np.eye(6), [1] * 6, "at least 2 groups"),
        (np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) * 7, "12 items has a label of its own, as ids"),
        (np.eye(6), np.full((6, 2), 0.4), "does not sum to 1"),
        (np.zeros((6, 8, 8), np.uint8), [0, 1] * 3, "not images"),
    ],
)
def test_bad_input_is_refused(embeddings: Any, clustering: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        calibrate(embeddings, clustering)


def test_wrong_settings_are_refused() -> None:
    for wrong, message in (
        ({"loss": "temperature"}, "calibrate.loss"),
        ({"settings": {"cels": 4}}, "did you mean"),
        ({"random_state": -1}, "random_state is -1"),
    ):
        with pytest.raises(InputError, match=message):
            calibrate(np.eye(6), [0, 1] * 3, **wrong)  # type: ignore[arg-type]


def test_importing_coterie_imports_no_torch() -> None:
    code = "import sys, coterie; assert 'calibrate' in coterie.__all__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
