"""The types that every room shares.

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

    ``shown`` is what the policy reads where that differs from the prompt (CORY's observer also reads the pioneer's
    answer). Scorers always judge against ``prompt``. ``answer`` is a reference for scorers that compare with one; no
    policy reads it.
    """

    id: str
    prompt: str
    shown: str | None = None
    answer: str | None = None

    @property
    def context(self) -> str:
        """What the policy reads."""
        return self.prompt if self.shown is None else self.shown


@dataclass(frozen=True, slots=True)
class Splits:
    """A task's prompts, in three splits.

    Methods learn from ``train``, and choose checkpoints and weights on ``select``. They are graded on ``report``.

    ``fingerprint`` is a hash of all prompts in order and of how they were split. Two runs may share a table only where
    it is equal. ``removed`` is the number of prompts that were left out because a prompt of another split is nearly
    equal.
    """

    train: Sequence[Example]
    select: Sequence[Example]
    report: Sequence[Example]
    fingerprint: str
    removed: int = 0

    def sizes(self) -> dict[str, int]:
        """The number of prompts in each split, and ``removed``."""
        return {name: len(getattr(self, name)) for name in ("train", "select", "report")} | {"removed": self.removed}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are decoded. A ``temperature`` of 0 means greedy decoding."""

    max_new_tokens: int
    temperature: float = 1.0
    samples_per_prompt: int = 1


@dataclass(frozen=True, slots=True)
class Rollout:
    """Responses of a policy, and their probabilities under the distribution that they were sampled from.

    The ids are the sampled ones (never text that was tokenized again). The mask is true up to the end token, which is
    included. Log-probabilities are in nats, of the distribution at ``temperature``; those of greedy responses are NaN.
    """

    examples: tuple[Example, ...]
    """B prompts: each is repeated G times in a row."""
    responses: tuple[str, ...]
    """B texts."""
    response_ids_BT: Tensor
    """int64."""
    response_mask_BT: Tensor
    """bool."""
    logprobs_BT: Tensor
    """float32, 0 where masked."""
    group_size: int
    """G, the samples of each prompt."""
    temperature: float = 1.0
    importance_BT: Tensor | None = None
    """The factor of each token in a policy gradient (`Correction`); None is 1 everywhere."""

    def weighted(self, values_BT: Tensor) -> Tensor:
        """(B, T) values, each times its token's importance."""
        return values_BT if self.importance_BT is None else values_BT * self.importance_BT

    @property
    def tokens(self) -> int:
        """Number of response tokens, end tokens included."""
        return int(self.response_mask_BT.sum())

    def keeping(self, rows_B: Tensor) -> Rollout:
        """The same without a token of the other rows: they enter no loss, no mean and no KL."""
        if rows_B.all():
            return self
        mask_BT = self.response_mask_BT & rows_B[:, None]
        logprobs_BT = self.logprobs_BT.masked_fill(~mask_BT, 0.0)
        return replace(self, response_mask_BT=mask_BT, logprobs_BT=logprobs_BT)

    def rows(self, row_indices: Sequence[int]) -> Rollout:
        """The rollout with some rows only, as wide as the longest response among them; its group size is 1."""
        index = torch.as_tensor(list(row_indices), device=self.response_ids_BT.device)
        width = max(1, int(self.response_mask_BT[index].sum(1).max()))
        return Rollout(
            tuple(self.examples[i] for i in row_indices),
            tuple(self.responses[i] for i in row_indices),
            self.response_ids_BT[index, :width],
            self.response_mask_BT[index, :width],
            self.logprobs_BT[index, :width],
            1,
            self.temperature,
            None if self.importance_BT is None else self.importance_BT[index, :width],
        )


@dataclass(frozen=True, slots=True)
class Correction:
    """What updates do where sampler and training pass disagree on probabilities (`rl.sampler_mismatch`).

    Attributes:
        weigh: whether tokens are weighted by importance, beside that their log-probabilities are read again.
        limit: the largest weight.
    """

    weigh: bool
    limit: float


@dataclass(frozen=True, slots=True)
class Joint:
    """Whether several learners share a decode, and a pass with gradients; the numbers are the same but for rounding.

    None: by the rule that was measured on CPUs (`policies.together.fills_a_pass`).
    """

    decode: bool | None = None
    update: bool | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What one method may spend in total. ``None`` is no limit; training ends at the limit that is reached first.

    ``prompts`` covers everything before the report: prompts of training, validation and search. It is never exceeded
    (`core.ledger.Ledger.ask`). The other limits are of training only, which ends with the step that reaches one.
    ``expert_prompts`` is what each single-objective expert may spend; ``None`` is an even share.

    A method with several learners divides its budget evenly (`share`). So the sum over a method's learners is the same
    for every method of a comparison.
    """

    prompts: int | None = None
    samples: int | None = None
    generated_tokens: int | None = None
    seconds: float | None = None
    expert_prompts: int | None = None

    def share(self, parts: int) -> Budget:
        """One of ``parts`` even parts. It names no ``expert_prompts``, because it is the budget of one learner."""

        def divide(limit: int | None) -> int | None:
            return None if limit is None else max(1, limit // parts)

        seconds = None if self.seconds is None else self.seconds / parts
        return Budget(divide(self.prompts), divide(self.samples), divide(self.generated_tokens), seconds)

    def scaled(self, share: float) -> Budget:
        """All limits times ``share``, whole numbers rounded down: the budget of a rung of the ladder."""

        def part(limit: int | None) -> int | None:
            return None if limit is None else part_of(limit, share)

        seconds = None if self.seconds is None else self.seconds * share
        whole = (part(self.prompts), part(self.samples), part(self.generated_tokens))
        return Budget(*whole, seconds, part(self.expert_prompts))

    def reserving(self, share: float) -> Budget:
        """The budget of training where a share of the prompts is reserved for a search."""
        return self if self.prompts is None else replace(self, prompts=self.prompts - part_of(self.prompts, share))


def part_of(whole: int, share: float) -> int:
    """``share`` of a whole number, rounded down; floating-point error cannot lower the result."""
    return math.floor(whole * share + 1e-6)


@dataclass(frozen=True, slots=True)
class Training:
    """The training schedule, which is the same for every learner of every method.

    A validation on the select split follows every ``validate_every`` steps. A training has converged (EMORL 2505.02579,
    released code) when std/mean of the last ``window`` validation rewards falls below ``variation``. The ledger records
    when this would have stopped a training. It stops the training only with ``stop_when_converged``.
    """

    batch_prompts: int = 16
    samples_per_prompt: int = 4
    validate_every: int = 8
    window: int = 20
    variation: float = 0.015
    stop_when_converged: bool = False
    checkpoint_every: int = 8
