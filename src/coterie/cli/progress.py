"""A progress bar for long work: how far it is, the time left, and the losses, all on standard error."""

from __future__ import annotations

import time
from dataclasses import dataclass
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
from rich.table import Column

from coterie.report.wording import duration
from coterie.training.history import EpochRecord

TIMED_SECONDS = 3.0  # of steps that an estimate stands on
WORTH_SAYING = 20.0  # seconds that are left
LINES = 20  # for the epochs of a stage, where there is no bar

PATIENCE = 1.0  # seconds of reading before there is a bar for it
BETWEEN = 30.0  # seconds between two lines about what is being read, where there is no bar


class StageBar:
    """One bar for each stage of a run; `training.engine` drives it. Without a terminal it says a line at times."""

    def __init__(self, console: Console, *, quiet: bool, verbose: bool = False) -> None:
        self.console, self.quiet, self.verbose = console, quiet, verbose
        self.live = console.is_terminal and not console.is_dumb_terminal
        columns = (
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        )  # the losses take what room is left
        self.bars = Progress(*columns, console=console, disable=quiet or not self.live, expand=True)
        self.task: TaskID | None = None
        self.counts: dict[str, Count] = {}  # by what is being done
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
        if not self.bars.disable:  # or rich 13.8 writes an empty line
            self.bars.stop()

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self.stage, self.left, self.timed, self.since = stage, epochs * steps - done, 0, 0.0
        self.task = self.bars.add_task(stage, total=epochs * steps, completed=done, losses="")
        if self.verbose:
            self.say(f"{stage}: {epochs:,} epochs of {steps:,} steps" + (f", {done:,} steps are done" if done else ""))

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

    def epoch(self, record: EpochRecord) -> None:
        """A line for the epoch with -v; without a terminal for every so many, about twenty a stage."""
        often = 1 if self.verbose else -(-record.epochs // LINES)
        if self.quiet or (self.live and not self.verbose):
            return
        if record.epoch == record.epochs or record.epoch % often == 0:
            time_taken = f"  {record.seconds:.1f} s" if self.verbose else ""
            self._line(f"{record.stage} epoch {record.epoch}/{record.epochs}: {_words(record.losses)}{time_taken}")

    def predicted(self, count: int) -> None:
        """`count` more items were assigned to their groups."""
        before = self.counts.get("predict")
        self._count("predict", (before.done if before is not None else 0) + count, self.items, patience=0.0)

    def reading(self, doing: str, done: int, total: int) -> None:
        """`done` of `total` pictures of a source are read; a bar appears when that takes more than a moment."""
        self._count(doing, done, total, patience=PATIENCE)

    def looked(self, text: str) -> None:
        """One more of an unknown number of steps is done ("12 groups")."""
        if not self.live or self.verbose:
            self._line(f"looked at {text}")
        if not self.live:
            return
        count = self.counts.setdefault("looked at", Count(began=time.monotonic(), said=0.0))
        if count.task is None:
            count.task = self.bars.add_task("choose-k", total=None, losses="")
        self.bars.update(count.task, advance=1, losses=f"looked at {text}")

    def _count(self, doing: str, done: int, total: int, *, patience: float) -> None:
        now = time.monotonic()
        count = self.counts.setdefault(doing, Count(began=now, said=now))
        count.done = done
        if self.live:
            if count.task is None and done < total and now - count.began >= patience:
                count.task = self.bars.add_task(doing, total=total, losses="")
            if count.task is not None:
                self.bars.update(count.task, completed=done)
        elif 0 < done < total and now - count.said >= BETWEEN:
            count.said = now
            left = duration((now - count.began) / done * (total - done)).replace("\N{NO-BREAK SPACE}", " ")
            self._line(f"{doing}: {done:,} of {total:,}, about {left} left")
        if done >= total:
            self.counts.pop(doing)
            if self.verbose:
                self._line(f"{doing}: {done:,} in {now - count.began:.1f} s")

    def say(self, text: str) -> None:
        """A line for the user."""
        self.console.print(f"[dim]{escape(text)}[/dim]", highlight=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


@dataclass
class Count:
    """Work that is counted in items: its bar, how many are done, when it began, and when a line last said so."""

    began: float  # seconds
    said: float
    done: int = 0
    task: TaskID | None = None


def _words(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:z.3f}" for name, value in losses.items())
