"""A run that is stopped in its middle."""

from __future__ import annotations


class StopAfter:
    """A progress that presses Ctrl-C when the given number of batches is done; 0: never. `begun`: stages, and where."""

    def __init__(self, batches: int) -> None:
        self.left, self.begun = batches, list[tuple[str, int]]()

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self.begun.append((stage, done))

    def step(self, losses: dict[str, float] | None) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def epoch(self, record: object) -> None: ...
