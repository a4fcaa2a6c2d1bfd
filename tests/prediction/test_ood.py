from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_ood.detector as oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from coterie import Clusterer
from coterie.data import open_source
from coterie.evaluation import evaluate_separation
from coterie.pipeline import RunResult, run
from coterie.prediction.bank import NEIGHBOURS, ROWS, WIDEST, load_bank, make_bank, save_bank
from coterie.prediction.model import load_model
from coterie.prediction.ood import (
    SCORES,
    available,
    check_scores,
    energy,
    knn,
    mahalanobis,
    max_logit,
    msp,
    negative_entropy,
    score_of,
)
from coterie.training.plan import RunSettings
from coterie.types import InputError, Source


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# The formulas


def test_softmax_scores_are_pytorch_oods_with_the_sign_turned() -> None:
    z = 3 * normal(50, 7)
    p = z.softmax(1)
    torch.testing.assert_close(msp(p), -oracle.MaxSoftmax.score(z))
    torch.testing.assert_close(max_logit(z), -oracle.MaxLogit.score(z))
    torch.testing.assert_close(energy(z), -oracle.EnergyBased.score(z))
    torch.testing.assert_close(energy(z, 2.0), -oracle.EnergyBased.score(z, t=2.0))
    torch.testing.assert_close(negative_entropy(p), -oracle.Entropy.score(z))


