"""What the embedded scorers share: a twin on a device, and a fingerprint of the code that they are built by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch

from emorl_bench.assets.cache import content_key


@dataclass(frozen=True)
class Embedded:
    """``twin`` names the set of scorers: ``train``, or the independently trained ``held_out``, for the report only."""

    twin: str = "train"
    device: str = "cpu"

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    def prepare(self) -> None:
        """All embedded assets are built at once, where they are first used."""

    def on(self, device: torch.device) -> Self:
        return replace(self, device=str(device))

    def held_out(self) -> Self:
        return replace(self, twin="held_out")

    def fingerprint(self) -> str:
        return f"{type(self).__name__}-{self.twin}-{content_key()}"
