"""Being stopped: by Ctrl-C, by SIGTERM (a scheduler, `kill`) and by SIGHUP (a terminal that is closed).

Each becomes a KeyboardInterrupt, at once, or in training after the step that is on, where the state is whole and a
checkpoint can be written. A second signal stops at once everywhere.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Stopped(KeyboardInterrupt):
    """This process was asked to stop, by the signal `number`; `again`: more than once."""

    def __init__(self, text: str = "", number: int = signal.SIGINT, *, again: bool = False) -> None:
        super().__init__(text)
        self.number, self.again = number, again


@dataclass
class Stop:
    """Whether this process was asked to stop (`asked`), and whether it must finish a step first (`waits`)."""

    asked: int | None = None
    waits: bool = False

    def heed(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        again = self.asked is not None
        self.asked = number if self.asked is None else self.asked
        if again or not self.waits:
            raise Stopped(number=number, again=again)


_stop: Stop | None = None  # of the main thread, the only one that Python hands signals to


@contextmanager
def heed_signals(*, pass_on: bool = True) -> Iterator[None]:
    """Within the block, in the main thread, signals that have no other handler stop the work in good order.

    The handlers are put back in the end. Then, with `pass_on`, a signal that would have ended the process does so.
    """
    global _stop
    if _stop is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    stop, before = Stop(), {}
    for name in SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = signal.signal(number, stop.heed)
    _stop = stop
    try:
        yield
    finally:
        _stop = None
        for number, handler in before.items():
            signal.signal(number, handler)
        raised = isinstance(sys.exception(), KeyboardInterrupt)
        if pass_on and stop.asked is not None and (stop.asked != signal.SIGINT or not raised):
            signal.raise_signal(stop.asked)


def asked() -> int | None:
    """The signal by which this process was asked to stop, within `heed_signals`."""
    return None if _stop is None else _stop.asked


@contextmanager
def between_steps() -> Iterator[Stop]:
    """Within the block, a first signal only sets `asked`, which the code inside checks where the state is complete."""
    stop = _stop if _stop is not None and threading.current_thread() is threading.main_thread() else Stop()
    stop.waits = True
    try:
        yield stop
    finally:
        stop.waits = False
