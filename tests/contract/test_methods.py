"""What every method must keep: it is found by its file, so a new one is tested here without a change."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coterie.catalogue import method_class, method_names, practical_settings
from coterie.contract import (
    Facts,
    Method,
    Trained,
    check,
    is_trained,
    name_of,
    optimisers_of,
    part_size_of,
    rates_of,
    setting_names,
    views_of,
)
from coterie.data import open_source
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.pipeline import RunResult, run
from coterie.prediction.model import load_model
from coterie.running.prepared import Watch
from coterie.running.preparing import prepare
from coterie.running.stages import train
from coterie.training.chain import chain_of
from coterie.training.coerce import coerce
from coterie.training.plan import RunSettings, make_plan, resolved
from coterie.types import InputError, ItemSpec, Kind, Source
from coterie.views.recipes import RECIPES
from helpers.batches import batch_of_views
from helpers.small_runs import RUNS, UNTRAINED, K, data_of, image_net, narrow_where_pretrained, settings_for

ROOT = Path(__file__).parents[2]
METHODS = method_names()


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Files, settings, card


def test_there_are_methods() -> None:
    assert {"cdc", "moco"} <= set(METHODS)


def test_a_method_has_its_tests_and_its_page(name: str) -> None:
    assert (ROOT / "tests" / "methods" / f"test_{name}.py").is_file()
    page = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    card = method_class(name).card
    assert card.title in page
    assert card.url in page
    assert [setting for setting in setting_names(method_class(name)) if f"`{setting}`" not in page] == []


def test_settings_are_a_frozen_dataclass_with_defaults(name: str) -> None:
    kind = method_class(name)
    assert is_dataclass(kind)
    assert all(f.default is not dataclasses.MISSING for f in fields(kind))
    method: Any = kind()
    assert name_of(method) == name
    assert isinstance(method, Method)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(method, setting_names(kind)[0], 1)
    assert coerce(kind, resolved(method), name) == method  # what run.yaml holds can be read back


def test_the_card_is_complete(name: str) -> None:
    card = method_class(name).card
    assert all(len(text) > 2 for text in (card.title, card.paper, card.family))
    assert 1950 < card.year < 2100
    assert card.url.startswith("https://")
    asked = views_of(method_class(name)())
    assert bool(asked) == is_trained(method_class(name))
    assert {view.recipe for view in asked.values() if isinstance(view.recipe, str)} <= set(RECIPES)
    assert all(len(text) > 2 for texts in card.logs.values() for text in texts)
    known = setting_names(method_class(name))
    assert not set(card.renamed) & set(known)
    assert {new for new in card.renamed.values() if new is not None} <= set(known)
    assert card.starts_from is None or card.starts_from in METHODS
    assert card.accepts
    assert set(card.accepts) <= {"images", "embeddings"}


def test_every_published_row_is_made_of_known_settings(name: str) -> None:
    facts = Facts(n=200_000, k=10, kind=method_class(name).card.accepts[0], device="cuda", side=32, dim=64)
    assert not {"practical", "paper", "text"} & set(method_class(name).card.presets)  # rows are of data sets
    for row in method_class(name).card.presets:
        settings = RunSettings(n_clusters=10, method=name, preset=f"paper:{row}")
        assert (
            make_plan(settings, facts, "photos").stages
            == make_plan(dataclasses.replace(settings, preset="paper"), facts, row).stages
        )
    text = method_class(name).card.text
    for preset in [] if text is None else ["text", *(f"text:{row}" for row in text.rows)]:
        assert make_plan(RunSettings(n_clusters=10, method=name, preset=preset), facts, "photos").stages


def test_the_practical_preset_can_work_on_data_of_any_size(name: str) -> None:
    numbers = itertools.product([40, 41, 64, 150, 1000, 1797, 10_000, 100_000], [2, 3, 10, 20])
    for (n, k), (side, dim) in zip(numbers, itertools.cycle([(8, 2), (32, 64), (224, 768)]), strict=False):
        for kind in method_class(name).card.accepts:
            size = {"side": side} if kind == "images" else {"dim": dim}
            facts = Facts(n, k, kind, "cpu", **size)
            method = coerce(method_class(name), practical_settings(name, facts), name)
            check(method, facts)
            if is_trained(method):
                assert 2 <= part_size_of(method, n) <= method.batch_size <= n, facts
                assert method.epochs >= 1, facts
            plan = make_plan(RunSettings(n_clusters=k, method=name), facts, "photos")
            assert plan.method == method, facts
            assert plan.notes == [], facts  # nothing had to be cut down


def groups_of(method: Trained) -> Iterator[dict[str, Any]]:
    """The groups of parameters of all optimisers, on a small net."""
    kind = method.card.accepts[0]
    spec = ItemSpec("images", 1, 8, 8) if kind == "images" else ItemSpec("embeddings", dim=12)
    backbone = image_net(name_of(method)) if kind == "images" else "mlp"
    net = Net(build_backbone(backbone, spec), spec, torch.zeros(1), torch.ones(1), half=False)
    net.add(method.heads(net, K))
    for optimiser in optimisers_of(method, net).values():
        yield from optimiser.param_groups


def test_the_learning_rate_factor_lies_between_zero_and_one(name: str) -> None:
    method = method_class(name)()
    if not is_trained(method):
        pytest.skip("it takes no steps")
    groups = list(groups_of(method))
    factors = torch.tensor([rates_of(method, step / 200, groups) for step in range(201)])
    assert factors.min() >= 0
    torch.testing.assert_close(factors.amax(0), torch.ones(len(groups)), atol=0.02, rtol=0)


def test_an_unknown_method_is_answered_with_the_nearest_known(name: str) -> None:
    with pytest.raises(InputError, match=f"did you mean '{name}'"):
        method_class(f"{name}_")


def test_a_batch_has_no_labels() -> None:
    views = {"clean": torch.zeros(3, 2)}
    batch = batch_of_views(views)
    wrong = ("label", "target", "truth", "classes")
    assert not [attribute for attribute in dir(batch) if any(word in attribute for word in wrong)]
    for attribute in ("labels", "y", "target"):
        with pytest.raises(AttributeError, match=attribute):
            getattr(batch, attribute)
    assert torch.equal(batch.clean, views["clean"])


# One epoch on small data


@dataclass
class Fitted:
    name: str
    kind: Kind
    data: np.ndarray
    folder: Path
    result: RunResult

    def source(self, rows: Any = slice(None)) -> Source:
        return open_source(self.data[rows], like=self.result.model.spec)

    def predict(self, rows: Any = slice(None)) -> torch.Tensor:
        return self.result.model.predict(self.source(rows)).probabilities


@pytest.fixture(scope="module", params=RUNS, ids="-".join)
def fitted(
    request: pytest.FixtureRequest, digits: Source, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fitted]:
    name, kind = request.param
    data = data_of(kind, digits)
    folder = tmp_path_factory.mktemp(f"{name}-{kind}") / "run"
    with narrow_where_pretrained(name, kind):
        yield Fitted(name, kind, data, folder, run(data, settings_for(name, kind), folder))
    shutil.rmtree(folder)  # there are hundreds


def test_every_head_gives_probabilities(fitted: Fitted) -> None:
    assignments = fitted.result.assignments
    assert assignments.probabilities is next(iter(assignments.heads.values()))
    for p in assignments.heads.values():
        assert p.shape == (len(fitted.data), K)
        assert p.dtype == torch.float32
        assert bool((p >= 0).all())
        torch.testing.assert_close(p.sum(1), torch.ones(len(p)), atol=1e-5, rtol=0)


def test_training_leaves_everything_finite(fitted: Fitted) -> None:
    for key, value in fitted.result.model.net.state_dict().items():
        assert bool(torch.isfinite(value.float()).all()), key
    for record in fitted.result.history.records:
        assert np.isfinite([*record.losses.values(), *record.health.values()]).all()


def test_training_trains(fitted: Fitted) -> None:
    stages = chain_of(fitted.name, fitted.kind, None)
    if fitted.name in UNTRAINED:
        assert fitted.result.history.records == []
        return
    assert list(dict.fromkeys(r.stage for r in fitted.result.history.records)) == stages
    assert all(r.losses for r in fitted.result.history.records)
    untrained = dataclasses.replace(
        settings_for(fitted.name, fitted.kind), overrides={f"{stage}.epochs": 0 for stage in stages}
    )
    # Not by a whole run, which would refuse the answer of random weights when it is a single group.
    prepared = prepare(fitted.data, untrained, None, resume=False, watch=Watch())
    begun = dict(train(prepared, Watch()).named_parameters())
    net, method = fitted.result.model.net, fitted.result.model.method
    assert isinstance(method, Trained)
    groups = [group for one in optimisers_of(method, net).values() for group in one.param_groups]
    moved = {id(parameter) for group in groups for parameter in group["params"]}
    named = {name: value for name, value in net.named_parameters() if id(value) in moved}
    # The backbone, or, of a method that leaves it as it is, what is trained on its features.
    checked = {name: value for name, value in named.items() if name.startswith("backbone.")} or named
    assert any(not torch.equal(begun[name], value) for name, value in checked.items())


def test_the_same_seed_gives_the_same_result_bit_for_bit(fitted: Fitted) -> None:
    if fitted.name not in UNTRAINED and FIRST_AFTER.get(before_last(fitted.name, fitted.kind)) != fitted.name:
        pytest.skip("its last stage is trained again where a run is stopped and resumed, those before with another")
    again = run(fitted.data, settings_for(fitted.name, fitted.kind))
    assert torch.equal(again.assignments.probabilities, fitted.result.assignments.probabilities)


def before_last(name: str, kind: str) -> tuple[str, ...]:
    """The stages before a method's own, and what they are trained on; nothing where there are none."""
    before = chain_of(name, kind, None)[:-1]
    return (*before, kind) if before else ()


