"""The driver of every update: from rollouts to optimiser steps. What an update rule defines is in `rl.learner`.

    mask rows without a reward; read the models (`rl.reading`); `AdapterLearner.prepare` computes what is frozen
    for every minibatch (`AdapterLearner.minibatches`):
        for every micro-batch of it:
            hidden states -> `AdapterLearner.loss` -> gradients, which are added up (`rl.stacking`)
        clip them and step the optimiser (`AdapterLearner.descend`)

Learners that are updated together take these steps at the same time. A rule knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.policies.together import can_stack
from emorl_bench.rl.fitting import Stacking
from emorl_bench.rl.reading import correct, in_step, read_reference
from emorl_bench.rl.stacking import Gradients, Pass, gradients

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
class Turn:
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

    def passes(self, minibatches: Sequence[Batch] | None = None) -> list[Pass]:
        """One pass for each micro-batch, in order. The default is one minibatch, the rollout as it is."""
        size, ranks = self.learner.rule.micro_batch, self.learner.policy.ranks
        wholes = [Batch(self.rollout)] if minibatches is None else minibatches
        cut = [(whole, micro_batches(whole.rollout, size, ranks=ranks)) for whole in wholes]
        return [Pass(self.learner, whole, rows, last=rows is parts[-1]) for whole, parts in cut for rows in parts]

    def add(self, metrics: Metrics, found: Gradients) -> None:
        """Add the gradients and the metrics of a pass to those of its minibatch."""
        for parameter, gradient in found:
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        self.totals = {key: self.totals.get(key, 0.0) + value for key, value in metrics.items()}

    def descend(self) -> None:
        """Step the optimiser."""
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
        turns = [Turn(i, *given) for i, given in enumerate(zip(learners, rollouts, rewards, rngs, strict=True))]
        self.stacking.joint = not learners[0].policy.ranks.most(not self.stacking.joint)
        together = self.stacking.joint and can_stack([learner.policy for learner in learners])
        with self.ledger.metered("update") as call:
            call.tokens = sum(rollout.tokens for rollout in rollouts)
            for group in [turns] if together else [[turn] for turn in turns]:
                self._run([turn for turn in group if turn.begin()])
        return [turn.metrics for turn in turns]

    def _run(self, turns: Sequence[Turn]) -> None:
        correct(self.stacking, self.ledger, turns)
        read_reference(self.stacking, [turn for turn in turns if turn.learner.uses_reference])
        for turn in turns:
            with self.ledger.alone(turn.index):
                turn.batch = turn.learner.prepare(turn.rollout, turn.rewards, turn.has_reward_B, turn.reference_BT)
        planned = [turn.passes(turn.learner.minibatches(turn.batch, turn.rng)) for turn in turns]
        for going, passes in in_step(turns, planned):
            for turn, one, parts in zip(going, passes, self.stacking.each(passes, gradients), strict=True):
                for _, done in parts:
                    turn.add(*done)
                if one.last:
                    with self.ledger.alone(turn.index) as cost:
                        cost.trained_tokens += one.minibatch.rollout.tokens
                        turn.descend()
        for turn in turns:
            with self.ledger.alone(turn.index):
                turn.metrics = {**turn.learner.finish(turn.batch, means(turn.steps)), **turn.mismatch}


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
