"""The K scorers of a task as one: asked once for each distinct (prompt, response), counted and checked.

Searches and grading cache the scores of earlier texts. A training asks again for every rollout, so that its cost is
the same after a resume. The scores themselves do not depend on the cache, because those of a text depend on no other
text (`scorer_training.shapes`).

New texts are divided among the ranks of a run, and every rank gets all scores. A scorer that returns an invalid value
stops the run, on every rank, with its name and the text that caused it. Where a scorer returns ``None`` it does not
apply to the row: the score is NaN, which `core.masked` leaves out of every mean. A NaN that a scorer itself returns
is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.leaving import staying
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Scorer, Scores
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.types import Example, Rollout

EXCERPT = 80  # number of characters of a wrong text that are shown
TOLERANCE = 1e-4  # rounding may exceed the declared bounds by this much

Text = tuple[str, str | None, str]  # prompt, reference answer, response: all that a scorer may use


@dataclass
class ScorerPanel:
    """The scorers, their cost, and a cache of scores."""

    scorers: Sequence[Scorer]
    ledger: Ledger
    ranks: Ranks = ALONE
    bfloat16: bool = False
    """Whether matrix products of the scorers are in bfloat16 (`precision`)."""
    _known: dict[str, dict[Text, float]] = field(default_factory=dict, init=False)  # scorer -> text -> score

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the K objectives."""
        return tuple(scorer.name for scorer in self.scorers)

    def score(self, rollout: Rollout) -> Tensor:
        """(B, K) float32 scores on the CPU; NaN where an objective does not apply.

        Raises:
            UserError: a scorer returned a wrong shape, a NaN, or a value outside its bounds.
        """
        return self._scores(rollout, self.scorers)

    def score_only(self, objective: str, rollout: Rollout) -> Tensor:
        """(B,) scores of one objective. The other scorers are neither called nor charged."""
        return self._scores(rollout, [scorer for scorer in self.scorers if scorer.name == objective])[:, 0]

    @torch.no_grad()
    def _scores(self, rollout: Rollout, scorers: Sequence[Scorer]) -> Tensor:
        keys = [(e.prompt, e.answer, r) for e, r in zip(rollout.examples, rollout.responses, strict=True)]
        self.ledger.current.scores_wanted += len(scorers) * len(keys)
        if self.ledger.training:
            known: list[dict[Text, float]] = [{} for _ in scorers]
        else:
            known = [self._known.setdefault(scorer.name, {}) for scorer in scorers]
        unknown = [[key for key in dict.fromkeys(keys) if key not in scores] for scores in known]
        if any(unknown):
            asked = [triple for triple in zip(scorers, unknown, known, strict=True) if triple[1]]
            for (_, texts, scores), said in zip(asked, self._said([triple[:2] for triple in asked]), strict=True):
                scores |= zip(texts, said, strict=True)
        return torch.tensor([[scores[key] for scores in known] for key in keys], dtype=torch.float32)

    def forget(self) -> None:
        """Clear the cache."""
        self._known.clear()

    def _said(self, questions: Sequence[tuple[Scorer, Sequence[Text]]]) -> list[list[float]]:
        """What scorers say of some texts each, charged."""
        mine = [(scorer, [texts[i] for i in self.ranks.share(len(texts))]) for scorer, texts in questions]
        answers = self.ranks.together(lambda: [self._ask_sorted(scorer, texts) for scorer, texts in mine])
        cost = self.ledger.current
        cost.scorer_calls += len(questions)
        cost.scored_texts += sum(len(texts) for _, texts in questions)
        return [self.ranks.gather(mine_B).tolist() for mine_B in answers]

    def _ask_sorted(self, scorer: Scorer, texts: Sequence[Text]) -> Tensor:
        """(B,) scores of some texts, asked from short to long, so that batches have little padding."""
        if not texts:
            return torch.empty(0)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][2]))
        examples = [Example("", texts[i][0], answer=texts[i][1]) for i in order]
        responses = [texts[i][2] for i in order]
        sorted_B = self._ask(scorer, examples, responses)
        return torch.empty_like(sorted_B).index_copy_(0, torch.tensor(order), sorted_B)

    def _ask(self, scorer: Scorer, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        with self.ledger.metered(f"score/{scorer.name}") as call:
            with (
                torch.autocast(self.ledger.device.type, torch.bfloat16, enabled=self.bfloat16),
                _own_dtype(),
                staying(f"scorer '{scorer.name}'"),
            ):
                scores_B, applies_B = _tensor(scorer.score(examples, responses))
            call.tokens = len(responses)
        if scores_B.shape != (len(responses),):
            raise UserError(
                f"scorer '{scorer.name}': returned shape {tuple(scores_B.shape)} for {len(responses)} responses "
                f"(the first: {responses[0][:EXCERPT]!r}); it must return one number each"
            )
        low, high = scorer.bounds
        right_B = (scores_B >= low - TOLERANCE) & (scores_B <= high + TOLERANCE)  # also false for NaN
        wrong = applies_B & ~right_B
        if wrong.any():
            at = int(wrong.nonzero()[0])
            raise UserError(
                f"scorer '{scorer.name}': returned {scores_B[at].item()} outside its bounds [{low}, {high}] "
                f"for {responses[at][:EXCERPT]!r}; mend the scorer or its bounds"
            )
        return scores_B.clamp(low, high).masked_fill(~applies_B, torch.nan)


@contextmanager
def _own_dtype() -> Iterator[None]:
    """What a scorer sets as torch's default dtype ends with it: policies and other scorers would compute in it too."""
    before = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _tensor(scores: Scores) -> tuple[Tensor, Tensor]:
    """The scores as float32 on the CPU, and a mask of the rows that the scorer applies to."""
    if isinstance(scores, Tensor):
        return scores.detach().float().cpu(), torch.ones(scores.shape, dtype=torch.bool)
    said = torch.tensor([0.0 if score is None else float(score) for score in scores])
    return said, torch.tensor([score is not None for score in scores], dtype=torch.bool)
