"""The K scorers of a task as one: asked once for each distinct (prompt, response), metered, and checked.

A scorer that returns nonsense stops the run with its name and the text that caused it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Scorer
from emorl_bench.core.types import Example, Rollout

EXCERPT = 80  # characters of an offending text that are shown
TOLERANCE = 1e-4  # by which rounding may leave the declared bounds


@dataclass
class ScorerPanel:
    scorers: Sequence[Scorer]
    ledger: Ledger
    _known: dict[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)  # (prompt, response) -> K scores

    @property
    def objectives(self) -> tuple[str, ...]:
        return tuple(scorer.name for scorer in self.scorers)

    @torch.no_grad()
    def score(self, rollout: Rollout) -> Tensor:
        """(B, K) float32 on the CPU.

        Raises:
            UserError: a scorer returned a wrong shape, a NaN or a value out of its bounds.
        """
        keys = [(e.prompt, r) for e, r in zip(rollout.examples, rollout.responses, strict=True)]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if new:
            examples = [Example("", prompt) for prompt, _ in new]
            responses = [response for _, response in new]
            columns = [self._ask(scorer, examples, responses).tolist() for scorer in self.scorers]
            self._known |= dict(zip(new, zip(*columns, strict=True), strict=True))
        return torch.tensor([self._known[key] for key in keys], dtype=torch.float32)

    def _ask(self, scorer: Scorer, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        with self.ledger.metered(f"score/{scorer.name}") as call:
            scores_B = scorer.score(examples, responses)
            call.tokens = len(responses)
        cost = self.ledger.current
        cost.scorer_calls += 1
        cost.scored_texts += len(responses)
        if scores_B.shape != (len(responses),):
            raise UserError(
                f"scorer '{scorer.name}': returned shape {tuple(scores_B.shape)} for {len(responses)} responses "
                f"(the first: {responses[0][:EXCERPT]!r}); it must return one number each"
            )
        scores_B = scores_B.detach().float().cpu()
        low, high = scorer.bounds
        wrong = ~((scores_B >= low - TOLERANCE) & (scores_B <= high + TOLERANCE))  # true for NaN as well
        if wrong.any():
            at = int(wrong.nonzero()[0])
            raise UserError(
                f"scorer '{scorer.name}': returned {scores_B[at].item()} outside its bounds [{low}, {high}] "
                f"for {responses[at][:EXCERPT]!r}; mend the scorer or its bounds"
            )
        return scores_B.clamp(low, high)
