"""What an update rule defines, and what all rules have in common.

The file of a rule holds its settings, an `AdapterRule`, and its learner, an `AdapterLearner`. The learner has two
functions that read like the paper: `prepare` is what is frozen during the update (advantages, old values), and `loss`
is the loss of some rows. The driver (`rl.update`) does the rest. What only a few rules change has a default here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Learner, Policy
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.rl.fitting import by_parts
from emorl_bench.rl.optimiser import Optimiser, numbered
from emorl_bench.rl.update import Batch, Updater, micro_batches


@dataclass(frozen=True)
class AdapterRule:
    """The settings that every rule has."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float = 2.0
    micro_batch: int | None = None  # rows per backward pass; gradients accumulate

    needs_behaviour_logprobs: ClassVar[bool] = True  # reads `Rollout.logprobs_BT`, which is NaN for answers of a file
    rewards_are_weights: ClassVar[bool] = False  # a reward is the weight of its answer's log-likelihood

    @property
    def replay_prompts(self) -> int:
        """Number of prompts of earlier steps that each update learns from, beside the fresh ones."""
        return 0


Rule = TypeVar("Rule", bound=AdapterRule)
Frozen = TypeVar("Frozen", bound=Batch)


class AdapterLearner(Learner, ABC, Generic[Rule, Frozen]):
    """An update rule bound to one policy, with the optimiser of its adapter."""

    def __init__(self, rule: Rule, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> None:
        """``objectives``: names of the K scores, for metrics."""
        self.rule, self.policy, self.ledger, self.objectives = rule, policy, ledger, tuple(objectives)
        named = numbered(policy.parameters(), "adapter.")
        self.optimiser = Optimiser(named, rule.learning_rate, rule.weight_decay, rule.clip_norm, policy.ranks)

    # the rule -----------------------------------------------------------------------------------
    @abstractmethod
    def prepare(self, rollout: Rollout, rewards_B: Tensor, has_reward_B: Tensor, reference_BT: Tensor | None) -> Frozen:
        """What is frozen during the update on one rollout.

        Args:
            rollout: B responses. Rows without a reward have no tokens in it.
            rewards_B: what `rewards` has returned; NaN where a row has none.
            has_reward_B: which rows have a reward; at least one has.
            reference_BT: log-probabilities under the base model, 0 where masked; ``None`` unless `uses_reference`.
        """

    @abstractmethod
    def loss(self, hidden_BTH: Tensor, part: Frozen, minibatch: Frozen) -> tuple[Tensor, Metrics]:
        """The share that the rows of ``part`` have in the loss of their minibatch, a scalar, and in its metrics.

        Shares add up: divide sums over rows or tokens by a count of the whole minibatch. This has no side effects,
        because it is called again where memory does not suffice.
        """

    # what few rules change ----------------------------------------------------------------------
    @property
    def uses_reference(self) -> bool:
        """Whether `prepare` is given the log-probabilities under the base model, which cost a forward pass."""
        return False

    @property
    def beside_adapter(self) -> Sequence[torch.nn.Parameter]:
        """Parameters that the loss trains beside the adapter, such as those of a value head."""
        return ()

    def beside_older(self, rollout: Rollout, rewards_B: Tensor, rng: torch.Generator) -> tuple[Rollout, Tensor]:
        """What the update learns from: the fresh rollout, and older ones too if the rule replays."""
        return rollout, rewards_B

    def minibatches(self, batch: Frozen, rng: torch.Generator) -> Sequence[Frozen]:
        """The minibatches in order, each for one optimiser step. The default is one minibatch of all rows."""
        return [batch]

    def descend(self, totals: Metrics) -> Metrics:
        """One optimiser step along the clipped gradient of a minibatch; ``grad_norm`` is its norm before clipping."""
        self.ledger.current.optimiser_steps += 1
        return {**totals, "grad_norm": self.optimiser.step()}

    def finish(self, batch: Frozen, means: Metrics) -> Metrics:
        """The metrics of the whole update; ``means`` has the mean of each metric over optimiser steps."""
        return {**means, **batch.metrics}

    # what rules use -----------------------------------------------------------------------------
    def step(self, rollout: Rollout, rewards: Tensor, rng: torch.Generator) -> Metrics:
        """One update of this policy alone, see `core.protocols.Learner.step`."""
        return Updater(self.ledger).update([self], [rollout], [rewards], [rng])[0]

    @torch.no_grad()
    def read(self, rollout: Rollout, off: Callable[[Tensor, Rollout], Tensor]) -> Tensor:
        """(B, T, ...): ``off(hidden, rows)`` of the policy as it is now, by micro-batches and without gradient."""
        found = rollout.logprobs_BT.new_zeros(0)

        def read(rows: Sequence[int]) -> Tensor:
            part = rollout.rows(rows)
            return off(self.policy.hidden(part), part)

        for rows in micro_batches(rollout, self.rule.micro_batch, ranks=self.policy.ranks):
            for part, values in by_parts(rows, read, self.policy):
                if not len(found):
                    found = rollout.logprobs_BT.new_zeros(*rollout.logprobs_BT.shape, *values.shape[2:])
                found[part, : values.shape[1]] = values.to(found)
        self.policy.ranks.sum_([found])  # one rank has read each row, the others have 0
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """The optimiser's state."""
        return self.optimiser.state_tensors()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set the optimiser's state."""
        self.optimiser.load_state_tensors(state)


def shuffled(batch: Frozen, epochs: int, parts: int, rng: torch.Generator) -> list[Frozen]:
    """Minibatches: in each epoch all rows in a new order, cut into parts, without those in which no row teaches."""
    rows = len(batch.rollout.examples)
    size = -(-rows // parts)
    orders = [torch.randperm(rows, generator=rng).tolist() for _ in range(epochs)]
    cut = [order[low : low + size] for order in orders for low in range(0, rows, size)]
    return [batch.rows(row_indices) for row_indices in cut if batch.rollout.response_mask_BT[row_indices].any()]
