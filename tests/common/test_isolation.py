"""coterie takes nothing from the state of the process, and leaves it as it was."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile

from coterie import Clusterer, calibrate, choose_k, embed, load
from coterie.cli import main
from coterie.common.isolation import own_state
from coterie.data import open_source
from coterie.twins import find_duplicates
from helpers import forked
from helpers.encoder_weights import random_weights

# Checks of a list's type draw which item they look at, from Python's random state.
pytestmark = [
    pytest.mark.usefixtures("unchecked_types"),
    pytest.mark.filterwarnings("ignore:1 unreadable picture:UserWarning"),
]

X = np.random.default_rng(3).normal(size=(48, 6)).astype(np.float32) + np.repeat(np.eye(6)[:3], 16, 0) * 6
# Made beforehand: what checks annotations in these tests draws from `random` to look into a sequence of columns.
OF_VECTORS = Clusterer(3, epochs=2, random_state=0, calibrate=True, settings={"calibrate.epochs": 6})
FEW = {"moco.epochs": 1, "moco.batch_size": 12, "moco.queue": 24, "moco.projector_hidden": 16, "hidden": 8}
OF_IMAGES = Clusterer(3, epochs=1, random_state=0, backbone="small-8", settings=FEW)
PIXELS = np.random.default_rng(4).integers(0, 256, (24, 8, 8), dtype=np.uint8)


@contextmanager
def setting(read: Callable[[], Any], write: Callable[[Any], Any], value: Any) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


@contextmanager
def deterministic(mode: bool, warn_only: bool = False) -> Iterator[None]:
    torch.use_deterministic_algorithms(mode, warn_only=warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def attribute(place: Any, name: str, value: Any) -> Iterator[None]:
    with setting(lambda: getattr(place, name), lambda new: setattr(place, name, new), value):
        yield


@contextmanager
def seeded() -> Iterator[None]:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    yield


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "grad disabled": lambda: torch.set_grad_enabled(False),
    "float64": lambda: setting(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "bfloat16": lambda: setting(torch.get_default_dtype, torch.set_default_dtype, torch.bfloat16),
    "meta device": lambda: default_device("meta"),
    "device context": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic": lambda: deterministic(True),
    "deterministic, warnings": lambda: deterministic(True, warn_only=True),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "matmul": lambda: setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
    "without oneDNN": lambda: attribute(torch.backends.mkldnn, "enabled", False),
    "seeded": seeded,
    "NumPy raises": lambda: np.errstate(all="raise"),
    "scikit-learn": lambda: sklearn.config_context(assume_finite=True, transform_output="pandas"),
    "warnings are errors": lambda: warnings.catch_warnings(action="error"),
    "Pillow": lambda: attribute(Image, "MAX_IMAGE_PIXELS", 10),
    "truncated images": lambda: attribute(ImageFile, "LOAD_TRUNCATED_IMAGES", True),
}


def state() -> dict[str, Any]:
    """All that a caller may have set."""
    return {
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device,
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "matmul": torch.get_float32_matmul_precision(),
        "flags": (torch.backends.mkldnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "threads": torch.get_num_threads(),
        "errstate": np.geterr(),
        "sklearn": sklearn.get_config(),
        "warnings": list(warnings.filters),
        "pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
    }


def groups_of_vectors(folder: Path) -> list[NDArray[Any]]:
    """Everything that Python offers, once over: fit, save, load, predict, scores, calibrate."""
    fitted = OF_VECTORS.fit(X)
    saved = load(fitted.save(folder))
    said = calibrate(X, fitted.labels_, settings={"epochs": 2})
    return [fitted.confidence_, fitted.embedding_, saved.predict_proba(X), saved.ood_score(X), said.probabilities]


def groups_of_pictures(folder: Path) -> list[NDArray[Any]]:
    for row, pixels in enumerate(PIXELS):
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{row}.png")
    whole = (folder / "0.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    fitted = OF_IMAGES.fit(folder)
    return [fitted.confidence_, fitted.embedding_, np.array([len(open_source(folder).skipped)])]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[NDArray[Any]]]:
    folder = tmp_path_factory.mktemp("plain")
    return {"vectors": groups_of_vectors(folder / "v"), "pictures": groups_of_pictures(folder / "p")}


OF_PICTURES = ("inference_mode", "float64", "autocast", "deterministic", "without oneDNN", "Pillow", "truncated images")


@pytest.mark.parametrize(
    ("kind", "name"), [*(("vectors", name) for name in STATES), *(("pictures", name) for name in OF_PICTURES)]
)
def test_nothing_depends_on_the_state_and_nothing_changes_it(
    kind: str, name: str, plain: dict[str, list[NDArray[Any]]], tmp_path: Path
) -> None:
    work = {"vectors": groups_of_vectors, "pictures": groups_of_pictures}[kind]
    with STATES[name]():
        before = state()
        found = work(tmp_path / "x")
        assert state() == before
    for one, other in zip(plain[kind], found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_fits_draw_nothing_from_the_caller() -> None:
    torch.manual_seed(0)
    drawn = [(Clusterer(3, epochs=1).fit(X), torch.rand(1).item())[1] for _ in range(2)]
    torch.manual_seed(0)
    assert drawn == [torch.rand(1).item(), torch.rand(1).item()]


def test_without_a_seed_every_fit_has_its_own() -> None:
    seeds = {Clusterer(3, epochs=1).fit(X).record_["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_a_failed_fit_puts_everything_back() -> None:
    model = Clusterer(3, epochs=1)
    before = state()
    with pytest.raises(ValueError):
        model.fit(np.full((20, 3), np.nan))
    assert state() == before


def test_the_callers_accelerator_stays(tmp_path: Path) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    kinds = (AcceleratorState, GradientState, PartialState)
    kept = [dict(kind._shared_state) for kind in kinds]
    try:
        AcceleratorState._reset_state(reset_partial_state=True)
        mine = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3)
        groups_of_vectors(tmp_path / "x")
        assert mine.mixed_precision == "bf16"
        assert mine.gradient_accumulation_steps == 3
        assert Accelerator().mixed_precision == "bf16"
    finally:
        for kind, values in zip(kinds, kept, strict=True):
            kind._shared_state.clear()
            kind._shared_state.update(values)


def test_calls_that_overlap_put_back_what_the_first_found() -> None:
    torch.set_default_dtype(torch.float64)
    found: list[Any] = []
    models = [Clusterer(3, epochs=3, random_state=0) for _ in range(3)]
    try:
        before = state()
        threads = [threading.Thread(target=lambda model=model: found.append(model.fit(X))) for model in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 3
        assert state() == before
    finally:
        with contextlib.suppress(Exception):
            torch.set_default_dtype(torch.float32)


def test_fits_in_several_threads_are_those_of_one() -> None:
    def fit() -> NDArray[np.float32]:
        return Clusterer(3, method="idec", epochs=1, calibrate=False, random_state=0, settings=few).fit(X).confidence_

    few = {"ae.epochs": 10}
    alone, found = fit(), list[NDArray[np.float32]]()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=lambda: found.append(fit())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    np.testing.assert_array_equal(found, [alone] * 2)


def test_loading_and_embedding_draw_nothing_from_a_fit_in_another_thread(tmp_path: Path) -> None:
    """torch has one random state for all threads: what the others draw, the fit would miss."""
    of_images = Clusterer(3, method="ae", epochs=1, calibrate=False, random_state=0, backbone="small-8").fit(PIXELS)
    of_vectors = Clusterer(3, method="vae", epochs=1, calibrate=False, random_state=0).fit(X)
    saved = {"i": of_images.save(tmp_path / "i"), "v": of_vectors.save(tmp_path / "v")}
    weights = random_weights(tmp_path, "test_vit")
    with own_state():
        before = torch.get_rng_state()
        for folder, items in ((saved["i"], PIXELS), (saved["v"], X)):
            load(folder).predict_proba(items)
        embed(np.tile(PIXELS[:2, :, :, None], (1, 4, 4, 3)), "test_vit", weights=weights)
        assert torch.equal(torch.get_rng_state(), before)


class Busy(torch.utils.data.Dataset[torch.Tensor]):
    """Rows of X that are read while the caller's program draws random numbers, as another thread of it would."""

    def __init__(self) -> None:
        self.drawn: list[tuple[float, ...]] = []

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> torch.Tensor:
        self.drawn.append(draws())
        return torch.from_numpy(X[row])


