"""What scorers share: `Rule` for those that hold no model, `DeviceScorer` for those that run on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch

from emorl_bench.core.ledger import Cost


class Rule:
    """A scorer that is a rule: it is the same on every device, and is its own held-out twin.

    A subclass adds ``name`` and ``score``.
    """

    @property
    def bounds(self) -> tuple[float, float]:
        """Scores are in [0, 1]."""
        return 0.0, 1.0

    def prepare(self) -> None:
        """A rule has nothing to prepare."""

    def on(self, device: torch.device) -> Self:
        """The rule itself: it runs on the CPU."""
        return self

    def held_out(self) -> Self:
        """The rule itself: it is its own twin."""
        return self

    def fingerprint(self) -> str:
        """The name of the class. Its settings are in the configuration, which is hashed as well."""
        return type(self).__qualname__

    def costs(self) -> Mapping[str, Cost]:
        """None: there are no forms to compare."""
        return {}


@dataclass(frozen=True, kw_only=True)
class DeviceScorer:
    """A scorer with a model that runs on ``device``, whose scores are in [0, 1].

    ``block_bytes`` bounds what it makes of logits at a time (`models.readout`); None: the largest block of a run.
    """

    device: str = "cpu"
    block_bytes: int | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """Scores are in [0, 1]."""
        return 0.0, 1.0

    def on(self, device: torch.device) -> Self:
        """The same scorer on a device."""
        return replace(self, device=str(device))

    def within(self, block_bytes: int) -> Self:
        """The same scorer with another bound of its blocks."""
        return replace(self, block_bytes=block_bytes)

    def costs(self) -> Mapping[str, Cost]:
        """None: there are no forms to compare."""
        return {}
