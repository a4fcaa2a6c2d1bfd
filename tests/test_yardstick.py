from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coterie import supervised
from coterie.catalogue import method_names
from coterie.cli import main
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.engine import Stage, train_stage
from coterie.training.plan import RunSettings
from coterie.types import InputError
from coterie.yardstick import NAME, Settings, Supervised
from helpers.batches import batch_of_views
from helpers.encoder_weights import random_weights
from helpers.two_views import DIM, net_of

SHORT = {"epochs": 20, "batch_size": 16, "hidden": 16}


def groups(each: int = 20) -> tuple[np.ndarray, list[str]]:
    """Three groups that lie apart, with names."""
    noise = np.random.default_rng(0).normal(size=(3 * each, 8)).astype(np.float32)
    centres = 6 * np.eye(3, 8, dtype=np.float32)
    return np.repeat(centres, each, axis=0) + noise, [name for name in ("owl", "cat", "elk") for _ in range(each)]


def test_it_learns_the_classes_and_is_scored_on_items_that_it_was_not_taught() -> None:
    x, names = groups()
    found = supervised(x, names, settings=SHORT)
    assert found.classes == ["cat", "elk", "owl"]
    assert len(found.rows) == 12
    assert found.labels_used == 48
    assert [found.classes[code] for code in found.labels] == [names[row] for row in found.rows]
    assert found.accuracy == 1.0
    metrics = found.metrics()
    assert metrics["acc"] == 1.0
    assert metrics["labels_used"] == 48


def test_no_label_of_a_scored_item_reaches_the_training() -> None:
    x, names = groups()
    first = supervised(x, names, settings=SHORT)
    others = list(names)
    for row in first.rows:
        others[row] = {"owl": "cat", "cat": "elk", "elk": "owl"}[names[row]]
    again = supervised(x, others, settings=SHORT)
    assert np.array_equal(first.rows, again.rows)
    assert np.array_equal(first.probabilities, again.probabilities)
    assert first.accuracy > again.accuracy


def test_items_without_a_label_are_neither_taught_nor_scored() -> None:
    x, names = groups()
    given: list[Any] = list(names)
    for row in (0, 7, 30):
        given[row] = None
    found = supervised(x, given, settings=SHORT)
    assert found.labels_used + len(found.rows) == 57
    assert not {0, 7, 30} & set(found.rows.tolist())


def test_accuracy_needs_no_matching_and_is_never_above_the_matched_one() -> None:
    x, names = groups()
    shuffled = np.random.default_rng(1).permutation(names).tolist()
    found = supervised(x, shuffled, settings={**SHORT, "epochs": 1})
    assert found.accuracy <= found.metrics()["acc"]


@pytest.mark.parametrize("value", [1e6, 1e30])
def test_a_row_far_outside_is_named_and_sets_no_scale(value: float) -> None:
    x, names = groups()
    x[7] = value
    found = supervised(x, names, settings=SHORT)
    assert "row 7" in found.notes[0]
    usual = found.rows != 7
    assert (found.probabilities.argmax(1) == found.labels)[usual].all()


def test_a_second_source_is_scored_by_the_names_of_its_classes() -> None:
    x, names = groups()
    keep = [row for row in range(60) if row % 5]
    rest = [row for row in range(60) if not row % 5]
    rest_names = [names[row] for row in rest]
    rest_names[0] = "bat"  # was never taught
    found = supervised(x[keep], [names[row] for row in keep], test=x[rest], test_labels=rest_names, settings=SHORT)
    assert found.rows.tolist() == list(range(1, 12))
    assert found.labels_used == 48
    assert found.accuracy == 1.0


def test_a_second_source_that_cannot_be_scored_is_refused_before_training() -> None:
    class Untouched:
        def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
            pytest.fail("training began")

        def step(self, losses: object) -> None: ...

        def epoch(self, record: object) -> None: ...

    x, names = groups()
    for labels, match in ((["bat"] * 60, "No item"), (["owl"], "1 labels for 60 items"), (None, "carries no labels")):
        with pytest.raises(InputError, match=match):
            supervised(x, names, test=x, test_labels=labels, settings=SHORT, progress=Untouched())


def test_nothing_held_out_scores_what_was_taught_and_says_so() -> None:
    x, names = groups()
    found = supervised(x, names, held_out=0.0, settings={**SHORT, "epochs": 1})
    assert not found.held_out
    assert found.rows.tolist() == list(range(60))


def test_it_goes_on_from_the_backbone_of_a_run(tmp_path: Path) -> None:
    x, names = groups()
    run(x, RunSettings(3, "ae", overrides={"ae.epochs": 1}, device="cpu", calibrate=False), tmp_path / "run")
    still = {**SHORT, "epochs": 1, "learning_rate": 1e-12}
    fresh = supervised(x, names, settings=still)
    found = supervised(x, names, init=tmp_path / "run", settings=still)
    assert found.backbone != fresh.backbone
    with pytest.raises(InputError, match=r"brings its own backbone, 'ae.*': leave backbone=.small-16. out"):
        supervised(x, names, init=tmp_path / "run", backbone="small-16", settings=still)
    assert Settings().learning_rate == 1e-3
    assert supervised(x, names, init=tmp_path / "run", settings={"epochs": 1}).settings.learning_rate == 1e-4


def test_it_scales_items_as_the_run_did_that_it_goes_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, names = groups()
    overrides = {"ae.epochs": 1, "views.row_norm": "z-score"}
    run(x, RunSettings(3, "ae", overrides=overrides, device="cpu", calibrate=False), tmp_path / "run")
    scales = []

    def look(net: Net, stage: Stage) -> None:
        scales.append((net.row_norm, stage.views.row_norm))
        train_stage(net, stage)

    monkeypatch.setattr("coterie.yardstick.train_stage", look)
    supervised(x, names, init=tmp_path / "run", settings={**SHORT, "epochs": 1})
    assert scales == [("z-score", "z-score")]


