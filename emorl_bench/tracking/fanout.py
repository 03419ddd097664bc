"""The record and its view: metrics go to the run directory first, and then to a view that shows them.

Only here is an exception swallowed, and only one of the view. A view that fails (no network, no disk, not installed) is
reported once and then no longer used. A failure of the record ends the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from emorl_bench.core.types import Metrics
from emorl_bench.tracking.jsonl import Jsonl

log = logging.getLogger(__name__)


class View(Protocol):
    """Shows a record elsewhere. ``row`` is the number of the row in the record; it never decreases."""

    def log(self, metrics: Metrics, *, step: int, row: int) -> None:
        """Show metrics of one step."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show a table."""

    def summarise(self, summary: Mapping[str, float]) -> None:
        """Show the numbers of the summary."""

    def close(self, status: str) -> None:
        """End the view with ``done`` or ``failed``."""


class Fanout:
    """A `Tracker` with a record and at most one view."""

    def __init__(
        self, record: Jsonl, open_view: Callable[[], View] | None = None, report: Callable[[str], None] = lambda _: None
    ) -> None:
        """Open the view, which may fail.

        Args:
            record: the run directory's record.
            open_view: opens the view; None for no view.
            report: called with the view's state: ``ok`` or its error.
        """
        self.record = record
        self._report = report
        self._view: View | None = None
        self._shown = 0
        if open_view is not None:
            self._guard(lambda: self._open(open_view))

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Record metrics of one step, then show them."""
        self.record.log(metrics, step=step)
        row = self._shown = max(self._shown + 1, self.record.rows)
        self._guard(lambda: self._view.log(metrics, step=step, row=row) if self._view else None)

    def again(self) -> None:
        """See `runner.ladder.Repeating`."""
        self.record.again()

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record a table, then show it."""
        self.record.table(name, rows)
        self._guard(lambda: self._view.table(name, rows) if self._view else None)

    def summarise(self, summary: Mapping[str, float]) -> None:
        """Show the numbers of the summary; the run directory has them already."""
        self._guard(lambda: self._view.summarise(summary) if self._view else None)

    def close(self, status: str) -> None:
        """Close record and view."""
        self.record.close(status)
        self._guard(lambda: self._view.close(status) if self._view else None)

    def _open(self, open_view: Callable[[], View]) -> None:
        self._view = open_view()
        self._report("ok")

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self._view = None
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            log.warning("tracker failed (%s); the run goes on, and its directory has every number", reason)
            self._report(f"failed: {reason}")
