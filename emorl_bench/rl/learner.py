"""What the learner of every update rule has around its loss: the optimiser of one adapter, and how it is descended.

A rule's own file holds its settings, an `AdapterRule`, and a learner, an `AdapterLearner` that says in `learn` what one
rollout teaches. `descend` takes one optimiser step; `shuffled` and `in_turn` make several of one rollout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import ForwardBackward, Policy, Update
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.rl.advantages import silenced
from emorl_bench.rl.lockstep import Lockstep
from emorl_bench.rl.micro_batches import micro_batches
from emorl_bench.rl.optimiser import Optimiser, numbered

Steps = Generator[ForwardBackward, Any, dict[str, float]]
"""Part of an update: it asks for gradients, and ends with metrics."""

Gradient = Callable[[list[int]], ForwardBackward]
"""Asks for the gradient of a loss of some rows."""


@dataclass(frozen=True)
class AdapterRule:
    """The settings that every rule has."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float = 2.0
    micro_batch: int | None = None  # rows per backward pass; gradients accumulate


Rule = TypeVar("Rule", bound=AdapterRule)


class AdapterLearner(ABC, Generic[Rule]):
    """A rule bound to one policy, as a `core.protocols.Learner`; what is left to say is `learn`."""

    def __init__(self, rule: Rule, policy: Policy, ledger: Ledger) -> None:
        self.rule, self.policy, self.ledger = rule, policy, ledger
        named = numbered(policy.parameters(), "adapter.")
        self.optimiser = Optimiser(named, rule.learning_rate, rule.weight_decay, rule.clip_norm, policy.ranks)

    @abstractmethod
    def learn(self, rollout: Rollout, rewards_B: Tensor, teaches_B: Tensor, rng: torch.Generator) -> Update:
        """One update. Rows that do not teach, at least one does, have no tokens and NaN for a reward.

        Rewards are (B, K) for a learner that asks for them so (`core.protocols.Decoupling`).
        """

    def update(self, rollout: Rollout, rewards_B: Tensor, rng: torch.Generator) -> Update:
        """`learn`, with the rows that have no reward silenced; where no row has one, nothing changes."""
        rewards_B = rewards_B.to(rollout.logprobs_BT.device)
        teaches_B = ~rewards_B.isnan().view(len(rewards_B), -1).all(1)
        if not teaches_B.any():
            return {}
        return (yield from self.learn(silenced(rollout, teaches_B), rewards_B, teaches_B, rng))

    def step(self, rollout: Rollout, rewards_B: Tensor, rng: torch.Generator) -> Metrics:
        return Lockstep(self.ledger)([self], [rollout], [rewards_B], [rng])[0]

    def descend(self, rollout: Rollout, gradient: Gradient, rows: Sequence[int] | None = None) -> Steps:
        """One optimiser step on what `accumulate` adds up, and ``grad_norm``, the gradient's norm before clipping."""
        totals = yield from self.accumulate(rollout, gradient, rows)
        self.ledger.current.optimiser_steps += 1
        return {**totals, "grad_norm": self.take_step()}

    def accumulate(self, rollout: Rollout, gradient: Gradient, rows: Sequence[int] | None = None) -> Steps:
        """The gradients of a loss that is a sum over ``rows`` (``None``: all), in micro-batches; metrics are summed."""
        totals: dict[str, float] = {}
        for picks in micro_batches(rollout, self.rule.micro_batch, rows, ranks=self.policy.ranks):
            metrics = yield gradient(picks)
            totals = {key: totals.get(key, 0.0) + value for key, value in metrics.items()}
        self.ledger.current.trained_tokens += int(rollout.response_mask_BT[slice(None) if rows is None else rows].sum())
        return self.policy.ranks.totals(totals)

    def take_step(self) -> float:
        """Move everything that is trained; returns the norm of the adapter's gradient."""
        return self.optimiser.step()

    def state_dict(self) -> dict[str, Tensor]:
        return self.optimiser.state_tensors()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.optimiser.load_state_tensors(state)


def shuffled(teaches_B: Tensor, epochs: int, parts: int, rng: torch.Generator) -> Iterator[list[int]]:
    """Minibatches: in every epoch all rows in another order, cut into parts, less those in which no row teaches."""
    rows = len(teaches_B)
    size = -(-rows // parts)
    for _ in range(epochs):
        order = torch.randperm(rows, generator=rng).tolist()
        cut = (order[low : low + size] for low in range(0, rows, size))
        yield from (picks for picks in cut if teaches_B[picks].any())


def in_turn(steps: Iterable[Steps]) -> Steps:
    """One step after the other; the metrics are means over steps."""
    totals, count = dict[str, float](), 0
    for step in steps:
        metrics = yield from step
        totals = {key: totals.get(key, 0.0) + value for key, value in metrics.items()}
        count += 1
    return {key: value / count for key, value in totals.items()}
