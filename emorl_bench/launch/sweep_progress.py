"""What a sweep tells while it runs: a table of the running jobs on a terminal, plain lines elsewhere.

Every job that ends has a line, on a terminal as well. Standard output holds these lines and standard error the table,
so the lines can be kept in a file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emorl_bench.launch.job_process import Outcome
from emorl_bench.launch.run_value import RunValue
from emorl_bench.launch.sweep_job import SweepJob, place, recorded
from emorl_bench.launch.time_left import Clock
from emorl_bench.progress import duration

FIRST_LOOK, LOOK_EVERY = 10.0, 30.0  # seconds until the first plain line about running jobs, and between two of them
COLUMNS = ("job", "phase", "budget", "reward", "tokens/s", "running", "left")


@dataclass
class Running:
    """A job in progress, and what its run directory says of it."""

    job: SweepJob
    pid: int | None
    started: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.time)
    status: Mapping[str, Any] = field(default_factory=dict)

    def look(self) -> None:
        """Read the record of its run."""
        if self.pid is not None and (directory := place(self.job.config)) is not None:
            self.status = recorded(directory, self.pid, self.since)


class SweepProgress:
    """A context manager that shows the sweep for as long as it runs."""

    def __init__(self, jobs: Sequence[SweepJob], workers: int, *, live: bool = True) -> None:
        """``workers`` of the jobs run at a time; ``live``: show the table where there is a terminal."""
        self.waiting = {job.number: job for job in jobs}
        self.running: dict[int, Running] = {}
        self.total, self.clock = len(jobs), Clock(workers)
        self.counts = {"done": 0, "skipped": 0, "failed": 0}
        self._look_at = time.monotonic() + FIRST_LOOK
        self._live: Live | None = None
        self._lock = RLock()  # the records of a sweep are read in a thread of their own (`followed`)
        if live and sys.stderr.isatty():
            console, own = Console(stderr=True), sys.stdout.isatty()
            self._live = Live(
                get_renderable=self.table, console=console, transient=True, redirect_stdout=own, refresh_per_second=2
            )

    def __enter__(self) -> SweepProgress:
        """Show the table, on a terminal."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Remove the table."""
        if self._live is not None:
            self._live.stop()

    def started(self, job: SweepJob, pid: int | None = None) -> None:
        """A job runs now, in the process ``pid`` of this machine."""
        with self._lock:
            del self.waiting[job.number]
            self.running[job.number] = Running(job, pid)

    def recorded(self, job: SweepJob, status: Mapping[str, Any]) -> None:
        """The record of a job that has no process here; the first one says that the job runs."""
        with self._lock:
            if job.number in self.waiting:
                self.started(job)
            if job.number in self.running:
                self.running[job.number].status = status

    def ended(self, job: SweepJob, outcome: Outcome, seconds: float | None = None) -> None:
        """A job has ended, after so many seconds: print its line, once."""
        with self._lock:
            if job.number in self.waiting or job.number in self.running:
                self._end(job, outcome, seconds)

    def _end(self, job: SweepJob, outcome: Outcome, seconds: float | None) -> None:
        ran = self.running.pop(job.number, None)
        self.waiting.pop(job.number, None)
        if seconds is None:
            seconds = 0.0 if ran is None else time.monotonic() - ran.started
        state, value = outcome
        state = "skipped" if isinstance(value, RunValue) and value.skipped else state
        self.counts[state] += 1
        if state == "done":
            self.clock.took(job.kind, seconds)
        ending = f": {value}" if state == "failed" else f": reward {value:.3f}" if isinstance(value, RunValue) else ""
        left = f", {text} left" if (text := self._left()) else ""
        took = "" if state == "skipped" else f" ({duration(seconds)}{left})"
        print(f"[{sum(self.counts.values())}/{self.total}] {state} {job.label}{took}{ending}", flush=True)

    def tick(self) -> None:
        """Look at the running jobs, and now and then print a plain line about them."""
        with self._lock:
            for running in self.running.values():
                running.look()
            if self._live is None and time.monotonic() >= self._look_at and self.running:
                self._look_at = time.monotonic() + LOOK_EVERY
                print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """The running jobs and what is left, as plain text."""
        parts = []
        for running in self.running.values():
            phase, *rest = self._cells(running)[1:]
            words = (f"{rest[0]} of budget", f"reward {rest[1]}", f"{rest[2]} tokens/s", rest[3], f"{rest[4]} left")
            shown = [word for word, cell in zip(words, rest, strict=True) if cell]
            parts.append(f"{running.job.label or 'job'}: {', '.join([phase, *shown])}")
        return f"  running: {'; '.join(parts)} | {self._summary()}"

    def table(self) -> Table:
        """The running jobs and what is left, for a terminal."""
        with self._lock:
            table = Table(*COLUMNS, caption=self._summary(), caption_justify="left", pad_edge=False)
            for running in self.running.values():
                table.add_row(*map(Text, self._cells(running)))
            return table

    def _cells(self, running: Running) -> list[str]:
        """Label, phase, share of the budget, reward, tokens per second, seconds, seconds left; empty where unknown."""
        status, elapsed = running.status, time.monotonic() - running.started
        share, reward, speed = (status.get(key) for key in ("share", "reward", "tokens_per_second"))
        rest = self.clock.rest(running.job.kind, running.job.expected, elapsed, share)
        return [
            running.job.label,
            str(status.get("doing") or status.get("phase") or "starting"),
            "" if share is None else f"{share:.0%}",
            "" if reward is None else f"{reward:.3f}",
            "" if speed is None else f"{speed:,.0f}",
            duration(elapsed),
            "" if rest is None else f"about {duration(rest)}",
        ]

    def _left(self) -> str:
        if not self.waiting and not self.running:
            return ""
        now, clock = time.monotonic(), self.clock
        running = [
            clock.rest(one.job.kind, one.job.expected, now - one.started, one.status.get("share"))
            for one in self.running.values()
        ]
        waiting = {number: clock.whole(job.kind, job.expected) for number, job in self.waiting.items()}
        left = clock.left(running, waiting)
        return "" if left is None else f"about {duration(left)}"

    def _summary(self) -> str:
        counts = {"running": len(self.running), "waiting": len(self.waiting)} | self.counts
        said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
        return f"{said}; {text} left" if (text := self._left()) else said