def test_it_reads_pictures_in_the_size_of_the_run_that_it_goes_on_from(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (30, 20, 20), dtype=np.uint8)
    settings = RunSettings(3, "ae", overrides={"ae.epochs": 1}, device="cpu", calibrate=False, image_size=16)
    run(pictures, settings, tmp_path / "run")
    names, short = ["a", "b"] * 15, {**SHORT, "epochs": 1}
    found = supervised(pictures, names, init=tmp_path / "run", test=pictures, test_labels=names, settings=short)
    assert found.probabilities.shape == (30, 2)
    assert any("16x16" in note for note in found.notes)
    with pytest.raises(InputError, match=r"image_size is 12, but .* was trained on images of 16x16 pixels"):
        supervised(pictures, names, init=tmp_path / "run", image_size=12, settings=short)


def test_pictures_are_brought_to_the_size_that_is_asked_for() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (30, 20, 20), dtype=np.uint8)
    names, short = ["a", "b"] * 15, {**SHORT, "epochs": 1}
    found = supervised(pictures, names, image_size=8, test=pictures, test_labels=names, settings=short)
    assert sum("8x8" in note for note in found.notes) == 2
    x, given = groups()
    assert "Without effect on embeddings: image_size." in supervised(x, given, image_size=8, settings=short).notes


def test_it_reads_pictures_through_the_encoder_of_the_run_that_it_goes_on_from(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 20, 20, 3), dtype=np.uint8)
    weights = str(random_weights(tmp_path, "test_vit"))
    settings = RunSettings(3, "kmeans", encoder="test_vit", weights=weights, device="cpu", calibrate=False)
    run(pictures, settings, tmp_path / "run")
    found = supervised(pictures, ["a", "b"] * 6, init=tmp_path / "run", held_out=0, settings={**SHORT, "epochs": 1})
    assert (found.backbone, found.probabilities.shape) == ("identity", (12, 2))


def test_the_loss_of_a_random_net_is_that_of_guessing() -> None:
    labels = torch.arange(300) % 3
    method = Supervised(Settings(hidden=64), labels)
    net = net_of(method)
    views = {"strong": torch.randn(300, DIM, generator=torch.Generator().manual_seed(0))}
    batch = batch_of_views(views)
    (losses,) = method.step(net, batch)
    assert isinstance(losses, dict)
    assert losses["cross_entropy"].item() == pytest.approx(math.log(3), rel=0.2)


def test_it_is_no_method_that_could_stand_among_those_without_labels() -> None:
    assert NAME not in method_names()


@pytest.mark.parametrize(
    ("labels", "more", "match"),
    [
        (None, {}, "carries no labels"),
        (["a"] * 60, {}, "fewer than two classes"),
        (["a", "b"], {}, "2 labels for 60 items"),
        (None, {"held_out": 1.0}, "held_out is 1.0|carries no labels"),
        (["a", "b"] * 30, {"held_out": 1.5}, "held_out is 1.5"),
        (["a", "b"] * 30, {"held_out": 0.001}, "none on one side"),
        (["a", "b"] * 30, {"settings": {"epoch": 3}}, "epoch"),
        (["a", "b"] * 30, {"held_out": "some"}, "held_out is 'some': it takes a number from 0 to 1"),
        (["a", "b"] * 30, {"held_out": True}, "held_out is True"),
        (["a", "b"] * 30, {"init": 3}, "init is 3: it takes a path"),
        (["a", "b"] * 30, {"image_size": 3}, "image_size is 3: it takes a whole number from 4"),
        (["a", "b"] * 30, {"backbone": None}, "backbone is None: it takes a text"),
        (["a", "b"] * 30, {"settings": [1]}, r"settings are \[1\]: they take a dict"),
        (["a", "b"] * 30, {"test_labels": ["a"] * 60}, "test_labels are the labels of test, which was not given"),
        (["a", "b"] * 30, {"test": np.zeros((4, 3), np.float32), "held_out": 0.2}, "leave one of them out"),
        (["a", "b"] * 30, {"progress": print}, "progress is .*: it takes an object with begin, step and epoch"),
        (3, {}, "The labels are 3: give one for each item"),
        ([["a", "b"]] * 60, {}, "The labels are .*: give one for each item"),
        (np.ma.masked_array(np.arange(60) % 3, np.arange(60) == 7), {}, "labels has masked values"),
        (["a", "b"] * 30, {"test": np.zeros((4, 3), np.float32), "test_labels": ["a"] * 4}, "3"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_bad_input_gets_one_sentence(labels: Any, more: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        supervised(groups()[0], labels, **more)


def test_the_command_needs_to_be_told_its_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["supervised", "digits"]) == 2
    assert "says which with --labels" in capsys.readouterr().err.replace("say which", "says which")
    assert main(["supervised", "digits", "--labels", "source", "--test-labels", "x.csv"]) == 2
    assert "give it with --test" in capsys.readouterr().err


def test_the_command_prints_what_it_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x, names = groups()
    np.save("x.npy", x)
    Path("names.json").write_text(json.dumps(dict(enumerate(names))))
    words = ["supervised", "x.npy", "--labels", "names.json", "--epochs", "2", "-q", "--device", "cpu"]
    words += ["--image-size", "8"]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["labels_used"], answer["scored"], answer["held_out"], answer["epochs"]) == (48, 12, True, 2)
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "no result of clustering" in printed
    assert "Without effect on embeddings: --image-size." in printed
