"""Programs in processes of their own that need not import torch anew: one process has imported it and forks for each.

A program gets its arguments, environment, streams, signals and working directory as from a fresh interpreter. What an
interpreter does before the first line (PYTHONUTF8, PYTHONHASHSEED, the encoding of file names) is as it is here: a test
of that starts an interpreter itself.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

CLOSED = None
COTERIE = "import sys; from coterie.cli import main; sys.exit(main())"
# The command line; with a number in front it kills itself at that flush of a file, before the file is in its place.
SELF_KILLER = """
import os, signal, sys
from coterie.cli import main
left, flush = int(sys.argv.pop(1)), os.fsync
def fsync(file):
    global left
    left -= 1
    if left == 0: os.kill(os.getpid(), signal.SIGKILL)
    flush(file)
os.fsync = fsync
sys.exit(main())
"""
PLACE = "COTERIE_FORKED"  # of the environment: the folder of the process that forks
LONGEST = 1 << 20  # bytes of a request: arguments and environment
IMPORTED = """
torch torchvision timm accelerate sklearn.cluster sklearn.datasets sklearn.manifold scipy.optimize pyarrow.parquet yaml
pandas matplotlib.figure PIL.Image coterie.cli coterie.cli.fit coterie.cli.evaluate coterie.estimator coterie.embedder
coterie.encoders.loading coterie.report.map coterie.review coterie.export
"""
_held: list[int] = []  # open until this process ends


class Process:
    """A program that runs, or ran."""

    def __init__(
        self, program: str, words: tuple[str, ...], given: list[Any], env: Mapping[str, str], cwd: str
    ) -> None:
        files = [tempfile.TemporaryFile() if one is subprocess.PIPE else one for one in given]  # noqa: SIM115
        self._own = {n: file for n, file in enumerate(files) if given[n] is subprocess.PIPE}
        self._said: dict[int, bytes] = {}
        numbers = [file.fileno() for file in files if file is not CLOSED]
        request = {
            "program": program,
            "words": list(words),
            "env": dict(env),
            "cwd": cwd,
            "open": [file is not CLOSED for file in files],
        }
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST)
        self._connection.connect(_server())
        self._connection.sendmsg(
            [json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))]
        )
        self.returncode: int | None = None
        self.pid = int(self._connection.recv(20))

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        """Wait for its end; the exit code, of a signal its negative number."""
        if self.returncode is None:
            self.returncode = int(self._connection.recv(20))
            self._connection.close()
            self._said = {number: self.output(number) for number in self._own}
            for file in self._own.values():
                file.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def output(self, number: int) -> bytes:
        """What it wrote so far to its standard output (1) or error (2), if that is a PIPE."""
        if self.returncode is not None and self._said:
            return self._said[number]
        return os.pread(self._own[number].fileno(), 1 << 30, 0)


def start(
    program: str,
    *words: object,
    env: Mapping[str, str] | None = None,
    cwd: os.PathLike[str] | None = None,
    stdin: Any = subprocess.PIPE,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.PIPE,
) -> Process:
    """Run a program, Python's text, with these arguments. A stream: PIPE to read it afterwards, CLOSED, or a file."""
    place = os.getcwd() if cwd is None else str(cwd)
    return Process(program, tuple(map(str, words)), [stdin, stdout, stderr], os.environ if env is None else env, place)


def run(program: str, *words: object, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end."""
    process = start(program, *words, **more)
    code = process.wait()
    return subprocess.CompletedProcess(list(words), code, *(process._said.get(number, b"") for number in (1, 2)))


def place() -> str:
    """The folder of the process that forks: one for all workers of pytest, which ends with who called this first."""
    if PLACE not in os.environ:
        os.environ[PLACE] = folder = tempfile.mkdtemp(prefix="forked-")
        os.mkfifo(os.path.join(folder, "end"))
        _held.append(os.open(os.path.join(folder, "end"), os.O_RDWR))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return os.environ[PLACE]


@functools.cache
def _server() -> str:
    """The address of the process that forks, which the first who asks starts."""
    import fcntl  # which not every system has on which tests are collected

    address, end = (os.path.join(place(), name) for name in ("socket", "end"))
    with open(os.path.join(place(), "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(address):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening, open(end, "rb") as closed:
                listening.bind(address)
                listening.listen(8)
                command = [sys.executable, __file__, str(listening.fileno())]
                server = subprocess.Popen(command, stdin=closed, pass_fds=[listening.fileno()])
                server.returncode = 0  # without a warning: it may be needed longer than this process
    return address


def _serve(listening: socket.socket) -> dict[str, Any]:
    """Fork for every request. Returns in the forked process alone, ready to run its program."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        if sys.stdin in select.select([listening, sys.stdin], [], [])[0]:
            os._exit(0)
        connection, _ = listening.accept()
        if os.fork() == 0:
            break
        connection.close()
    # Between both stands a process that waits for the program's end and tells its code.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    listening.close()
    content, ancillary, _, _ = connection.recvmsg(LONGEST, socket.CMSG_SPACE(3 * 4))
    numbers = array.array("i", b"".join(data for _, _, data in ancillary))
    child = os.fork()
    if child:
        connection.send(str(child).encode())
        for number in numbers:
            os.close(number)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(OSError):  # who started it may have gone
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    connection.close()
    request: dict[str, Any] = json.loads(content)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    left = iter(numbers)
    for number, is_open in enumerate(request["open"]):
        if is_open:
            source = next(left)
            os.dup2(source, number)
            os.close(source)
        else:
            os.close(number)
    _open_streams(request["open"])
    return request


def _open_streams(is_open: list[bool]) -> None:
    """`sys.stdin` and so on as an interpreter makes them."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: Any = None
        if is_open[number]:
            how = "backslashreplace" if number == 2 else errors or "strict"
            stream = open(number, "w" if number else "r", encoding=encoding or "utf-8", errors=how, closefd=False)  # noqa: SIM115
            if number:
                stream.reconfigure(line_buffering=number == 2 or stream.isatty())
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    for module in IMPORTED.split():
        __import__(module)
    sys.modules["coterie.report.map"].MAP_POINTS = 50  # type: ignore[attr-defined]  # as `quick_maps` of conftest.py
    gc.collect()
    gc.freeze()  # what is here already is looked through no more, which would copy its pages
    found = _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv = ["-c", *found["words"]]
    # What follows is the program's: its globals are those of a main module, its end that of the interpreter.
    for name in [name for name in globals() if not name.startswith("__") and name not in ("found", "name")]:
        del globals()[name]
    del globals()["name"]
    exec(compile(globals().pop("found")["program"], "<string>", "exec"))
