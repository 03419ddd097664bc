"""Does the response give back what the client said and meant? Learned from graded pairs; reads the prompt too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emorl_bench.assets.scoring import classify
from emorl_bench.core.types import Example
from emorl_bench.scorers.embedded import Embedded


@dataclass(frozen=True)
class Reflection(Embedded):
    name: str = "reflection"

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        return classify(self.twin, "reflection", self.device, [e.prompt for e in examples], responses)
