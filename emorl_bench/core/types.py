"""The vocabulary every layer shares.

Dimension key, used as a suffix on tensor names (``scores_BK`` is rows x objectives):

    B  rows in a batch (prompts x samples, prompt-major)      K  objectives
    P  prompts             G  samples per prompt (B = P*G)     M  experts
    S  prompt tokens       T  response tokens                  W  weight vectors
    V  vocabulary          H  hidden width
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt of a task.

    ``shown`` is what the policy reads when that differs from the prompt (CORY's observer reads the pioneer's answer
    too); scorers always judge against ``prompt``. ``answer`` is a reference for the scorers that compare with one; no
    policy sees it.
    """

    id: str
    prompt: str
    shown: str | None = None
    answer: str | None = None

    @property
    def context(self) -> str:
        return self.prompt if self.shown is None else self.shown


@dataclass(frozen=True, slots=True)
class Splits:
    """A task's prompts: ``train`` to learn on, ``select`` to choose checkpoints and weights on, ``report`` to grade on.

    ``fingerprint`` is a hash of all prompts in order and of how they were split: two runs may share a table only where
    it is equal. ``removed`` counts what was left out because it nearly equals something in another split.
    """

    train: Sequence[Example]
    select: Sequence[Example]
    report: Sequence[Example]
    fingerprint: str
    removed: int = 0

    def sizes(self) -> dict[str, int]:
        return {name: len(getattr(self, name)) for name in ("train", "select", "report")} | {"removed": self.removed}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are decoded. ``temperature`` 0 means greedy."""

    max_new_tokens: int
    temperature: float = 1.0
    samples_per_prompt: int = 1


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a policy said, and how likely it thought it was when it said it.

    The ids are the sampled ones (never re-tokenised text); the mask is true up to and including the end token. The
    log-probabilities are those of the distribution that was sampled, at ``temperature``; greedy ones are NaN.
    """

    examples: tuple[Example, ...]  # B, each prompt repeated G times in a row
    responses: tuple[str, ...]  # B
    response_ids_BT: Tensor  # int64
    response_mask_BT: Tensor  # bool
    logprobs_BT: Tensor  # float32, 0 where masked
    group_size: int  # G
    temperature: float = 1.0

    @property
    def tokens(self) -> int:
        return int(self.response_mask_BT.sum())

    def keeping(self, rows_B: Tensor) -> Rollout:
        """The same without a token of the other rows: they enter no loss, no mean and no KL."""
        if rows_B.all():
            return self
        mask_BT = self.response_mask_BT & rows_B[:, None]
        logprobs_BT = self.logprobs_BT.masked_fill(~mask_BT, 0.0)
        return replace(self, response_mask_BT=mask_BT, logprobs_BT=logprobs_BT)

    def rows(self, picks: Sequence[int]) -> Rollout:
        """The same for some rows, cut to the longest response among them."""
        index = torch.as_tensor(list(picks), device=self.response_ids_BT.device)
        width = max(1, int(self.response_mask_BT[index].sum(1).max()))
        return Rollout(
            tuple(self.examples[i] for i in picks),
            tuple(self.responses[i] for i in picks),
            self.response_ids_BT[index, :width],
            self.response_mask_BT[index, :width],
            self.logprobs_BT[index, :width],
            1,
            self.temperature,
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """What one method may spend in total; ``None`` is no limit, and whichever limit is met first ends it.

    ``prompts`` covers everything before the report: prompts trained on, validated on and searched with. It is never
    exceeded (`core.ledger.Ledger.ask`). The other limits are of training alone, and end it with the step that reaches
    them. ``expert_prompts`` is what each single-objective expert may spend; ``None`` is an even share.

    A method with several learners divides it evenly (`share`), so the sum over a method's learners is the same for
    every method of a comparison.
    """

    prompts: int | None = None
    samples: int | None = None
    generated_tokens: int | None = None
    seconds: float | None = None
    expert_prompts: int | None = None

    def share(self, parts: int) -> Budget:
        """An even part of it; a learner's own part names no experts."""

        def divide(limit: int | None) -> int | None:
            return None if limit is None else max(1, limit // parts)

        seconds = None if self.seconds is None else self.seconds / parts
        return Budget(divide(self.prompts), divide(self.samples), divide(self.generated_tokens), seconds)

    def scaled(self, share: float) -> Budget:
        """All limits times ``share``, whole numbers rounded down: a rung of a ladder."""

        def part(limit: int | None) -> int | None:
            return None if limit is None else part_of(limit, share)

        seconds = None if self.seconds is None else self.seconds * share
        whole = (part(self.prompts), part(self.samples), part(self.generated_tokens))
        return Budget(*whole, seconds, part(self.expert_prompts))

    def reserving(self, share: float) -> Budget:
        """What is left for training where a share of the prompts is kept for a search."""
        return self if self.prompts is None else replace(self, prompts=self.prompts - part_of(self.prompts, share))


def part_of(whole: int, share: float) -> int:
    """``share`` of a whole number, rounded down but for what is floating-point error."""
    return math.floor(whole * share + 1e-6)


@dataclass(frozen=True, slots=True)
class Training:
    """The training schedule, the same for every learner of every method.

    Validation happens every ``validate_every`` steps on the select split. Convergence (EMORL 2505.02579, released
    code): std/mean of the last ``window`` validation rewards falls below ``variation``. Where a training would have
    stopped by this rule is recorded; it stops there only with ``stop_when_converged``.
    """

    batch_prompts: int = 16
    samples_per_prompt: int = 4
    validate_every: int = 8
    window: int = 20
    variation: float = 0.015
    stop_when_converged: bool = False
    checkpoint_every: int = 8
