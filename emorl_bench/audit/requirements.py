"""A requirement of an embedded task: the measured value, and the closed range that it must be in."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement. ``value`` is NaN where nothing could be measured, which fails."""

    task: str
    model: str
    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def met(self) -> bool:
        """Whether the value is in the range."""
        return self.low <= self.value <= self.high

    @property
    def wanted(self) -> str:
        """The range as text."""
        if self.high == math.inf:
            return f"at least {self.low:g}"
        return f"at most {self.high:g}" if self.low == -math.inf else f"{self.low:g} to {self.high:g}"
