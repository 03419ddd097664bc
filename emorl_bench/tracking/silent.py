"""A tracker that records nothing: for `emorl-generate`, and for all ranks but the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emorl_bench.core.types import Metrics


class Silent:
    """Records nothing."""

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Record nothing."""

    def again(self) -> None:
        """Nothing was recorded."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record nothing."""

    def summarise(self, summary: Mapping[str, Any], phases: Mapping[str, Mapping[str, float]]) -> None:
        """Show nothing."""

    def close(self, status: str) -> None:
        """Nothing to close."""
