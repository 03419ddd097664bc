"""What a tracker is: settings that open a view of a run, and the view that then shows the run's record elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Row = Mapping[str, float]


@dataclass(frozen=True)
class RunIdentity:
    """A run as a view shows it among others."""

    id: str
    """Eight hexadecimal digits: the hash of the run directory."""
    method: str
    task: str
    model: str
    seed: int
    sweep: str
    """Hash of what the runs of one sweep have in common."""
    directory: Path
    runs_dir: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    notes: str = ""

    @property
    def name(self) -> str:
        """Method and seed, such as ``emorl-s0``."""
        return f"{self.method}-s{self.seed}"

    @property
    def group(self) -> str:
        """Task, model and sweep: the runs that are compared with one another."""
        return f"{self.task}/{self.model}/{self.sweep}"


class View(Protocol):
    """Shows a record elsewhere. The runner calls `close` exactly once, at the end of the run."""

    def log(self, metrics: Row, *, row: int) -> None:
        """Show a row of the record. ``row`` is its number, from 1; it rises by one each time."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show a table."""

    def image(self, name: str, png: bytes) -> None:
        """Show a picture."""

    def summarise(self, numbers: Mapping[str, float]) -> None:
        """Show the numbers that a run ends with."""

    def close(self, status: str) -> None:
        """End the view with ``done`` or ``failed``."""


class Viewer(Protocol):
    """Settings of a tracker, from config: what ``tracker._target_`` names.

    A class that needs packages of an extra says so in ``packages``: package -> the extra of this distribution.
    One whose `open` imports large modules names them in ``modules``: a sweep imports them once for all its jobs.
    """

    def open(self, run: RunIdentity, rows: Sequence[Row]) -> View | None:
        """Open the view of a run, or None where nothing beside the run directory is wanted.

        Args:
            run: which run.
            rows: the rows that earlier sessions have recorded. A view shows each of them once: those that it has lost
                when a session was killed are shown now.
        """


@dataclass(frozen=True)
class Local:
    """The run directory only."""

    def open(self, run: RunIdentity, rows: Sequence[Row]) -> None:
        """No view."""
