"""The record and its view: metrics go to the run directory first, and then to a view that shows them.

Only here is an exception swallowed, and only one of the view. A view that fails (no network, no disk, not installed) is
reported once and then no longer used. A failure of the record ends the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emorl_bench.core.types import Metrics
from emorl_bench.tracking.closing import show_end
from emorl_bench.tracking.jsonl import Jsonl
from emorl_bench.tracking.method_rows import MethodRows
from emorl_bench.tracking.view import Row, View

log = logging.getLogger(__name__)

Open = Callable[[Sequence[Row]], View | None]
"""Opens a view, given the rows that are recorded already."""


class Fanout:
    """A `Tracker` with a record and at most one view."""

    def __init__(
        self, record: Jsonl, open_view: Open | None = None, report: Callable[[str], None] = lambda _: None
    ) -> None:
        """Open the view, which may fail.

        Args:
            record: the run directory's record.
            open_view: opens the view; None for no view.
            report: called with the view's state: ``ok`` or its error.
        """
        self.record = record
        self._rows = MethodRows.after(record.rows)
        self._report = report
        self._view: View | None = None
        if open_view is not None:
            self._guard(lambda: self._open(open_view))

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Record metrics of one step, then show them. What is recorded already is not recorded again."""
        row = self._rows.row(metrics, step)
        if row is None:
            return
        self.record.append(row)
        self._show(lambda view: view.log(row, row=len(self.record.rows)))

    def again(self) -> None:
        """See `runner.ladder.Repeating`."""
        self._rows.again()

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record a table."""
        self.record.table(name, rows)

    def summarise(self, summary: Mapping[str, Any], phases: Mapping[str, Mapping[str, float]]) -> None:
        """Show what the run has ended with; the run directory has it already.

        Args:
            summary: the content of ``summary.json``.
            phases: the content of ``cost.json``.
        """
        self._show(lambda view: show_end(view, summary, phases, self.record.directory))

    def close(self, status: str) -> None:
        """Close the view. Every row of the record was flushed when it was logged."""
        self._show(lambda view: view.close(status))

    def _open(self, open_view: Open) -> None:
        self._view = open_view(self.record.rows)
        self._report("ok")

    def _show(self, act: Callable[[View], None]) -> None:
        view = self._view
        if view is not None:
            self._guard(lambda: act(view))

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self._view = None
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            log.warning("tracker failed (%s); the run goes on, and its directory has every number", reason)
            self._report(f"failed: {reason}")
