"""Training: weightings make one reward of K scores, update rules make learners, learners update policies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols.policies import Policy
from emorl_bench.core.types import Metrics, Rollout


class Weighting(ABC):
    """How K scores become one reward, and how that changes while training goes on.

    Most weightings are weighted sums. They define the two steps of `reward`, which are `shaped` and `weighted`. Any
    other weighting overrides `reward` alone, and rules that look at each objective separately (`Learner.rewards`)
    refuse it.
    """

    def reward(self, scores_BK: Tensor) -> Tensor:
        """(B,) rewards of the scores (B, K); NaN where no objective applies."""
        return self.weighted(self.shaped(scores_BK))

    def shaped(self, scores_BK: Tensor) -> Tensor:
        """(B, K): the shape of the reward, such as a logarithm, applied to each objective separately.

        Raises:
            UserError: this weighting has no such step.
        """
        raise self._whole()

    def weighted(self, shaped_BK: Tensor) -> Tensor:
        """(B,) rewards: a linear combination of the shaped scores (B, K).

        Raises:
            UserError: this weighting has no such step.
        """
        raise self._whole()

    def _whole(self) -> UserError:
        return UserError(
            f"update: this rule looks at each objective before they are weighted, and {type(self).__name__} "
            "cannot be taken apart; use update=grpo, or a method with a weighted sum"
        )

    @abstractmethod
    def utility(self, scores_K: Tensor) -> float:
        """The value of one mean score vector (K,). Checkpoints are chosen by it."""

    def observe(self, validation_K: Tensor) -> None:  # noqa: B027, fixed weights have nothing to note
        """Note the mean scores (K,) of a validation, after which the weights may change.

        Weights that change have no other state. It is never saved: a run that resumes observes all its validations
        again, in order.
        """

    def metrics(self) -> Metrics:
        """The weights as ``weights/<objective>``, and further metrics as ``weighting/...``; NaN: no value yet.

        Fixed weights have no metrics.
        """
        return {}


class Resumable(Protocol):
    """State that a checkpoint keeps beside the policies' adapters."""

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors by name. The dictionary is flat, as safetensors needs it."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set the state to what `state_dict` has returned."""


class Learner(ABC):
    """An update rule bound to one policy: it owns the optimiser and all other state of training.

    It is `Resumable`. The rules of this project inherit from `rl.learner.AdapterLearner`.
    """

    policy: Policy
    """The policy that is trained."""

    def rewards(self, scores_BK: Tensor, weighting: Weighting, group_size: int) -> Tensor:
        """What this learner maximises, for `step`: here the weighting's reward (B,).

        A rule overrides this if it normalises each objective, or if it keeps objectives separate as (B, K). Such a rule
        needs both steps of the weighting. Every training round of every method asks this method, so that no round can
        reward a rule in a wrong way.

        Args:
            scores_BK: scores of the responses, prompt-major; NaN where an objective does not apply.
            weighting: what makes a reward of the scores.
            group_size: number of samples of each prompt (G).

        Raises:
            UserError: the rule needs both steps, and the weighting has none.
        """
        return weighting.reward(scores_BK)

    @abstractmethod
    def step(self, rollout: Rollout, rewards: Tensor, rng: torch.Generator) -> Metrics:
        """One update of the policy on a rollout.

        Args:
            rollout: B responses.
            rewards: what `rewards` has returned for them; NaN where a row has no reward.
            rng: the random stream of this update, for example for the order of minibatches.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """See `Resumable.state_dict`."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Resumable.load_state_dict`."""


class UpdateRule(Protocol):
    """The settings of an update rule, from the configuration.

    A method whose answers are not fresh samples of the policy reads here what a rule needs of them.
    `rl.learner.AdapterRule` has the usual values.
    """

    @property
    def needs_behaviour_logprobs(self) -> bool:
        """Whether the rule needs the probability that the sampler gave to each answer. Answers in a file have none."""

    @property
    def rewards_are_weights(self) -> bool:
        """Whether a reward is the weight of its answer's log-likelihood."""

    @property
    def replay_prompts(self) -> int:
        """Number of prompts of earlier steps that each update learns from, beside the fresh ones."""

    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner:
        """A new learner for a policy.

        Args:
            policy: what is trained.
            ledger: where the learner counts its cost.
            objectives: names of the K scores, for metrics.

        Raises:
            UserError: a setting of the rule is wrong.
        """
