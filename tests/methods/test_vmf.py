"""The von Mises-Fisher mixture: goldens of the concentration, EM beside a slow twin, what moves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ive
from sklearn.metrics import adjusted_rand_score
from torch.nn import functional

from coterie.contract import Facts
from coterie.methods.vmf import VMF, Directions, concentration, effective_dimension, mixture, practical, step
from coterie.pipeline import RunResult, run
from coterie.training.plan import RunSettings
from coterie.types import RunFailed
from helpers.vectors import groups_of_vectors

SETTINGS = RunSettings(n_clusters=3, method="vmf", device="cpu", calibrate=False)


def unit_rows(n: int = 40, d: int = 6) -> torch.Tensor:
    return functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(0)), dim=1)


def fitted(data: Any, **overrides: Any) -> RunResult:
    return run(data, replace(SETTINGS, overrides=overrides))


def probabilities(found: RunResult) -> torch.Tensor:
    return found.assignments.probabilities


@pytest.mark.parametrize(("d", "r", "kappa"), [(384, 0.6, 359.66), (768, 0.7, 1053.45), (10, 0.9, 43.53)])
def test_concentration_of_known_lengths(d: int, r: float, kappa: float) -> None:
    assert concentration(d, r) == pytest.approx(kappa, abs=0.005)


@pytest.mark.parametrize(("d", "r"), [(10, 0.9), (64, 0.5), (384, 0.6)])
def test_the_concentration_is_near_the_root_of_the_ratio_of_bessel_functions(d: int, r: float) -> None:
    kappa = concentration(d, r)
    assert ive(d / 2, kappa) / ive(d / 2 - 1, kappa) == pytest.approx(r, rel=0.005)


def test_the_concentration_ends() -> None:
    assert concentration(384, 0.0) == 0
    assert np.isfinite(concentration(384, 1.0))
    assert concentration(1, 0.9) > 0


def test_a_step_is_what_the_formula_says() -> None:
    rows, directions, kappa = unit_rows(), unit_rows()[:3], 7.0
    sums = np.zeros((3, 6))
    for row in rows.double().numpy():
        said = np.exp(kappa * directions.double().numpy() @ row)
        for group in range(3):
            sums[group] += said[group] / said.sum() * row
    lengths = np.linalg.norm(sums, axis=1)
    found, r = step(rows, directions, kappa)
    np.testing.assert_allclose(found.numpy(), sums / lengths[:, None], atol=1e-5)
    assert r == pytest.approx(lengths.sum() / 40, rel=1e-5)


def test_at_one_concentration_the_likelihood_never_falls() -> None:
    rows, directions = unit_rows(200), unit_rows(3)
    values = []
    for _ in range(15):
        values.append(float((9.0 * rows @ directions.T).double().logsumexp(1).sum()))
        directions, _ = step(rows, directions, 9.0)
    assert (np.diff(values) > -1e-4).all()
    assert values[-1] > values[0]


def test_a_group_without_items_keeps_its_direction() -> None:
    rows = unit_rows()
    directions = torch.cat([rows[:1], torch.zeros(1, 6)])
    found, _ = step(torch.zeros(4, 6), directions, 5.0)
    assert torch.equal(found, directions)


def test_the_mixture_starts_from_spherical_k_means_and_ends_where_nothing_moves() -> None:
    rows = functional.normalize(torch.from_numpy(groups_of_vectors()[0]), dim=1)
    directions, r, kappa = mixture(rows, rows[:3], 100)
    again, r_again, _ = mixture(rows, directions, 100)
    torch.testing.assert_close(again, directions, atol=2e-3, rtol=0)
    assert r_again == pytest.approx(r, abs=1e-4)
    assert kappa == concentration(70, r)


def test_groups_are_found_and_lengths_do_not_count() -> None:
    vectors, truth = groups_of_vectors()
    longer = vectors * np.random.default_rng(1).uniform(0.1, 10, (90, 1)).astype(np.float32)
    for data in (vectors, longer):
        found = fitted(data)
        assert adjusted_rand_score(truth, probabilities(found).argmax(1)) == 1.0
        assert found.model.backbone == "identity"
    rows = found.model.method.rows(found.model.net, found.assignments.embedding)  # type: ignore[attr-defined]
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(rows.numpy(), expected, atol=1e-4)


def test_tempering_keeps_the_groups_and_takes_certainty_away() -> None:
    vectors, _ = groups_of_vectors(d=200, apart=0.4)
    vectors *= np.geomspace(1, 1e-3, 200).astype(np.float32)  # few of the dimensions have any spread
    own, tempered = (fitted(vectors, tempered=which) for which in (False, True))
    assert torch.equal(probabilities(own).argmax(1), probabilities(tempered).argmax(1))
    assert bool((probabilities(own).amax(1) >= probabilities(tempered).amax(1) - 1e-6).all())
    assert float(probabilities(own).amax(1).mean()) > float(probabilities(tempered).amax(1).mean()) + 0.05
    assert own.model.net.groups.concentration > 5 * tempered.model.net.groups.concentration


def test_directions_in_a_plane_have_at_most_two_dimensions() -> None:
    plane = torch.zeros(300, 50)
    plane[:, :2] = unit_rows(300, 2)
    assert 0.9 < effective_dimension(plane, plane[:3]) < 2.1
    assert effective_dimension(plane[:1].expand(9, -1), plane[:1]) == 1.0


def test_the_effective_dimension_is_the_participation_ratio_around_the_nearest_directions() -> None:
    rows, directions = unit_rows(300, 8), unit_rows(300, 8)[:2]
    rest = rows - directions[(rows @ directions.T).argmax(1)]
    eigenvalues = torch.linalg.eigvalsh(rest.double().T @ rest.double())
    expected = float(eigenvalues.sum() ** 2 / eigenvalues.square().sum())
    assert 3 < expected < 8
    assert effective_dimension(rows, directions) == pytest.approx(expected, rel=1e-4)


def test_an_item_without_a_direction_belongs_to_all_groups_alike() -> None:
    vectors, truth = groups_of_vectors()
    vectors[7] = 0
    found = probabilities(fitted(vectors))
    torch.testing.assert_close(found[7], torch.full((3,), 1 / 3), atol=1e-3, rtol=0)
    kept = np.arange(90) != 7
    assert adjusted_rand_score(truth[kept], found.argmax(1)[kept]) == 1.0


def test_the_answer_is_the_softmax_of_scaled_cosines() -> None:
    head = Directions(6, 2)
    directions, rows = unit_rows()[:2], unit_rows()
    head.place(directions, 4.0)
    torch.testing.assert_close(head(rows), 4 * torch.einsum("nd,kd->nk", rows, directions))


def test_pictures_are_grouped_by_their_pixels(digits: Any) -> None:
    found = run(digits.items.array, SETTINGS)
    assert probabilities(found).shape == (len(digits.items), 3)
    rows = found.model.method.rows(found.model.net, found.assignments.embedding)  # type: ignore[attr-defined]
    assert float(rows.min()) >= -1e-5  # pixels from 0 on, not those that were normalised


def test_short_vectors_are_seen_from_their_mean() -> None:
    assert practical(Facts(1000, 3, "embeddings", "cpu", dim=4)) == {"centre": True}
    assert practical(Facts(1000, 3, "embeddings", "cpu", dim=384)) == {}
    assert practical(Facts(1000, 3, "images", "cpu", side=28)) == {}


def test_directions_that_float32_cannot_tell_are_refused_unless_seen_from_their_mean() -> None:
    """Before, the groups were lost: nearest directions agreed with the groups no better than chance."""
    draw, label = torch.Generator().manual_seed(0), torch.arange(200) % 4
    base, centres = (functional.normalize(torch.randn(m, 64, generator=draw)) for m in (1, 4))
    items = (base + 3e-4 * (centres[label] + torch.randn(200, 64, generator=draw) / 160)).numpy()
    settings = RunSettings(4, "vmf", calibrate=False, device="cpu", overrides={"vmf.restarts": 2})
    with pytest.raises(RunFailed, match="nearly the same direction"):
        run(items, settings)
    done = run(items, replace(settings, overrides={**settings.overrides, "vmf.centre": True}))
    assert adjusted_rand_score(label, done.assignments.probabilities.argmax(1)) == 1


def test_defaults() -> None:
    assert VMF() == VMF(restarts=10, iterations=100, centre=False, tempered=True)
