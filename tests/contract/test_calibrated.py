"""What every method must keep when a calibration head is trained on top of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coterie import Clusterer, load
from coterie.data import open_source
from coterie.methods.contract import method_class, method_names
from coterie.pipeline import RunResult, run
from coterie.prediction.model import load_model
from coterie.prediction.results import read_result
from coterie.training.plan import RunSettings, chain_of
from coterie.types import Source
from helpers.small_runs import K, data_of

RUNS = [(name, method_class(name).card.accepts[-1]) for name in method_names()]


@dataclass
class Fitted:
    name: str
    data: np.ndarray
    folder: Path
    result: RunResult


def settings_for(name: str, kind: str) -> RunSettings:
    trained = [stage for stage in chain_of(name, kind, None) if method_class(stage)().epochs]
    overrides = {f"{stage}.epochs": 1 for stage in trained} | {"calibrate.epochs": 20}
    backbone = "mlp" if kind == "embeddings" else "small-4" if trained else "auto"
    return RunSettings(n_clusters=K, method=name, backbone=backbone, overrides=overrides, device="cpu", calibrate=True)


@pytest.fixture(scope="module", params=RUNS, ids="-".join)
def fitted(request: pytest.FixtureRequest, digits: Source, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    name, kind = request.param
    data = data_of(kind, digits)
    folder = tmp_path_factory.mktemp(f"{name}-{kind}") / "run"
    return Fitted(name, data, folder, run(data, settings_for(name, kind), folder))


def test_the_calibrated_head_answers_and_the_methods_own_stay_as_they_were(fitted: Fitted) -> None:
    found, source = fitted.result.assignments, fitted.result.source
    own = replace(fitted.result.model, calibration=None).predict(source)
    assert list(found.heads) == ["cal", *("raw" if name == "cal" else name for name in own.heads)]
    assert found.probabilities is found.heads["cal"]
    for name, p in own.heads.items():
        assert torch.equal(found.heads["raw" if name == "cal" else name], p)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(len(fitted.data)), atol=1e-5, rtol=0)
    assert bool((found.probabilities >= 0).all())


def test_predictions_of_the_model_and_of_a_loaded_one_are_those_of_the_run_bit_for_bit(fitted: Fitted) -> None:
    expected = fitted.result.assignments
    for model in (fitted.result.model, load_model(fitted.folder)):
        rows = np.random.default_rng(1).permutation(len(fitted.data))
        for part in (np.arange(len(fitted.data)), rows, np.array([7])):
            found = model.predict(open_source(fitted.data[part], like=model.spec))
            assert list(found.heads) == list(expected.heads)
            for name, p in found.heads.items():
                assert torch.equal(p, expected.heads[name][torch.from_numpy(part)]), name
    assert load_model(fitted.folder).calibration == fitted.result.model.calibration


def test_the_result_table_and_the_estimator_say_the_same(fitted: Fitted) -> None:
    table, estimator = read_result(fitted.folder / "result.parquet"), load(fitted.folder)
    p = fitted.result.assignments.probabilities.numpy()
    assert np.array_equal(table.heads["cal"], p)
    assert np.array_equal(table.labels, p.argmax(1))
    assert np.array_equal(estimator.predict(fitted.data), estimator.labels_)
    assert np.array_equal(estimator.predict_proba(fitted.data).argmax(1), estimator.labels_)
    assert np.array_equal(estimator.labels_, p.argmax(1))


def test_clusterer_takes_it_as_a_parameter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = (3 * rng.normal(size=(K, 5))[np.arange(80) % K] + rng.normal(size=(80, 5))).astype(np.float32)
    model = Clusterer(K, random_state=0, epochs=2, calibrate=True, settings={"calibrate.cells": 20}).fit(x)
    assert list(model.result_.heads) == ["cal", "raw", "clu"]
    assert (model.predict(x) == model.labels_).all()
    assert (model.predict_proba(x).max(1) == model.confidence_).all()
    assert (load(model.save(tmp_path / "saved")).predict_proba(x) == model.predict_proba(x)).all()
