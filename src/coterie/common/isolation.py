"""Makes coterie's results independent of the state of the process, and leaves that state as it was.

Seeds, default types and devices, gradient modes, precision: all of these belong to whoever calls a library. Each
public function of Python's face runs within `own_state`.
"""

from __future__ import annotations

import functools
import inspect
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

from coterie.common.callers import PLACE, reword
from coterie.types import CoterieError

P = ParamSpec("P")
R = TypeVar("R")

BETWEEN = ("coterie", "contextlib", "sklearn")  # packages between who is warned and what warns
MAX_IMAGE_PIXELS = 1024**3 // 4 // 3  # Pillow's own limit

_lock = threading.Lock()
_inside = 0  # calls in progress, in all threads
_undo = ExitStack()  # what the last of them does
_turn = threading.RLock()  # held by the thread that trains
_turns = 0  # calls within one another of that thread
_threaded = False  # whether several threads have computed here
_forked = False  # from a process where they had: they are not in this one, and who asks for them waits for ever

ONE_THREAD = (
    "This process was forked from one where coterie computed with several threads, which a fork does not take along: "
    "it computes with one. Start processes with multiprocessing's 'spawn' or 'forkserver' to have all."
)


def _after_fork() -> None:
    global _lock, _turn, _turns, _forked
    _lock, _turn, _turns = threading.Lock(), threading.RLock(), 0  # another thread may have held them
    _forked = _forked or _threaded


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def isolated(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function of Python's face run within `own_state`, and put what it refuses into the words of its caller."""
    arguments = inspect.signature(function).parameters
    place = next((name for name in ("out", "folder") if name in arguments), PLACE)

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with own_state():
                return function(*args, **kwargs)
        except CoterieError as error:
            reword(error, place)
            raise

    return wrapper


def warn_caller(text: str) -> None:
    """A UserWarning at the line of the caller's code that led here, through whatever calls of coterie's."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


def in_own_state(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function run within `own_state`."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with own_state():
            return function(*args, **kwargs)

    return wrapper


def in_turn(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that trains wait until no other thread does, and put torch's random state back after it.

    Torch has one random state for all threads. Only what trains draws from it, and nothing does from those of Python
    and NumPy: put back after a prediction, another thread of the caller would draw the same numbers again.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        global _turns
        with _turn, ExitStack() as undo:
            if _turns == 0:
                _random_state_of_torch(undo)
            _turns += 1
            try:
                return function(*args, **kwargs)
            finally:
                _turns -= 1

    return wrapper


class Threads(ThreadPoolExecutor):
    """A pool whose caller does the work where no thread starts any more: the main thread has ended, or a limit is met.

    A fit in a thread that nobody waits for, and one in a function of `atexit`, outlive the main thread.
    """

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As of any pool; without a thread the work is done here, and its exception is in the answer."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:
            done: Future[R] = Future()
            try:
                done.set_result(fn(*args, **kwargs))
            except Exception as error:
                done.set_exception(error)
            return done


@contextmanager
def own_state() -> Iterator[None]:
    """Within the block torch, NumPy, scikit-learn and Pillow have their initial state; afterwards the caller's.

    What a process has once (the default type) is put back by the last of several calls at a time. Random states are
    left alone: see `in_turn`.
    """
    global _inside, _undo
    with ExitStack() as mine:
        with _lock:
            _inside += 1
            mine.callback(_leave)
            if _inside == 1:
                _undo = ExitStack()
                _import_what_draws()
                _threads_of_the_process(_undo)
                _of_the_process(_undo)
        _of_the_thread(mine)
        yield


def _import_what_draws() -> None:
    """Import rich, which draws from Python's random state as it is imported: scikit-learn does that within a call."""
    if "rich.style" not in sys.modules:
        drawn = random.getstate()
        import rich.style  # noqa: F401

        random.setstate(drawn)


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            _undo.close()


def _of_the_thread(undo: ExitStack) -> None:
    """Set what each thread has for itself, and note in `undo` how it was."""
    import numpy as np
    import torch

    undo.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
    undo.enter_context(torch.inference_mode(False))
    undo.enter_context(torch.enable_grad())
    _autocast(undo)
    # Not get_default_device, which fails in torch 2.5 and 2.6 once somebody has set None.
    if torch.empty(0).device.type != "cpu":
        undo.enter_context(torch.device("cpu"))
    sklearn = sys.modules.get("sklearn")
    if sklearn is not None:
        undo.enter_context(
            sklearn.config_context(assume_finite=False, transform_output="default", array_api_dispatch=False)
        )


def _autocast(undo: ExitStack) -> None:
    """No autocast, as if outside of any: what it keeps of weights in half precision goes when the outermost ends."""
    import torch

    for device in ("cpu", "cuda", "mps"):
        if torch.is_autocast_enabled(device):
            torch.set_autocast_enabled(device, False)
            undo.callback(torch.set_autocast_enabled, device, True)
    if not torch.is_autocast_cache_enabled():
        torch.set_autocast_cache_enabled(True)
        undo.callback(torch.set_autocast_cache_enabled, False)
    torch.autocast_increment_nesting()
    for _ in range(torch.autocast_decrement_nesting()):
        torch.autocast_decrement_nesting()
        undo.callback(torch.autocast_increment_nesting)


def _of_the_process(undo: ExitStack) -> None:
    """Set what all threads share, and note in `undo` how it was."""
    import torch

    undo.enter_context(warnings.catch_warnings())
    _set(undo, torch.get_default_dtype, torch.set_default_dtype, torch.float32)
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic[0]:
        torch.use_deterministic_algorithms(False)
        undo.callback(torch.use_deterministic_algorithms, deterministic[0], warn_only=deterministic[1])
    anomaly = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    if anomaly[0]:
        torch.set_anomaly_enabled(False)
        undo.callback(torch.set_anomaly_enabled, *anomaly)
    for place, name, value in _flags():
        with suppress(RuntimeError, AttributeError):  # of another version of torch, or held fast by the caller
            before = getattr(place, name)
            if before != value:
                setattr(place, name, value)
                undo.callback(setattr, place, name, before)
    _precision(undo)
    if (image := sys.modules.get("PIL.Image")) is not None:
        _swap(undo, image, "MAX_IMAGE_PIXELS", MAX_IMAGE_PIXELS)
    if (image_file := sys.modules.get("PIL.ImageFile")) is not None:
        _swap(undo, image_file, "LOAD_TRUNCATED_IMAGES", False)


def _threads_of_the_process(undo: ExitStack) -> None:
    global _threaded
    import torch

    wanted = torch.get_num_threads()
    if alone := _forked and wanted > 1:
        warn_caller(ONE_THREAD)
        wanted = 1
    _set(undo, torch.get_num_threads, torch.set_num_threads, wanted)
    if alone:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        undo.enter_context(threadpool_limits(1, "openmp"))  # of scikit-learn, which has its own
    _threaded = _threaded or wanted > 1


def _flags() -> Iterator[tuple[Any, str, Any]]:
    """Switches of torch's backends that change results."""
    import torch

    yield torch.backends.mkldnn, "enabled", True
    yield torch.backends.mkldnn, "deterministic", False
    yield torch.backends.cudnn, "enabled", True
    yield torch.backends.cudnn, "benchmark", False
    yield torch.backends.cudnn, "deterministic", False


def _precision(undo: ExitStack) -> None:
    """Products of float32 in float32."""
    import torch

    with suppress(RuntimeError):  # torch refuses to answer where its old and its new settings say different things
        before = torch.get_float32_matmul_precision()
        if before != "highest":
            torch.set_float32_matmul_precision("highest")
            undo.callback(torch.set_float32_matmul_precision, before)


def _random_state_of_torch(undo: ExitStack) -> None:
    """The generators of all devices. torch seeds them together, those of a card also before it is used."""
    import torch

    on_cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None

    on_cpu = torch.get_rng_state()

    def restore() -> None:
        torch.set_rng_state(on_cpu)
        if on_cards is not None:
            torch.cuda.set_rng_state_all(on_cards)
        elif torch.cuda.is_available():
            torch.cuda.manual_seed_all(torch.initial_seed())  # what it had been, as nobody had used it

    undo.callback(restore)


def _set(undo: ExitStack, read: Callable[[], Any], write: Callable[[Any], Any], value: Any) -> None:
    """Write a value, and in the end what was there before, each only where it changes something."""
    before = read()

    def put(wanted: Any) -> None:
        if read() != wanted:
            write(wanted)

    put(value)
    undo.callback(put, before)


def _swap(undo: ExitStack, place: Any, name: str, value: Any) -> None:
    undo.callback(setattr, place, name, getattr(place, name))
    setattr(place, name, value)
