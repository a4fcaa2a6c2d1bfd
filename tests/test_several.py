"""`Clusterer(runs=)`: several seeds in Python, as `coterie fit --runs` on the command line."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs

from coterie import Clusterer, pipeline, several
from coterie.evaluation.ensemble import combine
from coterie.prediction.results import ResultTable
from coterie.several import gather, seeds_from
from coterie.training.runfolder import Held
from coterie.types import InputError

QUICK = {"method": "ae", "epochs": 1, "calibrate": False}


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return make_blobs(60, n_features=6, centers=3, cluster_std=3, random_state=0)[0].astype(np.float32)


def test_the_medoid_is_the_answer(rows):
    model = Clusterer(3, random_state=5, runs=3, **QUICK).fit(rows)  # of which the second is the medoid
    assert model.runs_["runs"] == ["seed-5", "seed-6", "seed-7"]
    assert f"seed-{model.record_['seed']}" == model.runs_["medoid"]
    assert (model.predict(rows) == model.labels_).all()
    np.testing.assert_array_equal(model.predict_proba(rows).max(1), model.confidence_)
    assert (model.ensemble_.labels == model.labels_).all()
    assert set(model.ensemble_.heads) == {"ensemble", "mean", "single"}
    np.testing.assert_array_equal(model.ensemble_.heads["single"].argmax(1), model.labels_)
    # The medoid by itself is the very same run.
    alone = Clusterer(3, random_state=model.record_["seed"], **QUICK).fit(rows)
    np.testing.assert_array_equal(alone.predict_proba(rows), model.predict_proba(rows))
    np.testing.assert_array_equal(alone.embedding_, model.embedding_)


def test_merged_groups_are_merged_in_the_answer_of_all_runs(rows):
    model = Clusterer(4, random_state=5, runs=2, **QUICK).fit(rows)
    for pair in ([0, 3], [2, 1]):
        before = {name: p.copy() for name, p in model.ensemble_.heads.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of outsiders that moved
            model.merge_groups([pair])
        found = model.ensemble_
        assert (found.labels == model.labels_).all()
        np.testing.assert_array_equal(found.heads["single"], model.predict_proba(rows))
        np.testing.assert_array_equal(found.heads["mean"][:, pair[0]], before["mean"][:, pair].sum(1))
    assert not found.heads["ensemble"][:, [3, 1]].any()
    share = found.heads["mean"][np.arange(60), found.labels]
    np.testing.assert_allclose(found.confidence, share.clip(1 / 2), atol=1e-3)


def test_a_run_that_another_process_holds_for_a_while_keeps_its_name(rows, tmp_path, monkeypatch):
    held = []

    def run(source, settings, folder, **options):
        if settings.seed == 5 and not held:
            held.append(folder)
            raise Held("held")
        return pipeline.run(source, settings, folder, **options)

    monkeypatch.setattr(several, "run", run)
    monkeypatch.setattr(several, "PATIENCE", 0)
    model = Clusterer(3, random_state=5, runs=3, output=tmp_path / "runs", **QUICK).fit(rows)
    assert held == [tmp_path / "runs" / "seed-5"]
    assert f"seed-{model.record_['seed']}" == model.runs_["medoid"]


def test_the_confidence_is_the_mean_probability_of_the_medoids_group():
    """Groups stay those of the run most like the others; each run calls them by other numbers and is sure of others."""
    rng, truth = np.random.default_rng(1), np.arange(90) % 3
    heads = []
    for share, order in ((0.5, [0, 1, 2]), (0.9, [1, 2, 0]), (0.9, [2, 1, 0])):
        said = np.where(rng.random(90) < share, truth, rng.integers(3, size=90))
        p = rng.dirichlet(np.ones(3), 90) / 2 + np.eye(3)[said] / 2
        heads.append(p[:, np.argsort(order)].astype(np.float32))
    tables = [ResultTable([str(row) for row in range(90)], p.argmax(1), p.max(1), {"own": p}) for p in heads]
    found, matched = gather(["a", "b", "c"], tables, None), combine(heads)
    single = heads[found.medoid]
    assert found.medoid == matched.medoid != 0
    answer = found.ensemble.probabilities.numpy()
    labels = single.argmax(1)
    assert (answer.argmax(1) == labels).all()
    assert (matched.probabilities.argmax(1) != labels).any()
    share = matched.probabilities[np.arange(90), labels]
    np.testing.assert_allclose(answer.max(1), share.clip(1 / 3), atol=1e-3)
    np.testing.assert_allclose(found.ensemble.heads["mean"].numpy(), matched.probabilities, atol=1e-6)
    np.testing.assert_array_equal(found.ensemble.heads["single"].numpy(), single)
    said = found.as_json()
    assert (said["medoid"], said["recommended"]) == ("abc"[found.medoid],) * 2
    assert said["confidence"]["single"] == pytest.approx(single.max(1).mean())


def test_one_number_of_groups_is_found_for_all(rows):
    model = Clusterer("auto", "finch", random_state=0, runs=2, calibrate=False).fit(rows)
    assert model.ensemble_.k == model.model_.k


@pytest.mark.parametrize("runs", [0, -1, 101, 2.0, "3", True, None])
def test_a_number_of_runs_that_is_none_is_refused(rows, runs):
    with pytest.raises(InputError, match="runs is"):
        Clusterer(3).set_params(runs=runs).fit(rows)


def test_a_later_fit_forgets_the_runs(rows):
    model = Clusterer(3, "kmeans", random_state=0, runs=2, calibrate=False).fit(rows)
    assert clone(model).runs == 2
    model.set_params(runs=1).fit(rows)
    assert not hasattr(model, "runs_")
    assert not hasattr(model, "ensemble_")


def test_items_that_change_between_the_seeds_are_told(rows, tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", rows)
    whole = several.run

    def once(*given, **more):
        done = whole(*given, **more)
        np.save(tmp_path / "rows.npy", rows[:-3])
        return done

    monkeypatch.setattr(several, "run", once)
    with pytest.raises(InputError, match=r"rows has changed since the first of the 2 runs: fit them again\."):
        Clusterer(3, "kmeans", random_state=0, runs=2, calibrate=False).fit(tmp_path / "rows.npy")


@pytest.mark.parametrize("runs", [1, 2])
def test_a_fit_that_fails_leaves_the_one_before_whole(rows, runs):
    """As scikit-learn's estimators do; of several runs `runs_` and `ensemble_` were gone, beside their `labels_`."""
    model = Clusterer(3, "kmeans", random_state=0, runs=2, calibrate=False).fit(rows)
    before = {name: value for name, value in vars(model).items() if name.endswith("_")}
    assert {"labels_", "runs_", "ensemble_", "record_"} <= set(before)
    with pytest.raises(InputError):
        model.set_params(runs=runs, n_clusters=100).fit(rows)
    after = {name: value for name, value in vars(model).items() if name.endswith("_")}
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


@pytest.mark.parametrize("kept", [False, True])
def test_other_items_with_the_same_ids_are_told_before_they_are_fitted(rows, tmp_path, monkeypatch, kept):
    """The ids of an array are its rows: groups of other items were averaged with these, without a word."""
    np.save(tmp_path / "rows.npy", rows)
    fitted = []

    def once(*given, **more):
        done = pipeline.run(*given, **more)
        fitted.append(done)
        np.save(tmp_path / "rows.npy", rows[::-1].copy())
        return done

    monkeypatch.setattr(several, "run", once)
    model = Clusterer(3, "kmeans", random_state=0, runs=3, calibrate=False, output=tmp_path / "out" if kept else None)
    with pytest.raises(InputError, match="rows has changed since the first of the 3 runs") as refused:
        model.fit(tmp_path / "rows.npy")
    assert len(fitted) == 1
    assert ("new folder" in str(refused.value)) is kept


def test_seeds_follow_each_other():
    assert list(seeds_from(7, 3)) == [7, 8, 9]
    with pytest.raises(InputError, match="begin with a smaller one"):
        seeds_from(2**63 - 2, 3)
