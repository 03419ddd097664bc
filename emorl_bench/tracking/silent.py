"""A tracker that keeps nothing: for talking to a run without adding to its record, and for all ranks but the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emorl_bench.core.types import Metrics


class Silent:
    def log(self, metrics: Metrics, *, step: int) -> None:
        """Not kept."""

    def again(self) -> None:
        """There is nothing to replace."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Not kept."""

    def summarise(self, summary: Mapping[str, float]) -> None:
        """Not kept."""

    def close(self, status: str) -> None:
        """Nothing is open."""
