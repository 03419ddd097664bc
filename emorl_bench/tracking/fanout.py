"""The record and its view: what is logged goes to the run directory first, and then to whoever shows it.

This is the one boundary at which an exception is swallowed, and only the view's: a tracker that fails (no network, no
disk, not installed) is named once and left alone. The record failing does fail the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from emorl_bench.core.types import Metrics
from emorl_bench.tracking.jsonl import Jsonl

log = logging.getLogger(__name__)


class View(Protocol):
    """Shows a record elsewhere. ``row`` is the row's number in the record, and never decreases."""

    def log(self, metrics: Metrics, *, step: int, row: int) -> None: ...
    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None: ...
    def summarise(self, summary: Mapping[str, float]) -> None: ...
    def close(self, status: str) -> None: ...


class Fanout:
    """A `Tracker`. ``open_view`` is called at once and may fail; ``report`` hears how the view fares."""

    def __init__(
        self, record: Jsonl, open_view: Callable[[], View] | None = None, report: Callable[[str], None] = lambda _: None
    ) -> None:
        self.record = record
        self._report = report
        self._view: View | None = None
        self._shown = 0
        if open_view is not None:
            self._guard(lambda: self._open(open_view))

    def log(self, metrics: Metrics, *, step: int) -> None:
        self.record.log(metrics, step=step)
        row = self._shown = max(self._shown + 1, self.record.rows)
        self._guard(lambda: self._view.log(metrics, step=step, row=row) if self._view else None)

    def again(self) -> None:
        self.record.again()

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.record.table(name, rows)
        self._guard(lambda: self._view.table(name, rows) if self._view else None)

    def summarise(self, summary: Mapping[str, float]) -> None:
        self._guard(lambda: self._view.summarise(summary) if self._view else None)

    def close(self, status: str) -> None:
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
