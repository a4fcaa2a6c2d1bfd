import json

import numpy as np
import pytest

from coterie.evaluation import accuracy, aurc, calibration_error, evaluate
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


def test_confusion_has_the_agreement_on_its_diagonal() -> None:
    true, p = example()
    found = evaluate(true, p, class_names=list("abcd"))
    counts = np.array(found["confusion"]["counts"])
    assert counts.shape == (4, 6)
    assert np.trace(counts) == pytest.approx(found["acc"] * 400)
    assert sorted(found["confusion"]["clusters"]) == list(range(6))
    assert counts.sum(axis=1).tolist() == np.bincount(true).tolist()


def test_renaming_clusters_changes_no_overall_number() -> None:
    true, p = example(k=5)
    first, second = (evaluate(true, x, class_names=list("abcd")) for x in (p, p[:, [3, 0, 4, 1, 2]]))
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