def draws() -> tuple[float, ...]:
    return random.random(), np.random.random(), torch.rand(()).item()  # noqa: NPY002


def test_what_is_drawn_beside_a_call_is_not_drawn_again() -> None:
    """A service that makes its keys at random had the same again after a prediction in another of its threads."""
    model = Clusterer(3, method="kmeans", calibrate=False, random_state=0).fit(X)
    for call in (model.predict, model.ood_score, open_source):
        during = Busy()
        call(during)
        assert during.drawn
        assert not [same for same in zip(*during.drawn[:1], draws(), strict=True) if same[0] == same[1]], call
    during = Busy()
    Clusterer(3, method="kmeans", calibrate=False, random_state=0).fit(during)  # which seeds torch, and nothing else
    assert not [same for same in zip(*during.drawn[:1], draws()[:2], strict=False) if same[0] == same[1]]


def test_what_rich_draws_when_scikit_learn_imports_it_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call of a process put Python's random state on by one number."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    before = random.getstate()
    with own_state():
        import_module("rich.style")
    assert random.getstate() == before


def test_choosing_and_duplicates_draw_nothing_from_the_caller() -> None:
    before = state()
    choose_k(X, most=4)
    find_duplicates(X)
    assert state() == before


AFTER_THE_MAIN_THREAD = """
import atexit, threading
import numpy as np
from coterie import Clusterer
points = np.repeat(np.eye(6)[:3] * 9, 20, 0)
def fit():
    print(len(Clusterer(3, method="ae", epochs=1, calibrate=False, random_state=0).fit(points).labels_), flush=True)
atexit.register(fit)
threading.Thread(target=fit).start()
"""


