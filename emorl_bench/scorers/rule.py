"""Scorers that are a rule and hold no model: the same on every device, and their own held-out twin."""

from __future__ import annotations

from typing import Self

import torch


class Rule:
    """What a rule-based scorer need not say itself; it adds ``name`` and ``score``."""

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    def prepare(self) -> None:
        """There is nothing to make."""

    def on(self, device: torch.device) -> Self:
        return self

    def held_out(self) -> Self:
        return self

    def fingerprint(self) -> str:
        """Its settings are in the configuration, which is hashed; there is nothing else."""
        return type(self).__qualname__