@given(k=st.integers(2, 12), scale=st.floats(0, 30), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_bounds_of_the_softmax_scores(k: int, scale: float, seed: int) -> None:
    z = scale * normal(9, k, seed=seed)
    p = z.softmax(1)
    assert bool((max_logit(z) <= energy(z) + 1e-5).all())
    assert bool((energy(z) <= max_logit(z) + math.log(k) + 1e-5).all())
    assert bool((negative_entropy(p) <= 1e-6).all())
    assert bool((negative_entropy(p) >= -math.log(k) - 1e-5).all())
    torch.testing.assert_close(energy(z + 4) - energy(z), torch.full((9,), 4.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(msp((z + 4).softmax(1)), msp(p), atol=1e-4, rtol=1e-4)


def test_certainty_has_no_entropy_and_no_nan() -> None:
    assert negative_entropy(torch.tensor([[0.0, 1.0], [0.5, 0.5]])).tolist() == pytest.approx([0, -math.log(2)])


@pytest.mark.parametrize(("m", "k", "d"), [(40, 5, 6), (40, 1, 3), (12, 11, 6), (300, 50, 20)])
def test_knn_of_new_items_is_the_distance_that_scikit_learn_and_pytorch_ood_find(m: int, k: int, d: int) -> None:
    bank, new = normal(m, d), 5 * normal(30, d, seed=1)
    unit = [torch.nn.functional.normalize(x).numpy() for x in (bank, new)]
    distance = NearestNeighbors(n_neighbors=k).fit(unit[0]).kneighbors(unit[1])[0][:, -1]
    np.testing.assert_allclose(-knn(new, bank, k).numpy(), distance, atol=1e-5)
    theirs = oracle.KNN(None, k=k, normalize=True).fit_features(bank, torch.zeros(m))
    np.testing.assert_allclose(-knn(new, bank, k).numpy(), theirs.predict_features(new).numpy(), atol=1e-5)


def test_an_item_of_the_bank_is_not_its_own_neighbour() -> None:
    bank = normal(40, 6)
    unit = torch.nn.functional.normalize(bank).double()
    for k in (1, 5, 39):
        twin = []
        for row in range(40):
            others = [float((unit[row] - unit[other]).norm()) for other in range(40) if other != row]
            twin.append(-sorted(others)[k - 1])
        np.testing.assert_allclose(knn(bank, bank, k).numpy(), twin, atol=1e-5)
        np.testing.assert_allclose(knn(7 * bank[3:4], bank, k).numpy(), twin[3:4], atol=1e-5)


def test_of_several_equal_items_only_one_is_the_item_itself() -> None:
    bank = torch.cat([normal(1, 6).expand(3, 6), normal(20, 6, seed=1)])
    assert knn(bank[:1], bank, 2).item() == pytest.approx(0, abs=1e-5)
    assert knn(bank[:1], bank, 3).item() < -0.1


@given(scale=st.floats(0.01, 1000), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_knn_does_not_see_the_length_of_features(scale: float, seed: int) -> None:
    bank, new = normal(30, 5, seed=seed), normal(8, 5, seed=seed + 1)
    torch.testing.assert_close(knn(scale * new, bank, 4), knn(new, bank / scale, 4), atol=1e-4, rtol=0)
    assert bool((knn(new, bank, 4) >= -2).all())


@pytest.mark.parametrize("k", [1, 20])
def test_knn_of_features_with_small_angles_is_no_rounding(k: int) -> None:
    """Features far from 0, with differences of a thousandth of their length: float32 products order them by chance."""
    bank, new = 2000 + normal(400, 8), 2000 + normal(50, 8, seed=1)
    unit = [torch.nn.functional.normalize(x.double()).numpy() for x in (bank, new)]
    distance = NearestNeighbors(n_neighbors=k).fit(unit[0]).kneighbors(unit[1])[0][:, -1]
    np.testing.assert_allclose(-knn(new, bank, k).numpy(), distance, rtol=5e-3)


@pytest.mark.parametrize("exponent", [-40, -20, 30])
def test_the_size_of_features_changes_no_score(exponent: int) -> None:
    scale = 2.0**exponent
    z, labels = groups(120, 6, 3)
    z[:, 4:] *= 0.01
    new = torch.cat([z[:20], 3 * normal(20, 6, seed=5)])
    bank, other = make_bank(z, labels, 3, seed=0), make_bank(scale * z, labels, 3, seed=0)
    far = mahalanobis(new, bank.means, bank.whitening)
    torch.testing.assert_close(mahalanobis(scale * new, other.means, other.whitening), far, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(knn(scale * new, other.features, 5), knn(new, bank.features, 5), rtol=1e-5, atol=1e-6)


def test_zero_features_have_a_finite_score() -> None:
    assert bool(torch.isfinite(knn(torch.zeros(2, 5), normal(30, 5), 4)).all())


def test_mahalanobis_is_the_squared_distance_that_scipy_finds() -> None:
    means, mix, new = 4 * normal(3, 5), normal(5, 5, seed=1), 6 * normal(20, 5, seed=2)
    precision = (mix.T @ mix).double().numpy()
    slow = cdist(new.double().numpy(), means.double().numpy(), "mahalanobis", VI=precision).min(1) ** 2
    np.testing.assert_allclose(-mahalanobis(new, means, mix).numpy(), slow, rtol=1e-3)


# The bank


def groups(n: int, d: int, k: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features in k clusters with one covariance that is no sphere, and their labels."""
    labels = torch.arange(n) % k
    return 9 * normal(k, d, seed=seed)[labels] + normal(n, d, seed=seed + 1) * torch.linspace(1, 3, d), labels


def test_with_many_items_mahalanobis_is_pytorch_oods() -> None:
    z, labels = groups(6000, 5)
    new = torch.cat([groups(50, 5)[0], 20 * normal(50, 5, seed=7)])
    bank = make_bank(z, labels, 3, seed=0)
    theirs = oracle.Mahalanobis(None).fit_features(z, labels).predict_features(new)
    ours = -mahalanobis(new, bank.means, bank.whitening)
    np.testing.assert_allclose(ours.numpy(), 2 * len(z) * theirs.numpy(), rtol=0.02)


def test_the_spread_is_that_of_the_items_around_their_own_means() -> None:
    z, labels = groups(3000, 4)
    bank = make_bank(z, labels, 3, seed=0)
    score = -mahalanobis(z, bank.means, bank.whitening)
    assert score.mean().item() == pytest.approx(4, rel=0.05)  # a squared distance in 4 dimensions
    np.testing.assert_allclose(
        bank.means.numpy(), [z[labels == group].mean(0).numpy() for group in range(3)], rtol=1e-4, atol=1e-4
    )


def test_empty_clusters_have_no_mean() -> None:
    z, labels = groups(60, 4)
    bank = make_bank(z, 2 * labels, 6, seed=0)
    assert bank.means.shape == (3, 4)
    assert bool(torch.isfinite(bank.means).all())


def test_the_bank_is_bounded_drawn_by_the_seed_and_made_of_fitted_items() -> None:
    z, labels = groups(ROWS + 500, 2)
    bank, same, other = (make_bank(z, labels, 3, seed=seed) for seed in (0, 0, 1))
    assert bank.features.shape == (ROWS, 2)
    assert torch.equal(bank.features, same.features)
    assert not torch.equal(bank.features, other.features)
    known = {tuple(row) for row in z.tolist()}
    assert all(tuple(row) in known for row in bank.features.tolist())
    assert bank.neighbours == NEIGHBOURS


@pytest.mark.parametrize(("n", "k", "expected"), [(2, 2, 1), (60, 3, 10), (60, 30, 1), (1000, 10, 50), (1000, 20, 25)])
def test_few_items_have_few_neighbours(n: int, k: int, expected: int) -> None:
    z, labels = groups(n, 4, k)
    assert make_bank(z, labels, k, seed=0).neighbours == expected


@pytest.mark.parametrize(
    "kind", ["fewer items than features", "dead features", "two items", "no spread", "one feature"]
)
def test_degenerate_features_give_finite_scores_that_still_tell_foreign_ones(kind: str) -> None:
    n, d = {"fewer items than features": (12, 40), "two items": (2, 6), "one feature": (30, 1)}.get(kind, (60, 6))
    z, labels = groups(n, d, 2)
    if kind == "dead features":
        z[:, 2:4] = 0
    if kind == "no spread":
        z = z[labels]
    bank = make_bank(z, labels, 2, seed=0)
    for x in (z, 100 * normal(5, d, seed=9)):
        assert bool(torch.isfinite(mahalanobis(x, bank.means, bank.whitening)).all())
        assert bool(torch.isfinite(knn(x, bank.features, bank.neighbours)).all())
    foreign = z + 50 * torch.ones(d)
    assert mahalanobis(z, bank.means, bank.whitening).min() > mahalanobis(foreign, bank.means, bank.whitening).max()


def test_what_no_fitted_item_does_is_seen() -> None:
    """A direction in which the fitted items do not vary at all: a pseudo-inverse would be blind to it."""
    z, labels = groups(60, 6)
    z[:, 5] = 0
    bank, foreign = make_bank(z, labels, 3, seed=0), z.clone()
    foreign[:, 5] = 3
    inside, outside = (mahalanobis(x, bank.means, bank.whitening) for x in (z, foreign))
    assert bool((outside < inside - 1).all())


def test_a_bank_comes_back_as_it_was(tmp_path: Path) -> None:
    bank = make_bank(*groups(60, 4), 3, seed=0)
    save_bank(tmp_path / "b.safetensors", bank)
    again = load_bank(tmp_path / "b.safetensors", 4)
    assert again is not None
    for name, value in vars(bank).items():
        found = getattr(again, name)
        assert torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value
    assert load_bank(tmp_path / "none.safetensors", 4) is None


def test_a_bank_that_does_not_fit_or_is_damaged_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    save_bank(path, make_bank(*groups(60, 4), 3, seed=0))
    with pytest.raises(InputError, match="holds 4 features, but the model has 5"):
        load_bank(path, 5)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged: fit the model again"):
        load_bank(path, 4)


# Which scores there are


def test_a_score_that_cannot_be_given_is_an_input_error() -> None:
    bank = make_bank(*groups(60, 4), 3, seed=0)
    with pytest.raises(InputError, match="'mahalanobi'; did you mean mahalanobis"):
        check_scores(["msp", "mahalanobi"], logits=True, bank=bank)
    with pytest.raises(InputError, match="known are msp"):
        check_scores(["?"], logits=True, bank=bank)
    with pytest.raises(
        InputError, match="energy needs logits, and this model has only probabilities: use msp, entropy"
    ):
        check_scores(["energy"], logits=False, bank=bank)
    with pytest.raises(InputError, match="knn needs a sample of the fitted items"):
        check_scores(["knn"], logits=True, bank=None)
    check_scores(available(logits=False), logits=False, bank=bank)
    assert set(SCORES) - set(available(logits=False)) == {"max-logit", "energy"}


# From a fitted run


@pytest.fixture(scope="module", params=["cdc", "moco"])
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult, Any]:
    """The folder of a small run on embeddings, the run, and its data."""
    out = tmp_path_factory.mktemp(request.param) / "run"
    rng = np.random.default_rng(0)
    data = (3 * rng.normal(size=(3, 20))[np.arange(90) % 3] + rng.normal(size=(90, 20))).astype(np.float32)
    return (
        out,
        run(data, RunSettings(n_clusters=3, method=request.param, epochs=1, device="cpu", calibrate=False), out),
        data,
    )


def test_all_scores_of_all_methods(fitted: tuple[Path, RunResult, Any]) -> None:
    _, result, _ = fitted
    model = result.model
    model.net.eval()
    names = available(logits=model.gives_logits)
    found = model.predict(result.source, embedding=True, ood_scores=names)
    assert list(found.ood_scores) == list(names)
    assert torch.equal(found.probabilities, result.assignments.probabilities)
    assert found.embedding is not None
    assert result.assignments.embedding is not None
    assert torch.equal(found.embedding, result.assignments.embedding)
    assert model.bank is not None
    for name, scores in found.ood_scores.items():
        logits = next(iter(model.logits_of(found.embedding).values()), None)
        slow = score_of(name, found.probabilities, logits, found.embedding, model.bank)
        torch.testing.assert_close(scores, slow.detach(), atol=1e-3, rtol=1e-3)


def test_the_kept_items_score_as_they_do_in_the_source(fitted: tuple[Path, RunResult, Any]) -> None:
    _, result, _ = fitted
    names = available(logits=result.model.gives_logits)
    kept, all_ = result.model.scores_of_fitted(), result.model.predict(result.source, ood_scores=names).ood_scores
    assert kept.keys() == all_.keys()
    for name in names:
        torch.testing.assert_close(kept[name], all_[name], atol=1e-3, rtol=1e-3)
    assert kept["knn"].max() < -1e-3  # no item is its own neighbour


def test_order_and_neighbours_do_not_change_a_score(fitted: tuple[Path, RunResult, Any]) -> None:
    _, result, data = fitted
    names = available(logits=result.model.gives_logits)
    expected = result.model.predict(result.source, ood_scores=names).ood_scores
    for rows in (np.random.default_rng(1).permutation(90), np.array([7]), np.tile(np.arange(90), 4)):
        source = open_source(data[rows], like=result.model.spec)
        found = result.model.predict(source, ood_scores=names).ood_scores
        for name in names:
            assert torch.equal(found[name], expected[name][torch.from_numpy(rows)]), name


def test_a_saved_model_gives_the_same_scores_and_a_damaged_bank_is_refused(
    fitted: tuple[Path, RunResult, Any], tmp_path: Path
) -> None:
    out, result, _ = fitted
    names, again = available(logits=result.model.gives_logits), load_model(out)
    expected = result.model.predict(result.source, ood_scores=names).ood_scores
    for name, scores in again.predict(result.source, ood_scores=names).ood_scores.items():
        assert torch.equal(scores, expected[name]), name
    again.save(tmp_path / "model")
    assert (tmp_path / "model" / "ood.safetensors").exists()
    again.bank = None
    again.save(tmp_path / "model")
    without = load_model(tmp_path / "model")
    with pytest.raises(InputError, match="needs a sample"):
        without.predict(result.source, ood_scores=["knn"])
    with pytest.raises(InputError, match="saved without a sample"):
        without.scores_of_fitted(["msp"])


def test_what_lies_far_away_is_told_apart(fitted: tuple[Path, RunResult, Any]) -> None:
    _, result, _ = fitted
    model = result.model
    far: Source = open_source((30 * np.random.default_rng(5).normal(size=(60, 20))).astype(np.float32), like=model.spec)
    inside, outside = model.scores_of_fitted(["mahalanobis"]), model.predict(far, ood_scores=["mahalanobis"]).ood_scores
    assert evaluate_separation(inside["mahalanobis"].numpy(), outside["mahalanobis"].numpy())["auroc"] > 0.95


def test_the_estimator_gives_the_models_scores() -> None:
    data = normal(60, 8).numpy()
    fitted = Clusterer(3, epochs=1, random_state=0, device="cpu").fit(data)
    assert np.array_equal(fitted.ood_score(data, "msp"), fitted.confidence_)
    assert fitted.ood_score(10 * data[:4]).shape == (4,)
    with pytest.raises(InputError, match="did you mean knn"):
        fitted.ood_score(data, "kn")


def test_very_wide_features_keep_no_covariance_and_say_so():
    wide = torch.randn(12, WIDEST + 1, generator=torch.Generator().manual_seed(0))
    bank = make_bank(wide, torch.arange(12) % 2, 2, seed=0)
    assert bank.whitening.shape == (0, WIDEST + 1)
    assert "mahalanobis" not in available(logits=True, bank=bank)
    with pytest.raises(InputError, match=f"more than {WIDEST} features"):
        check_scores(["mahalanobis"], logits=True, bank=bank)
    assert knn(wide, bank.features, bank.neighbours).shape == (12,)


def test_means_of_very_many_items_are_exact() -> None:
    """Sums in float32 put the mean of a million times 0.1 at 0.101."""
    z = torch.full((1_000_000, 2), 0.1)
    z[:, 1] += torch.arange(1_000_000) % 2
    bank = make_bank(z, torch.zeros(1_000_000, dtype=torch.int64), 2, seed=0)
    assert bank.means.numpy() == pytest.approx(np.array([[0.1, 0.6]]), abs=1e-6)
