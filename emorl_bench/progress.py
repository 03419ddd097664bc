"""The progress of long work: a rich bar on a terminal, otherwise plain lines with rate and time left.

A run directory listens as well (`reported_to`), so that a sweep and ``emorl-bench status`` can tell how far a run is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_EVERY = 10.0  # seconds between two plain lines
FEWEST = 2  # steps from which the time that is left is told: the first one loads what the others have at hand


@dataclass(frozen=True)
class Report:
    """How far a piece of work has come."""

    label: str
    done: float
    total: float | None
    """None: unknown."""
    reward: float | None
    """Mean reward of the last step; None where there is none."""
    tokens_per_second: float | None


Listener = Callable[[Report], None]
_listeners: list[Listener] = []


@contextmanager
def reported_to(listener: Listener) -> Iterator[None]:
    """Inside the block, all progress of this process is told to the listener too, at every step."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def duration(seconds: float) -> str:
    """Seconds as words: ``41 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _bar() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # where there is a terminal

    label, note = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[note]}", markup=False)
    return Progress(label, BarColumn(), note, TimeRemainingColumn(), transient=True)


class ProgressBar:
    """A progress bar.

    ``with ProgressBar("expert reflection", total=200, unit="prompts") as bar: bar.to(done, "reward 0.81")``
    """

    def __init__(
        self,
        label: str,
        total: float | None,
        unit: str,
        *,
        quiet: bool = False,
        tokens: Callable[[], int] | None = None,
    ) -> None:
        """``total`` counts in ``unit``; None where it is unknown.

        Args:
            label: what is being done.
            total: the end of the work.
            unit: what it counts.
            quiet: show nothing. Listeners are told nevertheless.
            tokens: the number of tokens generated so far, for their rate.
        """
        self.label, self.total, self.unit, self.quiet = label, total, unit, quiet
        self._tokens = tokens
        self._started = self._spoke = time.monotonic()
        self._first: float | None = None
        self._done, self._note, self._steps = 0.0, "", 0
        self._bar: Progress | None = None
        if sys.stderr.isatty() and not quiet:
            self._bar = _bar()

    def __enter__(self) -> ProgressBar:
        """Show the bar."""
        self._began_with = self._tokens() if self._tokens else 0
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, note="")
        return self

    def to(self, done: float, note: str = "", reward: float | None = None) -> None:
        """Show that ``done`` of ``total`` are finished. Work from before the first call does not count for the rate."""
        self._done, self._note = done, note
        if self._first is None:
            self._first = done
        self._steps += done > self._first
        report = Report(self.label, done, self.total, reward, self._speed())
        for listener in _listeners:
            listener(report)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=", ".join(self._notes()))
        elif not self.quiet and time.monotonic() - self._spoke >= PLAIN_EVERY and not self._complete:
            self._spoke = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    @property
    def _complete(self) -> bool:
        return self.total is not None and self._done >= self.total

    def _speed(self) -> float | None:
        if self._tokens is None:
            return None
        return (self._tokens() - self._began_with) / max(time.monotonic() - self._started, 1e-9)

    def _notes(self) -> list[str]:
        speed = self._speed()
        return [note for note in (self._note, f"{speed:,.0f} tokens/s" if speed else "") if note]

    def _line(self, *, ended: bool = False) -> str:
        seconds = time.monotonic() - self._started
        rate = (self._done - (self._first or 0.0)) / max(seconds, 1e-9)
        of = "" if self.total is None else f"/{self.total:.0f}"
        ending = [f"took {duration(seconds)}"] if ended else []
        if self._steps >= FEWEST and self.total is not None and not ended:
            ending = [f"at most {duration((self.total - self._done) / rate)} left"]
        return ", ".join([f"{self.label}: {self._done:.0f}{of} {self.unit}", *self._notes(), f"{rate:.1f}/s", *ending])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar, or print a last line where the work took longer than `PLAIN_EVERY` seconds."""
        if self._bar is not None:
            self._bar.stop()
        elif not self.quiet and kind is None and time.monotonic() - self._started >= PLAIN_EVERY:
            print(self._line(ended=True), file=sys.stderr, flush=True)
