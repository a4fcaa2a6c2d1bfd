"""What the machine lacks, by the errors of Python and of libraries; other errors are told by nobody as a shortage."""

from __future__ import annotations

import errno

import pytest

from coterie.common.shortage import shortage
from coterie.types import InputError

MEMORY, THREADS, FILES = "There is not enough memory", "no more threads", "open no more files"
WAITING = "A file or a pipe cannot be used just now"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), MEMORY),
        (MemoryError("Unable to allocate 7.45 GiB for an array"), MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), MEMORY),
        (ImportError("libtorch.so: failed to map segment from shared object"), MEMORY),
        (RuntimeError("can't start new thread"), THREADS),
        (OSError(errno.EMFILE, "Too many open files"), FILES),
        (OSError(errno.ENFILE, "Too many open files in system"), FILES),
    ],
)
def test_a_shortage_is_named_with_the_words_of_the_error(error: BaseException, says: str) -> None:
    found = shortage(error)
    assert found is not None
    assert says in found
    assert (f"({error})" in found) == bool(str(error))


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("subprocess", THREADS),
        ("multiprocessing.popen_fork", THREADS),
        ("coterie.common.locks", WAITING),
        ("gzip", WAITING),
        (None, WAITING),
    ],
)
def test_only_where_a_process_begins_its_number_is_a_lack_of_threads(module: str | None, says: str) -> None:
    error = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    if module is not None:
        with pytest.raises(BlockingIOError):
            exec("raise error", {"__name__": module, "error": error})
    assert says in str(shortage(error))


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file", "out of memory.png"),
        InputError("The folder 'out of memory' is empty."),
        KeyError("out of memory"),
        RuntimeError("shapes do not fit"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_the_name_of_a_file_or_another_error_is_no_shortage(error: BaseException) -> None:
    assert shortage(error) is None


def test_a_long_error_is_cut_and_put_on_one_line() -> None:
    found = shortage(RuntimeError("out of memory\n" + 300 * "x"))
    assert found is not None
    assert "\n" not in found
    assert "x" * 186 in found
    assert "x" * 187 not in found
