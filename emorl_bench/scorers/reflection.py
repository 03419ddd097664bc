"""Does the response give back what the client said and meant? Learned from graded pairs; reads the prompt too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.assets.scoring import classify
from emorl_bench.core.types import Example


@dataclass(frozen=True)
class Reflection:
    """``twin`` names the set of scorers: ``train``, or ``held_out``, which only the report may use."""

    twin: str = "train"
    device: torch.device | str = "cpu"
    name: str = "reflection"
    bounds: tuple[float, float] = (0.0, 1.0)

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        return classify(self.twin, self.name, self.device, [e.prompt for e in examples], responses)
