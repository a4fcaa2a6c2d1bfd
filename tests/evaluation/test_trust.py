"""Which run to trust: identical runs tie, a spoilt one ranks last, nothing depends on the names of groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import cohen_kappa_score, silhouette_score

from coterie.evaluation.group_criteria import linear_predictions
from coterie.evaluation.trust import Space, _of_items, flags, trust

RNG = np.random.default_rng(0)
TRUTH = np.repeat(np.arange(3), 60)
POINTS = RNG.normal(size=(180, 5)) + 4 * np.eye(5)[TRUTH]
SPACES = [Space(POINTS, np.arange(180))]
SPOILT = np.where(RNG.random(180) < 0.3, RNG.permutation(TRUTH), TRUTH)


def test_identical_runs_tie():
    found = trust(["a", "b", "c"], [TRUTH, TRUTH, (TRUTH + 1) % 3], 3, SPACES)
    assert not found.distinguishable
    assert {run.rank for run in found.runs} == {2.0}
    assert found.bound == 1
    assert "agree on all items" in found.sentences[0]
    assert "not distinguishable without judging" in found.sentences[1]
    assert found.recommended == found.medoid
    assert "take any, such as a, or judge" in found.sentences[1]


def test_one_of_runs_that_cannot_be_told_apart_is_nearest_to_the_others():
    other = np.where(RNG.random(180) < 0.3, RNG.permutation(TRUTH), TRUTH)
    found = trust(["far", "near", "also far"], [SPOILT, TRUTH, other], 3, [])
    assert "take near, which agrees most with the others" in found.sentences[1]
    two = trust(["far", "near"], [SPOILT, TRUTH], 3, [])
    assert "agrees most" not in two.sentences[1]


def test_a_spoilt_run_ranks_last_by_every_score():
    found = trust(["good", "spoilt"], [TRUTH, SPOILT], 3, SPACES)
    good, spoilt = found.runs
    assert (good.rank, spoilt.rank) == (1, 2)
    for name in ("kappa", "silhouette", "neighbours"):
        assert getattr(spoilt, name) < getattr(good, name)
    assert (found.distinguishable, found.recommended) == (True, "good")


def test_the_names_of_groups_do_not_matter():
    one = trust(["a", "b"], [TRUTH, SPOILT], 3, SPACES).runs
    other = trust(["a", "b"], [np.array([2, 0, 1])[TRUTH], SPOILT], 3, SPACES).runs
    assert one[0].kappa == pytest.approx(other[0].kappa)
    assert one[0].neighbours == pytest.approx(other[0].neighbours)
    assert one[0].silhouette == pytest.approx(other[0].silhouette)


def test_shuffled_labels_score_nothing():
    found = trust(["truth", "shuffled"], [TRUTH, RNG.permutation(TRUTH)], 3, SPACES).runs[1]
    assert abs(found.kappa) < 0.3
    assert abs(found.neighbours) < 0.2


def test_a_run_is_not_judged_in_its_own_features():
    """Two runs that trained their own features: each is alone in the other's, so no one is first."""
    own = [Space(POINTS, np.arange(180), home=0), Space(POINTS[:, ::-1], np.arange(180), home=1)]
    found = trust(["a", "b"], [TRUTH, SPOILT], 3, own)
    assert [run.rank for run in found.runs] == [1.5, 1.5]
    assert not found.distinguishable
    third = [*own, Space(POINTS, np.arange(180), home=2)]
    found = trust(["a", "b", "c"], [TRUTH, SPOILT, TRUTH], 3, third)
    assert [run.rank for run in found.runs] == [1.5, 3, 1.5]


def test_identical_runs_tie_where_one_of_them_trained_the_features():
    """Only the other was ranked there, ahead of a spoilt run: its mean rank was lower, and it "ranks first"."""
    spaces = [*SPACES, Space(POINTS[:, ::-1], np.arange(180), home=1)]
    found = trust(["a", "b", "c"], [TRUTH, (TRUTH + 1) % 3, SPOILT], 3, spaces)
    assert [run.rank for run in found.runs] == [1.5, 1.5, 3]
    assert not found.distinguishable


def test_equal_groups_that_are_numbered_otherwise_tie():
    """Sums over groups round otherwise in another order: of two equal runs one was ahead in most resamples."""
    draw = np.random.default_rng(3)
    labels = draw.choice(10, 180, p=draw.dirichlet(np.full(10, 2.0)))
    for _ in range(4):
        found = trust(["a", "b"], [labels, draw.permutation(10)[labels]], 10, SPACES)
        assert [(run.rank, run.interval) for run in found.runs] == [(1.5, (1.5, 1.5))] * 2


