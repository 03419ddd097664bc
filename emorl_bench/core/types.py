"""The vocabulary every layer shares.

Dimension key, used as a suffix on tensor names (``scores_BK`` is rows x objectives):

    B  rows in a batch (prompts x samples, prompt-major)      K  objectives
    P  prompts             G  samples per prompt (B = P*G)     M  experts
    S  prompt tokens       T  response tokens                  W  weight vectors
    V  vocabulary          H  hidden width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """What one method may spend on training in total; ``None`` is no limit, and whichever limit is met first ends it.

    A method with several learners divides it evenly (`share`), so the sum over a method's learners is the same for
    every method of a comparison.
    """

    prompts: int | None = None
    samples: int | None = None
    generated_tokens: int | None = None
    seconds: float | None = None

    def share(self, parts: int) -> Budget:
        def divide(limit: int | None) -> int | None:
            return None if limit is None else max(1, limit // parts)

        seconds = None if self.seconds is None else self.seconds / parts
        return Budget(divide(self.prompts), divide(self.samples), divide(self.generated_tokens), seconds)


@dataclass(frozen=True, slots=True)
class Training:
    """The training schedule, the same for every learner of every method.

    Convergence (EMORL 2505.02579, released code): stop when std/mean of the last ``window`` validation rewards falls
    below ``variation``. Validation happens every ``validate_every`` steps on the select split.
    """

    batch_prompts: int = 16
    samples_per_prompt: int = 4
    validate_every: int = 8
    window: int = 20
    variation: float = 0.015
    checkpoint_every: int = 8
