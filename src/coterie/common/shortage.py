"""Recognises from many libraries' errors what the machine lacks: memory, threads, open files.

Imports nothing of coterie.
"""

from __future__ import annotations

import errno

MEMORY = (
    *("can't allocate memory", "cannot allocate memory", "out of memory", "not enough memory", "bad_alloc"),
    *("unable to mmap", "failed to map segment", "could not create a memory", "std::bad_array_new_length"),
)
THREADS = ("can't start new thread", "cannot start new thread", "thread creation failed", "pthread_create")

STARTERS = ("subprocess", "multiprocessing", "threading", "concurrent")  # modules


def shortage(error: BaseException) -> str | None:
    """One sentence for an error that says that the machine has too little of something, None for any other."""
    text = str(error).lower()
    number = error.errno if isinstance(error, OSError) else None
    detail = f" ({' '.join(str(error).split())[:200]})" if text else ""
    told = isinstance(error, RuntimeError | ImportError | OSError | ValueError | SystemError)
    # The words of an InputError or of a path are no signs.
    told = told and not type(error).__module__.startswith("coterie.") and number is None
    if isinstance(error, MemoryError) or number == errno.ENOMEM or (told and any(sign in text for sign in MEMORY)):
        return f"There is not enough memory{detail}: give it more, fewer items at a time, or a smaller backbone."
    begun = number == errno.EAGAIN and _begins_work(error)
    if begun or (told and any(sign in text for sign in THREADS)):
        return f"The system gives this process no more threads{detail}: raise its limit, or stop other processes."
    if number in (errno.EMFILE, errno.ENFILE):
        return f"The system lets this process open no more files{detail}: raise its limit (ulimit -n)."
    if number == errno.EAGAIN:
        return f"A file or a pipe cannot be used just now{detail}: try again, or take another place."
    return None


def _begins_work(error: BaseException) -> bool:
    """Whether an error comes from where processes and threads are begun; files and pipes that wait have its number."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] in STARTERS