def test_without_features_only_the_agreement_is_told():
    found = trust(["a", "b"], [TRUTH, SPOILT], 3, [])
    assert np.isnan(found.runs[0].kappa)
    assert found.as_json()["runs"][0]["kappa"] is None
    assert not found.distinguishable
    assert found.bound < 1


def test_odd_sizes_are_flagged():
    """9 of 2,000 items are below a twentieth of an even share of 200, 11 are not; 1,000 are not above five of them."""
    assert flags(TRUTH, 3) == []
    assert flags(np.repeat(np.arange(10), [11, 1000, *[122] * 7, 135]), 10) == []
    assert flags(np.repeat(np.arange(10), [9, 1002, *[122] * 7, 135]), 10) == [
        "1 group below a twentieth of an even share",
        "1 group above five even shares",
    ]
    assert flags(np.array([0] * 99 + [1]), 20) == [
        "18 groups below a twentieth of an even share",
        "1 group above five even shares",
    ]


def test_the_scores_are_those_of_scikit_learn():
    """Kappa of LDA's predictions, the silhouette, and neighbours of the same group beyond chance, in others' spaces."""
    own = [Space(POINTS, np.arange(180), home=0), Space(POINTS[20:, :3], np.arange(20, 180))]
    found = trust(["a", "b"], [TRUTH, SPOILT], 3, own).runs
    for run, labels, spaces in ((found[0], TRUTH, own[1:]), (found[1], SPOILT, own)):
        told = []
        for space in spaces:
            there, points = labels[space.rows], space.points
            order = ((points[:, None] - points[None]) ** 2).sum(2).argsort(1)[:, 1:16]
            chance = ((np.bincount(there) / len(there)) ** 2).sum()
            near = ((there[order] == there[:, None]).mean() - chance) / (1 - chance)
            said = linear_predictions(points, there)
            told.append((cohen_kappa_score(there, said), silhouette_score(points, there), near))
        assert (run.kappa, run.silhouette, run.neighbours) == pytest.approx(tuple(np.mean(told, 0)))


def test_ranks_and_their_intervals_are_those_of_resampled_items():
    """Item scores are means over items, so a resample weights them; each score ranks the runs in each resample."""
    one, other = TRUTH.copy(), TRUTH.copy()
    one[:3], other[60:63] = 1, 2
    runs = [one, other, SPOILT]
    found = trust(["a", "b", "spoilt"], runs, 3, SPACES)
    items = np.stack([_of_items(SPACES[0], labels, 3) for labels in runs])
    rng, ranks = np.random.default_rng(1), []
    for _ in range(400):
        drawn = items[:, rng.integers(180, size=180)].mean(1)
        ranks.append(rankdata(-drawn, axis=0).mean(1))
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0)
    assert [run.rank for run in found.runs] == pytest.approx(np.mean(ranks, 0), abs=0.1)
    assert [run.interval for run in found.runs] == pytest.approx(np.stack([low, high], 1), abs=0.34)
    assert low[0] < found.runs[1].rank < high[0], "chance decides which of both is first"
    assert not found.distinguishable


def test_one_score_that_says_otherwise_is_enough_not_to_recommend(monkeypatch):
    """The first run is ahead by two scores in every resample, and behind by the third."""
    ahead = np.array([[0.9, 0.9, 0.1], [0.5, 0.5, 0.5], [0.1, 0.1, 0.4]])
    runs = [TRUTH, SPOILT, np.where(np.arange(180) < 40, 0, TRUTH)]
    turns = iter(np.repeat(ahead[:, None], 180, 1))
    monkeypatch.setattr("coterie.evaluation.trust._of_items", lambda *_: next(turns))
    found = trust(["a", "b", "c"], runs, 3, SPACES)
    assert [run.rank for run in found.runs] == pytest.approx([5 / 3, 5 / 3, 8 / 3])
    turns = iter(np.repeat(np.array([[0.9, 0.9, 0.4], [0.5, 0.2, 0.5], [0.1, 0.5, 0.1]])[:, None], 180, 1))
    found = trust(["a", "b", "c"], runs, 3, SPACES)
    assert [run.rank for run in found.runs] == pytest.approx([4 / 3, 2, 8 / 3])
    assert found.runs[0].interval[1] < found.runs[1].interval[0]
    assert not found.distinguishable


def test_a_bound_is_not_rounded_down():
    """Agreement of 8 of 11 items bounds the accuracy by 86.36 %: "cannot be more than 86 %" would be too much said."""
    one, other = np.array([0] * 6 + [1] * 5), np.array([0] * 6 + [1] * 5)
    other[[0, 1, 6]] = 1 - other[[0, 1, 6]]
    found = trust(["a", "b"], [one, other], 2, [])
    assert found.bound == pytest.approx(19 / 22)
    assert found.sentences[0].startswith("These runs cannot be more than 87 % correct on average")
