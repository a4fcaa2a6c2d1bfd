"""What every method must keep when a calibration head is trained on top of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coterie import Clusterer, load
from coterie.calibration import keep_groups
from coterie.catalogue import method_class, method_names
from coterie.contract import Facts, calibrated, is_trained
from coterie.data import open_source
from coterie.pipeline import RunResult, run
from coterie.prediction.model import load_model
from coterie.prediction.results import read_result
from coterie.training.chain import chain_of
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Source
from helpers.small_runs import K, data_of, image_net, narrow_where_pretrained

RUNS = [(name, method_class(name).card.accepts[-1]) for name in method_names()]


@dataclass
class Fitted:
    name: str
    data: np.ndarray
    folder: Path
    result: RunResult


def settings_for(name: str, kind: str) -> RunSettings:
    trained = [stage for stage in chain_of(name, kind, None) if is_trained(method_class(stage))]
    overrides = {f"{stage}.epochs": 1 for stage in trained} | {"calibrate.epochs": 6}
    if name == "decnn":
        overrides["decnn.iterations"] = 6
    backbone = "mlp" if kind == "embeddings" else image_net(name) if trained else "auto"
    return RunSettings(n_clusters=K, method=name, backbone=backbone, overrides=overrides, device="cpu", calibrate=True)


@pytest.fixture(scope="module", params=RUNS, ids="-".join)
def fitted(
    request: pytest.FixtureRequest, digits: Source, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fitted]:
    name, kind = request.param
    data = data_of(kind, digits)
    folder = tmp_path_factory.mktemp(f"{name}-{kind}") / "run"
    with narrow_where_pretrained(name, kind):
        yield Fitted(name, data, folder, run(data, settings_for(name, kind), folder))
    shutil.rmtree(folder)  # there are hundreds


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
    loaded = load_model(fitted.folder)
    for model in (fitted.result.model, loaded):
        rows = np.random.default_rng(1).permutation(len(fitted.data))
        for part in (np.arange(len(fitted.data)), rows, np.array([7])):
            found = model.predict(open_source(fitted.data[part], like=model.spec))
            assert list(found.heads) == list(expected.heads)
            for name, p in found.heads.items():
                assert torch.equal(p, expected.heads[name][torch.from_numpy(part)]), name
    assert loaded.calibration == fitted.result.model.calibration


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


# The default


@pytest.mark.parametrize("name", method_names())
def test_every_method_ends_in_calibrated_confidences_unless_they_are_asked_not_to(name: str) -> None:
    kind = method_class(name).card.accepts[-1]
    facts = Facts(200, 3, kind, "cpu", side=8, dim=8)  # type: ignore[arg-type]
    plain = make_plan(RunSettings(n_clusters=3, method=name, calibrate=False), facts, "data")
    default = make_plan(RunSettings(n_clusters=3, method=name), facts, "data")
    assert default.calibrated
    assert plain.calibration is None
    assert plain.calibrated == calibrated(plain.method) == (name == "cdc")
    assert (default.calibration is None) == (name == "cdc")
    assert make_plan(RunSettings(n_clusters=3, method=name, calibrate=True), facts, "data").calibration is not None


@pytest.mark.parametrize("layout", ["single", "single-both"])
def test_cdc_without_its_calibration_head_is_calibrated_afterwards(layout: str) -> None:
    settings = RunSettings(n_clusters=3, overrides={"cdc.layout": layout})
    assert make_plan(settings, Facts(200, 3, "embeddings", "cpu", dim=8), "data").calibration is not None


def test_calibration_leaves_every_item_in_its_group(fitted: Fitted) -> None:
    own = replace(fitted.result.model, calibration=None).predict(fitted.result.source).probabilities.argmax(1)
    assert torch.equal(fitted.result.assignments.probabilities.argmax(1), own)
    embedding = fitted.result.assignments.embedding
    assert embedding is not None
    fitted.result.model.net.eval()
    with torch.no_grad():
        logits = next(iter(fitted.result.model.logits_of(embedding).values()))
    torch.testing.assert_close(logits.softmax(1), fitted.result.assignments.probabilities, atol=1e-5, rtol=1e-4)


def test_groups_that_neighbours_contradict_keep_their_items_at_half_the_confidence() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    kept = keep_groups(logits, torch.tensor([0, 0, 2]))
    assert kept.argmax(1).tolist() == [0, 0, 2]
    before, after = logits.softmax(1), kept.softmax(1)
    assert torch.equal(after[1], before[1])
    assert float(after[0, 0]) == pytest.approx(float(before[0, :2].mean()), rel=2e-3)
    torch.testing.assert_close(after[:, 1:].sum(1) + after[:, 0], torch.ones(3))
    assert float(after[0, 2]) == pytest.approx(float(before[0, 2]), rel=1e-4)


def test_groups_without_a_reason_are_not_believed() -> None:
    """Labels that fall out of the blue: the neighbours of an item are of all groups, and the record says so."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 40)).astype(np.float32)  # one cloud
    sure = Clusterer(4, "finch", random_state=0, calibrate=False).fit(x)
    model = Clusterer(4, "finch", random_state=0).fit(x)
    assert (model.labels_ == sure.labels_).all()
    assert not sure.record_["calibrated"]
    assert model.record_["calibrated"]
    assert model.model_.calibrated
    assert not sure.model_.calibrated
    assert list(model.result_.heads) == ["cal", "finch"]


@pytest.mark.usefixtures("narrow_autoencoders")
def test_a_number_of_groups_that_the_method_found_is_calibrated_too() -> None:
    rng = np.random.default_rng(0)
    x = (6 * rng.normal(size=(3, 8))[np.arange(300) % 3] + rng.normal(size=(300, 8))).astype(np.float32)
    plan = make_plan(RunSettings("auto", "rdc"), Facts(300, 0, "embeddings", "cpu", dim=8), "data")
    assert plan.calibration is not None
    assert plan.calibration_of(5).cells >= 20
    model = Clusterer(
        "auto", "rdc", random_state=0, settings={"acai.epochs": 12, "rdc.epochs": 2, "calibrate.epochs": 2}
    ).fit(x)
    assert next(iter(model.result_.heads)) == "cal"
    assert model.result_.heads["cal"].shape[1] == model.record_["n_clusters"]
    assert model.record_["calibration"]["epochs"] == 2


def test_a_run_that_was_not_calibrated_is_by_resuming_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = (3 * rng.normal(size=(K, 5))[np.arange(80) % K] + rng.normal(size=(80, 5))).astype(np.float32)
    before = RunSettings(K, "ae", epochs=1, device="cpu", calibrate=False)
    run(x, before, tmp_path / "run")
    assert not load_model(tmp_path / "run").calibrated
    found = run(x, replace(before, calibrate="auto"), tmp_path / "run", resume=True)
    assert load_model(tmp_path / "run").calibrated
    assert found.record["calibrated"]
