"""Scores as words in a prompt: the parts of Rewards-in-Context (2402.10207) that need no model.

A score is told as one of a few levels, which are equal parts of the span between the least and the largest score seen.
To a model a number is a word, and a small vocabulary may have no numbers. So any words will do that the tokenizer tells
apart. A separate word for each objective and level is learnt soonest, because a phrase such as "empathy 5, fluency 1"
has to be read in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Policy
from emorl_bench.core.types import Example
from emorl_bench.rl.weighting import FixedWeights

PROMPT, SCORES = "{prompt}", "{scores}"
NOT_APPLICABLE = -1  # the level of an objective that does not apply; it is not told

Association = Literal["linf", "l2"]


@dataclass(frozen=True)
class Wording:
    """The words that tell scores, and their place in the prompt.

    Attributes:
        tags: (K x L) for each objective the words of its levels, from the least to the largest.
        template: a text with ``{prompt}`` and after it ``{scores}``. Scores stand last, because a long prompt loses its
            beginning (`models.prompting`).
    """

    tags: tuple[tuple[str, ...], ...]
    template: str

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            UserError: the objectives have unequal numbers of levels or fewer than 2, or the template is wrong.
        """
        counts = {len(own) for own in self.tags}
        if len(counts) > 1 or max(counts) < 2:
            raise UserError(
                f"method.tags, method.levels: {' and '.join(map(str, sorted(counts)))} words for a score; give every "
                "objective equally many, 2 or more"
            )
        if self.template.count(PROMPT) != 1 or self.template.partition(PROMPT)[2].count(SCORES) != 1:
            raise UserError(
                f"method.template={self.template!r}: give a text with one {PROMPT} and after it one {SCORES}; what "
                "stands before a long prompt is cut"
            )

    @property
    def count(self) -> int:
        """L, the number of levels of a score."""
        return len(self.tags[0])

    def shown(self, example: Example, levels_K: Sequence[int]) -> Example:
        """What the policy reads; an objective that does not apply is left out."""
        told = [own[level] for own, level in zip(self.tags, levels_K, strict=True) if level != NOT_APPLICABLE]
        before, _, after = self.template.partition(PROMPT)
        return replace(example, shown=before + example.context + after.replace(SCORES, ", ".join(told)))

    def check(self, policy: Policy) -> None:
        """Check that the model can read the words.

        Raises:
            UserError: two tags have the same ids under its tokenizer, or the scores alone are too long.
        """
        tags = [tag for own in self.tags for tag in own]
        ids_BT, mask_BT = policy.tokenize_responses(tags)
        read: dict[tuple[int, ...], int] = {}
        for i, (ids, mask) in enumerate(zip(ids_BT, mask_BT, strict=True)):
            if (first := read.setdefault(tuple(ids[mask].tolist()), i)) != i:
                raise UserError(
                    f"method.tags: this model's tokenizer reads '{tags[first]}' and '{tags[i]}' alike; give every "
                    "objective words of its own that it knows"
                )
        longest = [own.index(max(own, key=len)) for own in self.tags]
        if policy.truncates(self.shown(Example("", ""), longest).context):
            raise UserError("model.max_prompt_tokens: the scores that ric writes into a prompt do not fit; give more")


def levels_of(shares: Tensor, count: int) -> Tensor:
    """The level of each share: which of ``count`` equal parts of [0, 1] it lies in, counted from 0.

    A share of NaN has the level `NOT_APPLICABLE`.
    """
    levels = (shares.nan_to_num(0.0) * count).floor().long().clamp(0, count - 1)
    return levels.masked_fill(shares.isnan(), NOT_APPLICABLE)


def shares_of(scores_BK: Tensor, seen_NK: Tensor) -> Tensor:
    """Where each score (B, K) lies between the least (0) and the largest (1) of all N scores seen.

    Where these are equal, the share is 1. A score of NaN has a share of NaN.
    """
    low_K = seen_NK.nan_to_num(torch.inf).amin(0)
    high_K = seen_NK.nan_to_num(-torch.inf).amax(0)
    span_K = torch.where(high_K > low_K, high_K - low_K, torch.inf)
    return torch.where(high_K > low_K, (scores_BK - low_K) / span_K, scores_BK * 0 + 1)


def desired_shares(preference_K: Tensor, mapping: Association) -> Tensor:
    """The share (K,) of each objective's span that a preference asks for.

    ``linf`` asks for all of it where the weight is 1/K or more, and below that in proportion. ``l2`` asks for ``w /
    |w|``.
    """
    if mapping == "linf":
        return (len(preference_K) * preference_K).clamp(max=1.0)
    return preference_K / (preference_K**2).sum().sqrt()


def near_front(scores_BK: Tensor, preferences_BK: Tensor, quantile: float, shape: str) -> Tensor:
    """Which answers (B,) are near the front, by rejection under the preference that each was given for.

    An answer is kept if its weighted score reaches the ``quantile`` of the weighted scores of all answers to its
    preference. It is dropped if none of the objectives that count in its preference applies.
    """
    kept_B = torch.zeros(len(scores_BK), dtype=torch.bool)
    for preference in set(map(tuple, preferences_BK.tolist())):
        worth_B = FixedWeights(preference, shape).reward(scores_BK)
        asked_B = (preferences_BK == torch.tensor(preference, dtype=preferences_BK.dtype)).all(1)
        kept_B |= asked_B & (worth_B >= worth_B.nanquantile(quantile))
    return kept_B
