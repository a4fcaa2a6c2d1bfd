"""Ports for processes that are to meet."""

from __future__ import annotations

import itertools
import os
import socket

FIRST = 20_000  # below those that systems hand out unasked, so that nobody gets one between the look and its use
OWN = itertools.count(FIRST + os.getpid() % 1_000 * 10)  # of this process of the tests, others have others


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    for port in OWN:
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable")
