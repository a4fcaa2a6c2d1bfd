import json
from pathlib import Path

import numpy as np
import pytest

from coterie.evaluation import (
    accuracy,
    aurc,
    brier,
    calibration_error,
    classwise_calibration_error,
    evaluate,
    nll,
    overconfidence,
    risk_coverage,
)
from coterie.records.metrics import read_metrics
from coterie.types import InputError


def example(n: int = 400, k: int = 6, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), (true + 1) % k] += 2
    p = np.exp(logits)
    return true, (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def test_numbers_are_those_of_the_single_functions() -> None:
    true, p = example()
    found = json.loads(json.dumps(evaluate(true, p, class_names=list("abcd")), allow_nan=False))
    labels, confidence = p.argmax(1), p.max(1)
    to_class = {row["cluster"]: row["class"] for row in found["per_cluster"]}
    correct = np.array([to_class[j] == "abcd"[c] for j, c in zip(labels, true, strict=True)])
    assert found["acc"] == pytest.approx(correct.mean()) == pytest.approx(accuracy(true, labels, 6))
    assert found["ece"] == pytest.approx(calibration_error(confidence, correct))
    assert found["aurc"] == pytest.approx(aurc(confidence, correct))
    assert found["confidence"] == pytest.approx(confidence.mean())
    assert (found["n"], found["unknown"], found["k"], found["n_classes"]) == (400, 0, 6, 4)
    assert found["sizes"] == np.bincount(labels, minlength=6).tolist()
    assert sum(b["count"] for b in found["reliability"]) == 400


def test_numbers_of_whole_rows_are_those_with_the_columns_in_the_order_of_the_classes() -> None:
    true, p = example(k=4)
    found = evaluate(true, p, class_names=list("abcd"), resamples=0)
    by_class = p[:, [(c + 1) % 4 for c in range(4)]]  # `example` raises column (class + 1)
    assert found["brier"] == pytest.approx(brier(by_class, true))
    assert found["nll"] == pytest.approx(nll(by_class, true))
    assert found["ece_classwise"] == pytest.approx(classwise_calibration_error(by_class, true))
    above = classwise_calibration_error(by_class, true, threshold=0.01)
    assert found["ece_classwise_thresholded"] == pytest.approx(above) != found["ece_classwise"]
    assert found["intervals"] is None


def test_numbers_of_whole_rows_need_as_many_clusters_as_classes() -> None:
    found = evaluate(*example(k=6), class_names=list("abcd"), resamples=0)
    for name in ("brier", "nll", "ece_classwise", "ece_classwise_thresholded"):
        assert found[name] is None


def test_one_cluster_is_what_constant_labels_score() -> None:
    true, p = example()
    row = evaluate(true, p, class_names=list("abcd"), resamples=0)["one_cluster"]
    constant = evaluate(true, np.ones((400, 1)), class_names=list("abcd"), resamples=0)
    assert row == {name: constant[name] for name in row}
    assert row["acc"] == row["purity"] == np.bincount(true).max() / 400
    assert (row["nmi"], row["ari"], row["balanced_accuracy"]) == (0, pytest.approx(0, abs=1e-12), 0.25)


def test_each_cluster_by_itself() -> None:
    true, p = example()
    labels, confidence = p.argmax(1), p.max(1).astype(float)
    for row in evaluate(true, p, class_names=list("abcd"), resamples=0)["per_cluster"]:
        inside = labels == row["cluster"]
        right = np.array(["abcd"[c] == row["class"] for c in true])
        assert row["size"] == inside.sum()
        assert row["acc"] == pytest.approx(right[inside].mean())
        classes = np.bincount(true[inside], minlength=4)
        assert (row["purity"], row["largest_class"]) == (classes.max() / inside.sum(), "abcd"[classes.argmax()])
        assert row["recall"] == (pytest.approx(right[inside].sum() / right.sum()) if row["class"] else None)
        assert row["ece"] == pytest.approx(calibration_error(confidence[inside], right[inside]))
        assert row["overconfidence"] == pytest.approx(overconfidence(confidence[inside], right[inside]))


def test_a_cluster_of_one_item_and_one_of_none() -> None:
    p = np.array([[0.75, 0.25, 0.0], [0.625, 0.375, 0.0], [0.25, 0.75, 0.0]])
    _, one, none = evaluate(np.array([0, 0, 1]), p, class_names=["a", "b"], resamples=0)["per_cluster"]
    assert (one["size"], one["acc"], one["ece"], one["overconfidence"]) == (1, 1.0, 0.25, -0.25)
    assert none.pop("size") == 0
    assert none.pop("cluster") == 2
    assert set(none.values()) == {None}


def test_intervals_hold_the_numbers() -> None:
    true, p = example()
    found = evaluate(true, p, class_names=list("abcd"))
    assert (found["intervals"]["level"], found["intervals"]["resamples"]) == (0.95, 200)
    for name in ("acc", "f1", "balanced_accuracy", "nmi", "ari", "overconfidence", "ece", "auroc", "aurc", "fpr95"):
        low, high = found["intervals"][name]
        assert low <= found[name] <= high, name
        assert low < high, name


def test_intervals_of_numbers_that_few_items_make_too_large_hold_the_true_ones() -> None:
    """Of 10 classes with 70 % each where they belong NMI is 0.448, and probabilities are right as often as they say."""
    rng = np.random.default_rng(0)
    true = rng.integers(10, size=1000)
    pred = np.where(rng.random(1000) < 0.7, true, (true + rng.integers(1, 10, size=1000)) % 10)
    p = np.full((1000, 10), 0.3 / 9)
    p[np.arange(1000), pred] = 0.7
    found = evaluate(true, p, class_names=list("abcdefghij"))
    low, high = found["intervals"]["nmi"]
    assert low < 0.448 < high
    assert low < found["nmi"]
    assert found["intervals"]["ece"][0] == 0


def test_curve_is_thinned_and_ends_with_everything() -> None:
    true, p = example(n=1000)
    curve = evaluate(true, p, class_names=list("abcd"), resamples=0)["risk_coverage"]
    to_class = [row["class"] for row in evaluate(true, p, class_names=list("abcd"), resamples=0)["per_cluster"]]
    correct = np.array([to_class[j] == "abcd"[c] for j, c in zip(p.argmax(1), true, strict=True)])
    whole = np.array(risk_coverage(p.max(1), correct)).T.tolist()
    points = np.array([curve["threshold"], curve["coverage"], curve["risk"]]).T.tolist()
    assert len(points) == 101
    assert points[0] == whole[0]
    assert points[-1] == whole[-1]
    assert all(point in whole for point in points)


def test_confusion_has_the_agreement_on_its_diagonal() -> None:
    true, p = example()
    found = evaluate(true, p, class_names=list("abcd"))
    counts = np.array(found["confusion"]["counts"])
    assert counts.shape == (4, 6)
    assert np.trace(counts) == pytest.approx(found["acc"] * 400)
    assert sorted(found["confusion"]["clusters"]) == list(range(6))
    assert counts.sum(axis=1).tolist() == np.bincount(true).tolist()


def test_very_many_clusters_and_classes_have_no_table(tmp_path: Path) -> None:
    """Ten thousand of each took more than six minutes, and made a metrics.json larger than is read again."""
    true, n = np.arange(2100).repeat(2), 4200
    p = np.full((n, 2000), 0.5 / 1999, np.float32)
    p[np.arange(n), true % 2000] = 0.5
    found = evaluate(true, p, class_names=[str(number) for number in range(2100)])
    assert found["acc"] == pytest.approx(4000 / n)
    assert found["confusion"] == {}
    assert {"ece", "aurc"} <= found["intervals"].keys()
    assert not {"acc", "nmi", "f1"} & found["intervals"].keys()
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    assert read_metrics(tmp_path / "metrics.json")


def test_renaming_clusters_changes_no_overall_number() -> None:
    true, p = example(k=5)
    first, second = (evaluate(true, x, class_names=list("abcd"), resamples=0) for x in (p, p[:, [3, 0, 4, 1, 2]]))
    for name, value in first.items():
        if isinstance(value, float):
            assert value == pytest.approx(second[name]), name


def test_unknown_labels_take_no_part() -> None:
    true, p = example()
    some = np.where(np.arange(400) % 3 == 0, -1, true)
    found = evaluate(some, p, class_names=list("abcd"))
    alone = evaluate(true[some >= 0], p[some >= 0], class_names=list("abcd"))
    assert found.pop("unknown") == 134
    assert alone.pop("unknown") == 0
    assert found == alone


def test_empty_clusters_and_undefined_numbers_are_none() -> None:
    p = np.array([[1.0, 0, 0], [0, 0, 1.0]])
    found = evaluate(np.array([0, 1]), p, class_names=["a", "b"])
    assert (found["acc"], found["auroc"], found["fpr95"]) == (1, None, None)
    empty = found["per_cluster"][1]
    assert (empty["size"], empty["confidence"], empty["class"]) == (0, None, None)


@pytest.mark.parametrize(
    ("labels", "names"), [([0, 1, 2], ["a", "b", "c"]), ([-1, -1], ["a"]), ([0, 3], ["a", "b"]), ([0, -2], ["a"])]
)
def test_labels_that_do_not_fit_are_refused(labels: list[int], names: list[str]) -> None:
    with pytest.raises(InputError, match="label"):
        evaluate(np.array(labels), np.array([[0.7, 0.3], [0.4, 0.6]]), class_names=names)


def test_every_number_is_explained() -> None:
    true, p = example()
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    found = evaluate(true, p, class_names=list("abcd"), resamples=20)
    names = [*found, *found["conventions"], "level", "resamples"]
    assert [name for name in names if f"`{name}`" not in page] == []
