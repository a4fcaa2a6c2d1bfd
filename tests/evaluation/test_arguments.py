"""Every public function refuses what is no label, confidence, number or list in one sentence of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import coterie.evaluation as evaluation
from coterie.evaluation import accept
from coterie.evaluation.recalibration import recalibrate
from coterie.types import InputError

pytestmark = pytest.mark.usefixtures("unchecked_types")

N, K = 60, 3
RNG = np.random.default_rng(0)
TRUE = np.arange(N) % K
ROWS = RNG.dirichlet(np.ones(K), N)
SURE = ROWS.max(1)
RIGHT = RNG.random(N) < SURE
SOUND: dict[str, Any] = {
    "labels_true": TRUE,
    "labels_pred": ROWS.argmax(1),
    "confidence": SURE,
    "correct": RIGHT,
    "right": RIGHT,
    "probabilities": ROWS,
    "column": TRUE,
    "class_names": ["a", "b", "c"],
    "inside": SURE,
    "outside": 1 - SURE,
    "judged": np.arange(N),
    "max_error": 0.9,
    "n": N,
    "size": 5,
    "seed": 0,
}
WRONG = [
    None,
    "x",
    float("nan"),
    -1,
    1.5,
    ["a", "b"],
    [[1, 2], [3]],
    np.zeros((2, 2, 2)),
    {"a": 1},
    object(),
    1j * TRUE,
]
FLAGS = {"closed", "closed_form", "nearest", "debiased", "positive", "average", "legacy"}  # choices, not data


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in evaluation.__all__:
        if not inspect.isclass(getattr(evaluation, name)) and not name.startswith(("bootstrap", "match")):
            yield name, getattr(evaluation, name)
    yield from [("audit", accept.audit), ("draw_sample", accept.draw_sample), ("recalibrate", recalibrate)]
    yield "expected_threshold", accept.expected_threshold


@pytest.mark.parametrize(("name", "function"), list(functions()), ids=lambda one: one if isinstance(one, str) else "")
def test_wrong_arguments_are_refused_by_name_or_answered(name: str, function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    sound = {key: SOUND[key] for key in parameters if key in SOUND and not (key == "judged" and name == "draw_sample")}
    function(**sound)
    for key in parameters.keys() - FLAGS:
        for wrong in WRONG:
            try:
                function(**sound | {key: wrong})
            except InputError:
                continue
            data = key in ("labels_true", "labels_pred", "confidence", "probabilities", "column", "inside", "outside")
            assert not data, f"{name} takes {wrong!r} for {key}"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: evaluation.classwise_calibration_error(ROWS, TRUE, threshold="x"), "threshold is 'x'"),
        (lambda: evaluation.nll(ROWS, TRUE, floor="x"), "floor is 'x'"),
        (lambda: evaluation.evaluate(TRUE, ROWS, class_names=None), "class_names is None: it takes a list of names"),
        (lambda: evaluation.evaluate(TRUE, ROWS, class_names="abc"), "class_names is 'abc'"),
        (lambda: evaluation.calibration_error(["a"], [True]), r"confidence is \['a'\]: it takes numbers"),
        (lambda: evaluation.accuracy([[1, 2], [3]], [0, 1]), "labels_true is"),
        (lambda: accept.error_bound(-1, 50), "wrong is -1"),
        (lambda: accept.judged_needed("x"), "The accepted error is x"),
        (lambda: recalibrate(SURE, RIGHT, seed="x"), "seed is 'x'"),
    ],
)
def test_the_sentence_names_the_argument(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()


@pytest.mark.parametrize(
    ("function", "first", "second"),
    [
        (evaluation.accuracy, TRUE, TRUE),
        (evaluation.auroc, SURE, RIGHT),
        (evaluation.brier, ROWS, TRUE),
        (evaluation.separation_auroc, SURE, 1 - SURE),
    ],
)
def test_masked_values_are_refused(function: Callable[..., float], first: Any, second: Any) -> None:
    for given in ((masked(first), second), (first, masked(second))):
        with pytest.raises(InputError, match="has masked values"):
            function(*given)


def masked(values: Any) -> Any:
    """The same with its fourth value, or row, masked."""
    hidden = np.ma.masked_array(values)
    hidden[3] = np.ma.masked
    return hidden
