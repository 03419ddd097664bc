"""The progress of long work: a rich bar on a terminal, otherwise plain lines with rate and time left."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_EVERY = 10.0  # seconds between two plain lines


class ProgressBar:
    """A progress bar.

    ``with Steps("expert reflection", total=200, unit="prompts") as steps: steps.to(done, "reward 0.81")``
    """

    def __init__(self, label: str, total: float, unit: str, *, quiet: bool = False) -> None:
        """``total`` counts in ``unit``; ``quiet`` shows nothing."""
        self.label, self.total, self.unit, self.quiet = label, total, unit, quiet
        self._started = self._spoke = time.monotonic()
        self._first: float | None = None
        self._done, self._note = 0.0, ""
        self._bar: Progress | None = None
        if sys.stderr.isatty() and not quiet:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, transient=True)

    def __enter__(self) -> ProgressBar:
        """Show the bar."""
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, note="")
        return self

    def to(self, done: float, note: str = "") -> None:
        """Show that ``done`` of ``total`` are finished. Work from before the first call does not count for the rate."""
        self._done, self._note = done, note
        if self._first is None:
            self._first = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif not self.quiet and time.monotonic() - self._spoke >= PLAIN_EVERY:
            self._spoke = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        seconds = time.monotonic() - self._started
        rate = (self._done - (self._first or 0.0)) / max(seconds, 1e-9)
        # a last batch may end beyond the total
        left = f", at most {max(0.0, self.total - self._done) / rate:.0f} s left" if rate > 0 else ""
        note = f", {self._note}" if self._note else ""
        return f"{self.label}: {self._done:.0f}/{self.total:.0f} {self.unit}{note}, {rate:.1f}/s{left}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar, or print a last line where the work took longer than `PLAIN_EVERY` seconds."""
        if self._bar is not None:
            self._bar.stop()
        elif not self.quiet and kind is None and time.monotonic() - self._started >= PLAIN_EVERY:
            print(self._line(), file=sys.stderr, flush=True)
