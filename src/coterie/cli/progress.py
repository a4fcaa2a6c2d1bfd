"""A progress bar for long work: time left, speed, and the losses, all on standard error."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from coterie.report.wording import duration

TIMED_SECONDS = 3.0  # of steps that an estimate stands on
WORTH_SAYING = 20.0  # seconds that are left

PATIENCE = 1.0  # seconds of reading before there is a bar for it


class StageBar:
    """One bar for each stage of a run; `training.engine` drives it. Where nobody watches, a line at times."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self.console, self.quiet = console, quiet
        columns = (
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        self.bars = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        self.task: TaskID | None = None
        self.prediction: TaskID | None = None
        self.looking: dict[str, tuple[TaskID | None, float]] = {}  # by what is being read: its bar, and when it began
        self.stage, self.left = "", 0  # steps of the stage
        self.timed: int | None = None  # steps that were timed; None once the estimate is made
        self.since = 0.0
        self.items = 0  # how many there are to predict; whoever opens the source sets it

    def __enter__(self) -> StageBar:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self.stage, self.left, self.timed, self.since = stage, epochs * steps - done, 0, 0.0
        self.task = self.bars.add_task(stage, total=epochs * steps, completed=done, losses="")

    def step(self, losses: dict[str, float] | None) -> None:
        if self.task is None:
            return
        self._estimate()
        if losses is None:
            self.bars.advance(self.task)
        else:
            self.bars.update(self.task, advance=1, losses=_words(losses))

    def _estimate(self) -> None:
        """Once a stage, after its first steps: how long it will take. The very first step warms up and is not counted.

        In a terminal the bar says it, too, but only of where it is; a line stays.
        """
        if self.timed is None:
            return
        now, self.left = time.monotonic(), self.left - 1
        if self.timed == 0:
            self.since = now
        elif now - self.since >= TIMED_SECONDS:
            seconds = (now - self.since) / self.timed * self.left
            self.timed = None
            if seconds >= WORTH_SAYING:
                self.say(f"{self.stage}: about {duration(seconds)} left".replace("\N{NO-BREAK SPACE}", " "))
            return
        self.timed += 1

    def epoch(self, record: object) -> None:
        """Without a terminal (a log file), one line for each epoch, but at most about twenty a stage."""
        if self.quiet or self.console.is_terminal:
            return
        number, total = record.epoch, record.epochs  # type: ignore[attr-defined]
        if number == total or number % -(-total // 20) == 0:
            losses = _words(record.losses)  # type: ignore[attr-defined]
            self.console.print(f"{record.stage} epoch {number}/{total}: {losses}", highlight=False, soft_wrap=True)  # type: ignore[attr-defined]

    def predicted(self, count: int) -> None:
        """`count` more items were assigned to their groups."""
        if self.prediction is None:
            self.prediction = self.bars.add_task("predict", total=self.items, losses="")
        self.bars.advance(self.prediction, count)

    def reading(self, doing: str, done: int, total: int) -> None:
        """`done` of `total` pictures of a source are read; a bar appears when that takes more than a moment."""
        task, begun = self.looking.setdefault(doing, (None, time.monotonic()))
        if task is None and done < total and time.monotonic() - begun > PATIENCE:
            task = self.bars.add_task(doing, total=total, losses="")
            self.looking[doing] = task, begun
        if task is not None:
            self.bars.update(task, completed=done)
        if done == total:
            self.looking.pop(doing)

    def say(self, text: str) -> None:
        """A line for the user."""
        self.console.print(f"[dim]{escape(text)}[/dim]", highlight=False, soft_wrap=True)


def _words(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
