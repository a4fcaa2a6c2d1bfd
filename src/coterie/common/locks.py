"""Locks on open files: one process at a time, until it lets go or ends, however that ends.

May not live here: what is locked, and what to tell who finds it locked.
"""

from __future__ import annotations

import contextlib
import os
import weakref


class Lock:
    """A lock on the file of an open descriptor, which is its own from then on.

    Raises BlockingIOError where another process has it, and OSError or ImportError where the file system or the system
    knows no locks; the descriptor is then closed.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        try:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            self.close()
            raise
        _LOCKS.add(self)

    def release(self) -> None:
        """Let others have it; once is enough."""
        if self.descriptor >= 0:
            import fcntl

            with contextlib.suppress(OSError):
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)  # a process forked just now may have the file open, too
            self.close()

    def close(self) -> None:
        """Have nothing to do with it any more; it stays locked for another process that has the file open."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


_LOCKS: weakref.WeakSet[Lock] = weakref.WeakSet()


def _after_fork() -> None:
    """A process that was forked from this one has the same open files: the lock would last as long as it lives."""
    for lock in list(_LOCKS):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