# The first method after these stages, of those that begin with some.
FIRST_AFTER = {before_last(name, kind): name for name, kind in reversed(RUNS) if before_last(name, kind)}


class Stop:
    """Presses Ctrl-C in a stage: of one epoch in its middle, of two after the first batch of the second."""

    def __init__(self, stage: str) -> None:
        self.stage, self.at, self.done, self.pressed = stage, -1, 0, False

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        wanted = steps + 1 if epochs > 1 else max(1, steps // 2)
        self.at, self.done = (wanted if stage == self.stage else -1), done

    def step(self, losses: dict[str, float] | None) -> None:
        self.done += 1
        if self.done == self.at:
            self.pressed = True
            raise KeyboardInterrupt

    def epoch(self, record: object) -> None: ...


def before_its_last_stage(fitted: Fitted, settings: RunSettings, folder: Path) -> None:
    """The run in `folder` with these settings of its own, as it was when its last stage had not begun."""
    ended = shutil.ignore_patterns("model", "result.parquet", f"{fitted.name}.done.safetensors")
    shutil.copytree(fitted.folder, folder, ignore=ended)
    record = (folder / "run.yaml").read_text(encoding="utf-8")
    own, count = re.subn(r"(checkpoint_seconds:) .*", rf"\1 {settings.checkpoint_seconds}", record)
    assert count == 1
    (folder / "run.yaml").write_text(own, encoding="utf-8")


def test_a_run_that_is_stopped_and_resumed_is_the_run_that_was_not(fitted: Fitted, tmp_path: Path) -> None:
    if fitted.name in UNTRAINED:
        pytest.skip("it takes no steps")
    settings = dataclasses.replace(settings_for(fitted.name, fitted.kind), checkpoint_seconds=0.0)
    stop = Stop(fitted.name)
    before_its_last_stage(fitted, settings, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run(fitted.data, settings, tmp_path / "run", resume=True, watch=Watch(progress=stop))
    assert stop.pressed
    resumed = run(fitted.data, settings, tmp_path / "run", resume=True)
    assert torch.equal(resumed.assignments.probabilities, fitted.result.assignments.probabilities)
    expected = fitted.result.model.net.state_dict()
    for key, value in resumed.model.net.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_predicting_the_training_data_gives_the_result_bit_for_bit(fitted: Fitted) -> None:
    assert torch.equal(fitted.predict(), fitted.result.assignments.probabilities)


def test_order_and_neighbours_do_not_change_a_prediction(fitted: Fitted) -> None:
    expected = fitted.result.assignments.probabilities
    shuffled = np.random.default_rng(1).permutation(len(fitted.data))
    for rows in (shuffled, np.array([7]), np.array([3, 3, 50]), np.arange(10, 60)):
        assert torch.equal(fitted.predict(rows), expected[torch.from_numpy(rows)])
    many = np.tile(np.arange(len(fitted.data)), 4)  # more than one chunk
    assert torch.equal(fitted.predict(many), expected[torch.from_numpy(many)])


def test_every_out_of_distribution_score_that_a_model_can_give_is_a_number_for_every_item(fitted: Fitted) -> None:
    model = fitted.result.model
    fitted_items = model.scores_of_fitted()
    found = model.predict(fitted.source(), ood_scores=list(fitted_items)).ood_scores
    for name, scores in found.items():
        assert scores.shape == (len(fitted.data),)
        assert bool(torch.isfinite(scores).all()), name
        assert bool(torch.isfinite(fitted_items[name]).all()), name


def test_logits_are_what_the_answers_are_the_softmax_of(fitted: Fitted) -> None:
    model, features = fitted.result.model, fitted.result.assignments.embedding
    assert features is not None
    model.net.eval()
    with torch.no_grad():
        heads, logits = model.heads_of(features), model.logits_of(features)
    assert list(logits) == (list(heads) if model.gives_logits else [])
    for head, z in logits.items():
        torch.testing.assert_close(z.softmax(1), heads[head])


def test_a_saved_model_predicts_bit_for_bit_what_it_did(fitted: Fitted, tmp_path: Path) -> None:
    again = load_model(fitted.folder)
    expected = fitted.result.assignments
    found = again.predict(fitted.source())
    assert list(found.heads) == list(expected.heads)
    for head, p in found.heads.items():
        assert torch.equal(p, expected.heads[head]), head
    again.save(tmp_path / "copy")
    assert torch.equal(load_model(tmp_path / "copy").predict(fitted.source()).probabilities, expected.probabilities)
    assert again.method == fitted.result.model.method


def test_a_model_folder_holds_weights_and_a_manifest_and_no_pickle(fitted: Fitted) -> None:
    assert {file.name for file in (fitted.folder / "model").iterdir()} == {
        "weights.safetensors",
        "manifest.json",
        "ood.safetensors",
    }
