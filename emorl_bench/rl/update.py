"""The driver of every update: from rollouts to optimiser steps. What an update rule defines is in `rl.learner`.

    mask rows without a reward; in bfloat16, read the policy again (`rl.sampler_mismatch`); read the reference;
    `AdapterLearner.prepare` computes what is frozen
    for every minibatch (`AdapterLearner.minibatches`):
        for every micro-batch of it:
            hidden states -> `AdapterLearner.loss` -> gradients, which are added up (`rl.stacking`)
        clip them and step the optimiser (`AdapterLearner.descend`)

Learners that are updated together take these steps at the same time. A rule knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.policies.together import can_stack
from emorl_bench.rl.sampler_mismatch import CLIP, corrected, policy_logprobs
from emorl_bench.rl.stacking import Gradients, Pass, Stacking, gradients, reference_logprobs

if TYPE_CHECKING:
    from emorl_bench.rl.learner import AdapterLearner


@dataclass(frozen=True)
class Batch:
    """What is frozen during an update: a rollout, and whatever else a rule needs of its rows.

    A rule adds fields of its own: tensors with one entry for each row, or for each token where the name ends in
    ``_BT``. ``metrics`` are those of the whole update.
    """

    rollout: Rollout
    metrics: Metrics = field(default_factory=dict, kw_only=True)

    def rows(self, row_indices: Sequence[int]) -> Self:
        """The same for some rows, cut to the longest response among them."""
        part = self.rollout.rows(row_indices)
        index, width = torch.as_tensor(row_indices, device=part.response_ids_BT.device), part.response_ids_BT.shape[1]
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        cut = {name: t[index, :width] if name.endswith("_BT") else t[index] for name, t in tensors.items()}
        return replace(self, rollout=part, **cut)


@dataclass
class _Turn:
    """One learner's update, and its progress. ``index``: its place among the open costs of the ledger."""

    index: int
    learner: AdapterLearner[Any, Any]
    rollout: Rollout
    rewards: Tensor  # (B,), or (B, K) for a rule that keeps objectives separate
    rng: torch.Generator
    reference_BT: Tensor | None = None
    mismatch: Metrics = field(default_factory=dict)  # between the sampler and the training pass
    batch: Batch | None = None
    totals: dict[str, float] = field(default_factory=dict)  # of the minibatch so far
    steps: list[Metrics] = field(default_factory=list)  # of each optimiser step
    metrics: Metrics = field(default_factory=dict)  # of the whole update

    def begin(self) -> bool:
        """Mask the rows that have no reward; says whether any row has one."""
        rollout, rewards = self.learner.beside_older(self.rollout, self.rewards, self.rng)
        self.rewards = rewards.to(rollout.logprobs_BT.device)
        self.has_reward_B = ~self.rewards.isnan().view(len(rewards), -1).all(1)
        self.rollout = rollout.keeping(self.has_reward_B)
        return bool(self.has_reward_B.any())

    @property
    def corrects(self) -> bool:
        """Whether the rule uses log-probabilities that its policy's sampler has rounded otherwise than training."""
        return self.learner.rule.needs_behaviour_logprobs and self.learner.policy.correction is not None

    def passes(self, minibatches: Sequence[Batch]) -> list[Pass]:
        """One pass for each micro-batch, in order."""
        size, ranks = self.learner.rule.micro_batch, self.learner.policy.ranks
        cut = [(minibatch, micro_batches(minibatch.rollout, size, ranks=ranks)) for minibatch in minibatches]
        return [Pass(self.learner, whole, rows, last=rows is parts[-1]) for whole, parts in cut for rows in parts]

    def add(self, metrics: Metrics, found: Gradients) -> None:
        for parameter, gradient in found:
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        self.totals = {key: self.totals.get(key, 0.0) + value for key, value in metrics.items()}

    def descend(self) -> None:
        self.steps.append(self.learner.descend(self.learner.policy.ranks.totals(self.totals)))
        self.totals = {}


