"""Probabilities after splits and merges against slow twins: whole tables, parts of them, and many groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.mixture import GaussianMixture

from coterie.prediction.results import table_of
from coterie.review import Review
from coterie.review.columns import columns_of
from coterie.types import Assignments
from helpers.review_runs import embedding_of, probabilities_of, small_run, write_run


def posterior(features: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """scikit-learn's, of equal round Gaussians at the parts' means."""
    means = np.stack([features[rows].mean(0) for rows in parts])
    members = np.concatenate([features[rows] - mean for rows, mean in zip(parts, means, strict=True)])
    mixture = GaussianMixture(len(parts), covariance_type="spherical")
    mixture.weights_, mixture.means_ = np.full(len(parts), 1 / len(parts)), means
    mixture.precisions_cholesky_ = np.full(len(parts), (members**2).mean() ** -0.5)
    return mixture.predict_proba(features)


def test_a_split_shares_by_the_posterior_of_its_parts(tmp_path: Path) -> None:
    run, features = small_run(tmp_path, pictures=False), embedding_of(120, 4).astype(np.float32)
    features[:, 0] *= 3
    want = np.c_[probabilities_of(120, 4), np.zeros((120, 4))]
    with Review(run) as review:
        review.set_features(features)
        for group in (0, 1):
            members = review.state.members(group)
            kept, parts = members[:4], [members[4:10], members[10:]]
            first = review.state.next_group
            rows = [{"rows": ",".join(map(str, part))} for part in parts]
            review.submit("split", {"group": group, "parts": rows})
            want[:, [first, first + 1, group]] = want[:, [group]] * posterior(features, [*parts, kept])
            review.merge(2, [first])
            want[:, 2] += want[:, first]
            want[:, first] = 0
        some = np.array([90, 3, 41])
        np.testing.assert_allclose(
            columns_of(review.base, review.state, features).probabilities(some), want[some], atol=1e-5
        )
        review.move(some, 2)
        sure = want[np.arange(120), review.state.label]
        np.testing.assert_allclose(review.confidence, sure, atol=1e-5)
        table = review.table()
    np.testing.assert_allclose(np.stack(table["probabilities"].to_numpy()), want, atol=1e-5)
    np.testing.assert_allclose(table["confidence"].to_numpy(), sure, atol=1e-5)


def test_a_split_without_features_shares_by_its_members_and_the_sizes(tmp_path: Path) -> None:
    run, p = small_run(tmp_path, pictures=False, features=False), probabilities_of(120, 4)
    with Review(run) as review:
        members = review.state.members(1)
        review.submit("split", {"group": 1, "parts": [{"rows": ",".join(map(str, members[:6]))}]})
        rest, found = members[6:], np.stack(review.table()["probabilities"].to_numpy())
    share = np.full(120, 6 / len(members))
    share[members[:6]], share[rest] = 1, 0
    np.testing.assert_allclose(found[:, 4], p[:, 1] * share, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], p[:, 1] * (1 - share), atol=1e-6)


@pytest.mark.parametrize("in_memory", [True, False])
def test_of_many_groups_the_likeliest_are_written_after_a_merge(
    tmp_path: Path, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    p = torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(300, 0.05), 320).astype(np.float32))
    p /= p.sum(1, keepdim=True)
    run = write_run(tmp_path / "run", p.numpy(), n_clusters=300)
    ids = [str(row) for row in range(320)]
    pq.write_table(table_of(Assignments(ids, p, {"cal": p})), run / "result.parquet")
    if not in_memory:
        monkeypatch.setattr("coterie.review.base.DENSE_UP_TO", 0)
        monkeypatch.setattr("coterie.review.base.BLOCK", 70)
    with Review(run) as review:
        into, other = review.state.label[[0, 1]].tolist()
        review.merge(into, [other])
        some = np.array([300, 2, 111])
        parts = columns_of(review.base, review.state, None).probabilities(some)
        table = review.table()
    kept = np.sort(p.numpy(), 1)[:, -32:]
    want = np.where(p.numpy() >= kept[:, :1], p.numpy(), ((1 - kept.sum(1)) / 268)[:, None])
    want[:, into] += want[:, other]
    want[:, other] = 0
    np.testing.assert_allclose(parts, want[some], atol=1e-6)
    labels, values = (np.stack(table[name].to_numpy()) for name in ("top_labels", "top_probabilities"))
    np.testing.assert_allclose(values, -np.sort(-want, axis=1)[:, :32], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(want, labels.astype(int), 1), values, atol=1e-6)
    np.testing.assert_allclose(table["remainder"].to_numpy(), 1 - values.sum(1), atol=1e-5)
    np.testing.assert_allclose(
        table["confidence"].to_numpy(), want[np.arange(320), table["label"].to_numpy()], atol=1e-6
    )


def test_a_split_is_worked_out_once_for_an_embedding(tmp_path: Path) -> None:
    """Every answer of the app asks for the columns; of large groups their means took a second each time."""
    with Review(small_run(tmp_path, n=60, k=2)) as review:
        review.split(0, k=2)
        rows = np.arange(3, 50, 7)
        first = columns_of(review.base, review.state, review.features)
        alone = first.probabilities(rows)
        whole = np.concatenate([block for _, block in first.blocks()])
        again = columns_of(review.base, review.state, review.features)
        assert again.changes[0][2] is first.changes[0][2]
        np.testing.assert_array_equal(again.probabilities(rows), alone)
        np.testing.assert_array_equal(whole[rows], alone)
        without = columns_of(review.base, review.state, None).probabilities(rows)
        assert np.abs(without - alone).max() > 1e-3
