"""Work that takes longer than an answer: one job at a time, in a thread, with its progress."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coterie.types import CoterieError

Report = Callable[[int, int], None]  # done, of how many
JobBody = Callable[[Report], tuple[str, Any]]
"""What a job does: it reports how far it is, and returns a sentence for the page and a result for its script."""


@dataclass
class ShownJob:
    """A job as pages show it. `state`: running, done or failed."""

    name: str
    state: str = "running"
    done: int = 0
    total: int = 0
    message: str = ""
    result: Any = None

    def shown(self) -> dict[str, Any]:
        """The job as JSON."""
        return vars(self).copy()


class Jobs:
    """The job that runs and the last one of each name."""

    def __init__(self) -> None:
        self.last: dict[str, ShownJob] = {}
        self._guard = threading.Lock()

    def start(self, name: str, task: JobBody) -> ShownJob | None:
        """Begin a job; None while another one runs."""
        with self._guard:
            if any(job.state == "running" for job in self.last.values()):
                return None
            job = self.last[name] = ShownJob(name)

        def report(done: int, total: int) -> None:
            job.done, job.total = done, total

        def run() -> None:
            try:
                job.message, job.result = task(report)
                job.state = "done"
            except CoterieError as error:
                job.message, job.state = str(error), "failed"
            except Exception as error:  # a job must not end without a word
                job.message = f"This is an error of coterie itself: {type(error).__name__}: {error}"
                job.state = "failed"

        threading.Thread(target=run, name=f"job-{name}", daemon=True).start()
        return job
