"""How long a sweep still takes: each kind of job has its own time, so the longest jobs do not stand for all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

LEAST_SHARE = 0.05  # of a job's budget: the time of its start says little about the rest


class Clock:
    """Learns how long jobs take, and extrapolates."""

    def __init__(self, workers: int) -> None:
        """``workers``: jobs that run at a time."""
        self.workers = workers
        self._taken: dict[str, list[float]] = defaultdict(list)

    def took(self, kind: str, seconds: float) -> None:
        """A job of this kind has ended, and did all of its work."""
        self._taken[kind].append(seconds)

    def whole(self, kind: str, expected: float | None) -> float | None:
        """Seconds of one job: the mean of its kind in this sweep, else what records expect, else the mean of all."""
        if own := self._taken.get(kind):
            return sum(own) / len(own)
        if expected is not None:
            return expected
        every = [seconds for taken in self._taken.values() for seconds in taken]
        return sum(every) / len(every) if every else None

    def rest(self, kind: str, expected: float | None, elapsed: float, share: float | None) -> float | None:
        """Seconds that a running job still takes.

        Args:
            kind: its kind.
            expected: what records expect of the whole job.
            elapsed: seconds since its start.
            share: how much of its budget it has spent; None: unknown.
        """
        if share is not None and share >= LEAST_SHARE:
            return elapsed * (1 - min(share, 1.0)) / share
        whole = self.whole(kind, expected)
        return None if whole is None else max(0.0, whole - elapsed)

    def left(self, running: Sequence[float | None], waiting: Mapping[int, float | None]) -> float | None:
        """Seconds until all jobs have ended; None where the time of one is unknown.

        ``running`` holds the rest of each running job, ``waiting`` the whole time of each waiting one, by number. No
        schedule is shorter than the mean load of a worker, nor than the longest job.
        """
        known = [seconds for seconds in (*running, *waiting.values()) if seconds is not None]
        if len(known) < len(running) + len(waiting):
            return None
        return max(sum(known) / self.workers, max(known, default=0.0))
