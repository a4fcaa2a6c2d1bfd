"""A run that is stopped in its middle."""

from __future__ import annotations


class StopAfter:
    """A progress that presses Ctrl-C when the given number of batches, of one stage or of all, is done; 0: never.

    `begun`: of every stage that began its name, the number of its batches, and how many were done before.
    """

    def __init__(self, batches: int, stage: str | None = None) -> None:
        self.left, self.stage, self.now, self.begun = batches, stage, "", list[tuple[str, int, int]]()

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self.now = stage
        self.begun.append((stage, epochs * steps, done))

    def step(self, losses: dict[str, float] | None) -> None:
        if self.stage in (None, self.now):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def epoch(self, record: object) -> None: ...
