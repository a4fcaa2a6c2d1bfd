"""All tests run with coterie's annotations checked: types by beartype, shapes of tensors by jaxtyping."""

from __future__ import annotations

import gc
import os
import pkgutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import hypothesis
import jaxtyping
import pytest

import coterie
from helpers import checked, forked

if TYPE_CHECKING:
    from coterie.types import Source

os.environ["COTERIE_DEBUG"] = "1"  # an error that nobody foresaw is one for the tests, too
# The same draws each time, so that a suite that passed passes again; `make hunt` draws at random, and more. No test is
# timed: on a busy machine a draw may take seconds.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("hunt", print_blob=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("COTERIE_DRAWS", "fixed"))
# Nothing above may import these. The command line is left out: typer calls its functions, and not by their annotations.
PARTS = [f"coterie.{part.name}" for part in pkgutil.iter_modules(coterie.__path__) if part.name != "cli"]
checked.install(PARTS)


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # of pytest-xdist, which begins files of few but long tests last
    if hasattr(os, "mkfifo"):
        forked.place()  # which all workers share


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, then those of many: at the end no worker has a long one while the others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    count = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -count[item.path], str(item.path)))


def pytest_collection_finish() -> None:
    # What was collected and imported is looked through no more: it stays to the end. With hypothesis 6.100 some tests
    # would end as "Flaky: Unreliable assumption".
    if hypothesis.__version_info__ >= (6, 170, 17):
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def digits() -> Source:
    """The first 96 of scikit-learn's digits, 8×8; `digits.items.array` is the array that a run can start from."""
    from sklearn.datasets import load_digits

    from coterie.data import open_source

    images = (load_digits().images[:96] * 255 / 16).astype("uint8")
    return replace(open_source(images[:, None]), family="glyph")


@pytest.fixture(scope="session", autouse=True)
def quick_maps() -> Iterator[None]:
    """Maps of more than 50 items by principal components; t-SNE, which takes longest of a small run, has `test_map`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coterie.report.map.MAP_POINTS", 50)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """What a test itself writes need not outlast a power cut; processes that tests start and kill flush as always."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda file: None)
        yield


@pytest.fixture(scope="module")
def narrow_autoencoders() -> Iterator[None]:
    """Auto-encoders of a tenth of their width, where a test is about what is done with them."""
    from helpers.small_runs import NARROW

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coterie.networks.autoencoder.WIDTHS", NARROW)
        yield


@pytest.fixture(scope="module")
def brief_calibration() -> Iterator[None]:
    """Calibration heads of a tenth of their steps, where a test is about what is done with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coterie.calibration.settings.STEPS", 30)
        yield


@pytest.fixture
def unchecked_types() -> Iterator[None]:
    """scikit-learn's checks hand over what our annotations rule out."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
