"""FINCH as a method: the partition itself is tested in tests/objectives/test_finch.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from coterie import Clusterer, load
from coterie.algorithms.finch import exactly, hierarchy
from coterie.algorithms.nearest_mean import NearestMean, neighbour_agreement, scale_for
from coterie.contract import Facts
from coterie.data import open_source
from coterie.methods.finch import FINCH, practical
from coterie.pipeline import run
from coterie.prediction.model import load_model
from coterie.report import write_report
from coterie.training.coerce import settings_of
from coterie.training.plan import RunSettings
from coterie.types import InputError, RunFailed, Source
from helpers.vectors import groups_of_vectors


def as_sets(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


@pytest.mark.parametrize("d", [2, 70])
def test_separate_groups_are_found_and_new_items_placed(d: int) -> None:
    vectors, truth = groups_of_vectors(180, d, apart=40.0)
    model = Clusterer(n_clusters=3, method="finch", random_state=0, device="cpu", calibrate=False).fit(vectors[:150])
    assert as_sets(model.labels_) == as_sets(truth[:150])
    assert model.history_ == []
    new = model.predict(vectors[150:])
    assert as_sets(np.concatenate([model.labels_, new])) == as_sets(truth)


def test_it_groups_the_values_of_the_user_and_not_normalised_ones(digits: Source) -> None:
    """The cosine depends on where 0 lies."""
    array: np.ndarray = digits.items.array  # type: ignore[attr-defined]
    found = run(array, RunSettings(n_clusters=5, method="finch", device="cpu", calibrate=False))
    rows = torch.from_numpy(array.reshape(len(array), -1)).float() / 255
    assert found.model.backbone == "identity"
    assert found.model.net.width == 64
    partition = exactly(rows, hierarchy(rows), 5).numpy()
    assert as_sets(found.assignments.probabilities.argmax(1).numpy()) == as_sets(partition)
    torch.testing.assert_close(found.model.method.rows(found.model.net, found.assignments.embedding), rows)  # type: ignore[attr-defined]


def test_a_run_without_training_has_all_its_files_and_can_be_resumed(digits: Source, tmp_path: Path) -> None:
    array: np.ndarray = digits.items.array  # type: ignore[attr-defined]
    settings = RunSettings(n_clusters=4, method="finch", device="cpu", calibrate=False)
    found = run(array, settings, tmp_path / "run")
    again = run(array, settings, tmp_path / "run", resume=True)
    assert torch.equal(again.assignments.probabilities, found.assignments.probabilities)
    assert (tmp_path / "run" / "history.jsonl").read_text() == ""
    page = write_report(tmp_path / "run")
    assert "finch" in page.read_text()
    model = load_model(tmp_path / "run")
    assert torch.equal(model.predict(open_source(array[:1], like=model.spec)).probabilities,
                       found.assignments.probabilities[:1])  # fmt: skip


def test_it_groups_the_features_of_another_run(digits: Source, tmp_path: Path) -> None:
    array: np.ndarray = digits.items.array  # type: ignore[attr-defined]
    before = RunSettings(
        n_clusters=3, method="moco", epochs=1, backbone="small-4", family="glyph", device="cpu", calibrate=False
    )
    run(array, before, tmp_path / "moco")
    found = run(
        array, RunSettings(n_clusters=3, method="finch", init=str(tmp_path / "moco"), device="cpu", calibrate=False)
    )
    assert found.model.backbone == "small-4"
    embedding = found.assignments.embedding
    assert embedding is not None
    assert embedding.shape == (len(array), 32)
    partition = exactly(embedding, hierarchy(embedding), 3)
    # A few items lie closer to the mean of another small group than to that of their own.
    assert float((found.assignments.probabilities.argmax(1) == partition).float().mean()) > 0.9


def test_the_mean_confidence_is_the_share_of_neighbours_in_an_items_own_group() -> None:
    vectors, _ = groups_of_vectors(180, apart=0.3)
    found = run(vectors, RunSettings(n_clusters=3, method="finch", device="cpu", calibrate=False))
    rows = torch.from_numpy(vectors)
    share = neighbour_agreement(rows, exactly(rows, hierarchy(rows), 3), "cosine")
    assert 0.3 < share < 0.99
    assert float(found.assignments.probabilities.max(1).values.mean()) == pytest.approx(share, abs=0.01)


def test_agreement_is_counted() -> None:
    line = torch.arange(40.0)[:, None]
    labels = (torch.arange(40) >= 20).long()
    same = total = 0
    for i in range(40):
        others = sorted((j for j in range(40) if j != i), key=lambda j: (abs(i - j), j))[:10]
        same, total = same + sum(bool(labels[j] == labels[i]) for j in others), total + 10
    found = neighbour_agreement(line, labels, "euclidean")
    assert found == pytest.approx((same + 1) / (total + 2), abs=0.01)  # of two equally far neighbours either may count
    assert neighbour_agreement(line[:2], labels[:2], "euclidean") == pytest.approx(3 / 4)
    assert neighbour_agreement(line[:2], torch.tensor([0, 1]), "euclidean") == pytest.approx(1 / 4)


def test_the_scale_gives_the_confidence_that_was_asked_for() -> None:
    squared = 5 * torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    for confidence in (0.35, 0.6, 0.9, 0.999):
        p = (-squared / scale_for(squared, confidence)).softmax(1)
        assert float(p.max(1).values.mean()) == pytest.approx(confidence, abs=1e-3)
    # Below chance, and where nothing tells the groups apart.
    p = (-squared / scale_for(squared, 0.1)).softmax(1)
    assert torch.equal(p.argmax(1), squared.argmin(1))
    assert bool(torch.isfinite(scale_for(torch.ones(5, 3), 0.9)))
    # A group without a mean changes nothing for the others.
    empty = torch.cat([squared, squared.new_full((200, 1), torch.inf)], 1)
    p = (-empty / scale_for(empty, 0.6)).softmax(1)
    assert float(p.max(1).values.mean()) == pytest.approx(0.6, abs=1e-3)
    assert float(p[:, 4].max()) == 0


def test_a_handful_of_items_is_grouped() -> None:
    vectors = np.random.default_rng(0).uniform(size=(10, 3)).astype(np.float32)
    for k in (2, 3, 4):
        labels = (
            Clusterer(n_clusters=k, method="finch", random_state=0, device="cpu", calibrate=False).fit(vectors).labels_
        )
        assert len(np.unique(labels)) == k


def test_a_group_of_several_means_is_as_far_as_its_nearest() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, 1.0], [10.0, 0.0], [10.0, 1.0], [4.0, 0.5], [5.0, 0.5]])
    head = NearestMean(2, 2, "euclidean")
    head.place(rows, torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 0, 1, 1]), 0.8)
    found = head.squared_distances(torch.tensor([[9.0, 0.5], [0.0, 0.5]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 4.5**2], [0.0, 4.5**2]]))
    assert float(head(rows).softmax(1).max(1).values.mean()) == pytest.approx(0.8, abs=1e-3)


def test_practical_settings_depend_on_the_form_of_the_items_alone() -> None:
    assert practical(Facts(100, 3, "embeddings", "cpu", dim=2)) == {"distance": "euclidean"}
    assert practical(Facts(100, 3, "embeddings", "cpu", dim=64)) == {}
    assert practical(Facts(100, 3, "images", "cpu", side=8)) == {}


def test_training_it_is_refused() -> None:
    vectors, _ = groups_of_vectors(180, apart=3.0)
    with pytest.raises(InputError, match=r"finch\.epochs is 3"):
        run(vectors, RunSettings(n_clusters=3, method="finch", epochs=3))
    with pytest.raises(InputError, match=r"finch\.distance"):
        run(vectors, RunSettings(n_clusters=3, method="finch", overrides={"distance": "manhattan"}))
    assert settings_of(FINCH, {"epochs": 0}, "finch") == FINCH()  # as models of version 0.1.0 have it


def test_images_of_too_many_pixels_are_refused_before_anything_is_done() -> None:
    large = np.random.default_rng(0).integers(0, 256, (4, 3, 72, 72), dtype=np.uint8)
    with pytest.raises(InputError, match="72×72 are too many"):
        run(large, RunSettings(n_clusters=2, method="finch", device="cpu"))


# Without a number of groups


def blobs(k: int, n: int = 120, spread: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(k)
    return (5 * rng.normal(size=(k, 16))[np.arange(n) % k] + spread * rng.normal(size=(n, 16))).astype(np.float32)


@pytest.mark.usefixtures("brief_calibration")
@pytest.mark.parametrize("k", [3, 5, 8])
def test_a_level_of_the_hierarchy_is_taken_where_groups_lie_apart(k: int, tmp_path: Path) -> None:
    data = blobs(k)
    model = Clusterer("auto", "finch", random_state=0).fit(data)
    assert len(set(model.labels_)) == k == model.record_["n_clusters"]
    assert all(len(set(model.labels_[i::k])) == 1 for i in range(k))
    (said,) = (note for note in model.record_["notes"] if "hierarchy has levels of" in note)
    assert f"{k} (0." in said
    assert f"the one of {k} was taken" in said
    assert np.array_equal(load(model.save(tmp_path / "run")).predict_proba(data), model.predict_proba(data))


def test_items_that_hang_together_have_no_level_and_say_so() -> None:
    with pytest.raises(RunFailed, match=r"are connected by first neighbours.*with n_clusters"):
        Clusterer("auto", "finch", random_state=0).fit(np.array([[0.0], [1.0], [1.9]], np.float32))


@pytest.mark.parametrize(
    ("k", "final", "said"), [(3, "level", 'n_clusters="auto"'), ("auto", "required", "finch.final=level")]
)
def test_the_number_of_groups_and_what_finds_it_go_together(k: int | str, final: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Clusterer(k, "finch", settings={"final": final}).fit(blobs(3))