class Updater:
    """Updates one learner, or several at the same time."""

    def __init__(self, ledger: Ledger, joint: bool = True) -> None:
        """``joint``: whether several learners may share passes through the model (`Stacking.joint`)."""
        self.ledger, self.stacking = ledger, Stacking(joint)

    def update(
        self,
        learners: Sequence[AdapterLearner[Any, Any]],
        rollouts: Sequence[Rollout],
        rewards: Sequence[Tensor],
        rngs: Sequence[torch.Generator],
    ) -> list[Metrics]:
        """One update of each learner on its own rollout; costs are charged to the i-th of the open costs.

        ``rewards`` are what the learners' `rewards` have returned. A row of NaN teaches nothing. A learner for which no
        row teaches stays as it is, and has no metrics.
        """
        turns = [_Turn(i, *given) for i, given in enumerate(zip(learners, rollouts, rewards, rngs, strict=True))]
        self.stacking.joint = not learners[0].policy.ranks.most(not self.stacking.joint)
        together = self.stacking.joint and can_stack([learner.policy for learner in learners])
        with self.ledger.metered("update") as call:
            call.tokens = sum(rollout.tokens for rollout in rollouts)
            for group in [turns] if together else [[turn] for turn in turns]:
                self._run([turn for turn in group if turn.begin()])
        return [turn.metrics for turn in turns]

    def _run(self, turns: Sequence[_Turn]) -> None:
        self._correct([turn for turn in turns if turn.corrects])
        self._read_reference([turn for turn in turns if turn.learner.uses_reference])
        for turn in turns:
            with self.ledger.alone(turn.index):
                turn.batch = turn.learner.prepare(turn.rollout, turn.rewards, turn.has_reward_B, turn.reference_BT)
        planned = [turn.passes(turn.learner.minibatches(turn.batch, turn.rng)) for turn in turns]
        for going, passes in in_step(turns, planned):
            for turn, one, done in zip(going, passes, self.stacking.each(passes, gradients), strict=True):
                turn.add(*done)
                if one.last:
                    with self.ledger.alone(turn.index) as cost:
                        cost.trained_tokens += one.minibatch.rollout.tokens
                        turn.descend()
        for turn in turns:
            with self.ledger.alone(turn.index):
                turn.metrics = {**turn.learner.finish(turn.batch, means(turn.steps)), **turn.mismatch}

    def _read_reference(self, turns: Sequence[_Turn]) -> None:
        """Read the log-probabilities of each rollout under the base model, 0 where masked."""
        for turn, read_BT in self._read(turns, reference_logprobs):
            turn.reference_BT = read_BT

    def _correct(self, turns: Sequence[_Turn]) -> None:
        """Replace the sampler's log-probabilities by those of the training pass, at one more forward pass."""
        for turn, read_BT in self._read(turns, policy_logprobs):
            correction, clip = turn.learner.policy.correction, getattr(turn.learner.rule, "clip", CLIP)
            assert correction is not None
            turn.rollout, turn.mismatch = corrected(turn.rollout, read_BT, correction, clip)
            with self.ledger.alone(turn.index) as cost:
                cost.forward_passes += turn.rollout.tokens

    def _read(
        self, turns: Sequence[_Turn], work: Callable[[Sequence[Pass]], list[Tensor]]
    ) -> Iterator[tuple[_Turn, Tensor]]:
        """What ``work`` finds of the tokens (B, T) of each rollout, 0 where masked."""
        found = {turn.index: torch.zeros_like(turn.rollout.logprobs_BT) for turn in turns}
        for going, passes in in_step(turns, [turn.passes([Batch(turn.rollout)]) for turn in turns]):
            read = self.stacking.each(passes, work)
            for turn, one, logprobs_RT in zip(going, passes, read, strict=True):
                found[turn.index][one.rows, : logprobs_RT.shape[1]] = logprobs_RT.to(found[turn.index])
        for turn in turns:
            turn.learner.policy.ranks.sum_([found[turn.index]])  # one rank has read each row, the others have 0
            yield turn, found[turn.index]


def in_step(turns: Sequence[_Turn], planned: Sequence[Sequence[Pass]]) -> Iterator[tuple[list[_Turn], list[Pass]]]:
    """The first passes of all learners, then the second ones, and so on: who still has one, and these passes."""
    for n in range(max(map(len, planned), default=0)):
        going = [(turn, passes[n]) for turn, passes in zip(turns, planned, strict=True) if n < len(passes)]
        yield [turn for turn, _ in going], [one for _, one in going]


def micro_batches(rollout: Rollout, size: int | None, *, ranks: Ranks = ALONE) -> list[list[int]]:
    """The rows of this rank, longest response first, divided into micro-batches of ``size`` rows (``None``: one).

    The gradient does not depend on this division if a loss is a sum over rows or tokens, divided by a count of the
    whole. The longest rows come first, so that a lack of memory shows at once.

    Raises:
        UserError: there are fewer rows than ranks, or ranks in step would have unequal numbers of rows.
    """
    lengths = rollout.response_mask_BT.sum(1).tolist()
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    if len(order) < ranks.count or (ranks.in_step and len(order) % ranks.count):
        raise UserError(
            f"{len(order)} rows of an update among {ranks.count} processes: budget.training.batch_prompts times "
            "samples_per_prompt (by update.minibatches) must be at least their number, and its multiple where "
            "hardware.shard_base=true"
        )
    order = order[ranks.index :: ranks.count]
    size = size or len(order)
    return [order[low : low + size] for low in range(0, len(order), size)]


def means(steps: Sequence[Metrics]) -> dict[str, float]:
    """The mean of each metric over optimiser steps."""
    totals: dict[str, float] = {}
    for metrics in steps:
        totals = {key: totals.get(key, 0.0) + value for key, value in metrics.items()}
    return {key: value / len(steps) for key, value in totals.items()}
