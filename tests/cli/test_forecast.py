"""How long a run will take is said before it begins, and changes nothing of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

from coterie.catalogue import method_class, method_names
from coterie.contract import is_trained
from coterie.running import forecast
from coterie.running.beginning import epochs_of
from coterie.running.forecast import Forecast, StageTime, roughly
from coterie.running.prepared import Watch
from coterie.running.preparing import prepare
from coterie.training.plan import RunSettings
from helpers.small_runs import NARROW, image_net

VECTORS = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)


@pytest.fixture
def always(monkeypatch):
    """Even the shortest run is timed, and its time is said."""
    monkeypatch.setattr(forecast, "SHORT_STEPS", 0)
    monkeypatch.setattr("coterie.pipeline.WORTH_SAYING", 0.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "less than 10 s"),
        (37, "40 s"),
        (58, "1 min"),
        (130, "2 min"),
        (3300, "55 min"),
        (4300, "1 h 10 min"),
        (90000, "25 h"),
    ],
)
def test_an_estimate_has_few_digits(seconds, words):
    assert roughly(seconds) == words


def test_the_sentence_names_each_stage_and_its_epochs():
    stages = [StageTime("moco", 200, 3290.0), StageTime("cdc", 1, 890.0), StageTime("finch", 0, 0.0)]
    said = str(Forecast(stages, 20.0))
    assert said == "About 1 h 10 min on this machine: moco 55 min (200 epochs), cdc 15 min (1 epoch)."


def test_embedding_the_pictures_is_part_of_the_time():
    said = str(Forecast([StageTime("cdc", 30, 20.0)], 2.0, embedding=5000.0))
    assert said == "About 1 h 20 min on this machine: embedding 1 h 20 min, cdc 20 s (30 epochs)."


@pytest.mark.parametrize("options", [("--set", "moco.epochs=5000"), ("--epochs", 3000), ("--method", "dec")])
def test_a_dry_run_tells_it_first_and_writes_nothing(coterie, images, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ("fit", images, "-k", 10, "--backbone", "small-4", "--device", "cpu", "-o", "run", "--dry-run", *options)
    answer = coterie(*few)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("estimate: ")
    plan = yaml.safe_load(answer.out)
    stages = [(stage["name"], stage["epochs"]) for stage in plan["stages"]]
    assert all(f"{name} " in plan["estimate"] and f"({epochs:,} epochs)" in plan["estimate"] for name, epochs in stages)
    answer = coterie(*few, "--json")
    assert next(iter(answer.object)) == "estimate_seconds"
    each = [stage["estimate_seconds"] for stage in answer.object["stages"]]
    assert len(each) == 2
    assert min(each) > 0
    assert answer.object["estimate_seconds"] >= sum(each) - 0.2
    assert list(tmp_path.iterdir()) == []


def test_more_epochs_take_longer(coterie, vectors):
    times = [
        coterie("fit", vectors, "-k", 3, "--epochs", epochs, "--dry-run", "--json").object["estimate_seconds"]
        for epochs in (1, 100_000)
    ]
    assert times[1] > 10 * times[0]


@pytest.mark.parametrize("method", method_names())
@pytest.mark.parametrize("kind", ["images", "embeddings"])
def test_every_method_is_timed_and_the_random_state_stays(method, kind, digits, monkeypatch):
    if kind not in method_class(method).card.accepts or (kind == "images" and not is_trained(method_class(method))):
        return
    monkeypatch.setattr("coterie.networks.autoencoder.WIDTHS", NARROW)  # how long a step takes is of no account here
    data, backbone = (digits.items.array, image_net(method)) if kind == "images" else (VECTORS, "auto")
    settings = RunSettings(n_clusters=3, method=method, backbone=backbone, device="cpu")
    prepared = prepare(data, settings, None, resume=False, watch=Watch())
    before = torch.get_rng_state()
    found = forecast.forecast(prepared)
    assert found is not None
    assert [stage.epochs for stage in found.stages] == [epochs_of(stage) for stage in prepared.plan.stages]
    assert all(stage.seconds > 0 for stage in found.stages if stage.epochs)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("steps", "short"), [(10, True), (5000, False)])
def test_an_epoch_of_a_set_number_of_steps_is_as_long_as_these(steps, short):
    settings = RunSettings(n_clusters=3, method="turtle", overrides={"turtle.steps": steps, "turtle.epochs": 1})
    assert forecast.is_short(prepare(VECTORS, settings, None, resume=False, watch=Watch())) == short


@pytest.mark.parametrize("method", ["cdc", "idec"])
def test_results_are_the_same_bit_for_bit(coterie, vectors, images, tmp_path, always, method):
    fit = ("fit", images if method == "idec" else vectors, "-k", 3, "--method", method, "--epochs", 2, "--json")
    if method == "idec":
        fit = (*fit, "--no-calibrate", "--backbone", "small-4", "--set", "ae.epochs=2")
    told, quiet = coterie(*fit, "-o", tmp_path / "told"), coterie(*fit, "-o", tmp_path / "quiet", "-q")
    assert (told.code, quiet.code) == (0, 0)
    assert "on this machine: " in told.err
    assert "(2 epochs)" in told.err
    assert quiet.err == ""
    first, second = (sorted(p.relative_to(r) for p in r.rglob("*")) for r in (tmp_path / "told", tmp_path / "quiet"))
    assert first == second
    parts = [path for path in first if path.suffix in (".parquet", ".safetensors")]
    assert len(parts) >= 2
    for path in parts:
        assert (tmp_path / "told" / path).read_bytes() == (tmp_path / "quiet" / path).read_bytes(), path


def test_what_goes_wrong_in_the_estimate_does_not_stop_the_run(coterie, vectors, tmp_path, always, monkeypatch):
    def fails(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(forecast, "build_net", fails)
    answer = coterie("fit", vectors, "-k", 3, "--epochs", 1, "-o", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    assert "on this machine" not in answer.err
    assert coterie("fit", vectors, "-k", 3, "--dry-run", "--json").object["estimate_seconds"] is None


def test_a_short_run_is_not_timed(coterie, vectors, tmp_path, monkeypatch):
    monkeypatch.setattr("coterie.pipeline.WORTH_SAYING", 0.0)
    answer = coterie("fit", vectors, "-k", 3, "--epochs", 1, "-o", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    assert "on this machine" not in answer.err


def test_stages_that_are_done_take_no_more_time(coterie, images, quick, tmp_path):
    fit = ("fit", images, "-k", 10, "-o", tmp_path / "run", *quick)
    assert coterie(*fit).code == 0
    answer = coterie(*fit, "--resume", "--dry-run", "--json")
    assert answer.code == 0, answer.err
    assert [stage["estimate_seconds"] for stage in answer.object["stages"]] == [0.0, 0.0]
