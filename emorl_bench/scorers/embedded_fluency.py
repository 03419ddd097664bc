"""Is the response sound English? A small language model's perplexity of the response, mapped to [0, 1].

``clip(1 - ln ppl / ln cap, 0, 1)``: 1 at the lowest perplexity there is, 0 from ``cap`` on. The end token counts, so a
text that stops mid-sentence pays for it. EMORL's (50 - ppl) / 50 under GPT-2 is linear in the perplexity; on a small
vocabulary perplexities are small, and the logarithm (nats per token) spreads them better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emorl_bench.assets.scoring import PERPLEXITY_CAP, fluency
from emorl_bench.core.types import Example
from emorl_bench.scorers.embedded import Embedded


@dataclass(frozen=True)
class Fluency(Embedded):
    """``cap`` is the perplexity from which the score is 0."""

    cap: float = PERPLEXITY_CAP
    name: str = "fluency"

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        return fluency(self.twin, self.device, responses, self.cap)