def test_a_fit_may_outlive_the_main_thread() -> None:
    """In a thread that nobody waits for, and in a function of `atexit`: Python starts no more threads of a pool."""
    answer = forked.run(AFTER_THE_MAIN_THREAD)
    assert answer.stdout.split() == [b"60", b"60"], answer.stderr


FORK_AFTER_A_FIT = """
import os, signal, warnings
import numpy as np, torch
from coterie import Clusterer
torch.set_num_threads(2)
points = np.repeat(np.eye(6)[:3] * 9, 1400, 0) + np.random.default_rng(3).normal(size=(4200, 6))
model = Clusterer(3, method="kmeans", random_state=0, calibrate=False).fit(points)
child = os.fork()
if child:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(100)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    labels = model.predict(points)
    again = Clusterer(3, method="kmeans", random_state=0, calibrate=False).fit(points).labels_
told = {str(one.message) for one in said}
assert not [one.filename for one in said if f"coterie{os.sep}" in one.filename]  # lines of this program
same = (labels == model.labels_).all() and (again == model.labels_).all()
os._exit(0 if same and torch.get_num_threads() == 2 and len(told) == 1 and "forked" in told.pop() else 1)
"""


def test_a_process_that_is_forked_after_a_fit_can_fit() -> None:
    assert forked.run(FORK_AFTER_A_FIT).returncode == 0


def test_a_command_in_this_process_puts_everything_back(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    before = state()
    assert main(["fit", str(tmp_path / "x.npy"), "-k", "3", "--epochs", "1", "-o", str(tmp_path / "run")]) == 0
    assert state() == before
