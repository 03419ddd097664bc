"""Is the response warm? Learned from graded responses; reads the response alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emorl_bench.assets.scoring import classify
from emorl_bench.core.types import Example
from emorl_bench.scorers.embedded import Embedded


@dataclass(frozen=True)
class Empathy(Embedded):
    name: str = "empathy"

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        return classify(self.twin, "empathy", self.device, [e.prompt for e in examples], responses)
