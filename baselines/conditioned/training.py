"""Training one network for all preferences: ``max E_w[w . J(w)]``, with preferences w drawn evenly on the simplex.

Each step draws a few preferences. An even part of the step's prompts is answered under each preference and rewarded by
it. Then there is one update, by any on-policy rule. `rl.preferences` says how the network is validated.

The K experts below the network are trained first. Experts and network divide the budget evenly, as K + 1 learners.
Methods that spend another amount on each expert have other experts. All conditioned methods share theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from baselines.conditioned.policy import ConditionedPolicy
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Policy, Sampler, Solution, UpdateRule
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Metrics
from emorl_bench.policies.together import on_one_base
from emorl_bench.rl.experts import expert_bank
from emorl_bench.rl.least_budget import refuse_too_little
from emorl_bench.rl.loop import prompts, run_rounds
from emorl_bench.rl.preferences import PreferenceRun, drawn, select_part
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.showing import describe
from emorl_bench.rl.weighting import FixedWeights, fixed_weights

NetworkFor = Callable[[int, int, torch.Generator], nn.Module]
"""Layers, experts and a random stream to a module that maps a preference (K,) to coefficients (L, M)."""


@dataclass(frozen=True)
class Conditioning:
    """How the network is trained.

    Attributes:
        update: the rule that trains the network.
        preferences: the largest number of preferences in a step; a step takes as many as divide its prompts evenly.
    """

    update: UpdateRule
    preferences: int

    def check(self, bench: Bench) -> None:
        """Check the settings before anything is trained.

        Raises:
            UserError: there is only one objective, or a setting does not suit the training or the run.
        """
        if len(bench.objectives) < 2:
            raise UserError(
                f"a mix of experts needs at least 2 objectives, task has only '{bench.objectives[0]}'; "
                "use method=single_objective or add objectives to the task"
            )
        if self.preferences < 1:
            raise UserError(f"method.preferences={self.preferences}: give 1 or more for each step")
        probe = bench.new_policy("probe")
        if self.preferences > 1 and probe.ranks.in_step:
            raise UserError(
                f"method.preferences={self.preferences}: processes that divide the base model cannot go apart by "
                "preference; say method.preferences=1, or hardware.shard_base=false"
            )
        if self.update.replay_prompts:
            raise UserError(
                f"method.update.replay_prompts={self.update.replay_prompts}: older answers were given under other "
                "preferences; say 0"
            )
        self.update.learner(probe, bench.ledger)  # the rule refuses its own bad settings


@dataclass
class ConditionedFront(Solution):
    """A `Solution` that answers every preference at once with the mix of experts that the network gives."""

    policy: ConditionedPolicy
    _made: dict[tuple[float, ...], Sampler] = field(default_factory=dict)

    def policy_for(self, preference_K: Tensor) -> Sampler:
        """See `core.protocols.Solution.policy_for`; each preference's mix is made once."""
        key = tuple(preference_K.tolist())
        if key not in self._made:
            self._made[key] = self.policy.at(preference_K)
        return self._made[key]


class ConditionedRun(PreferenceRun):
    """The training of one conditioned policy.

    A run with another budget has other experts below the network, so this run goes on from no smaller one.
    """

    prefix = False

    def __init__(self, bench: Bench, policy: ConditionedPolicy, settings: Conditioning, budget: Budget) -> None:
        """Bind the policy to a learner of the settings' rule."""
        name, uniform = policy.name, fixed_weights(None, bench.objectives, bench.reward)
        learner = settings.update.learner(policy, bench.ledger, bench.objectives)
        self.conditioned, self.preferences = policy, settings.preferences
        super().__init__(bench, name, {name: policy}, {name: learner}, uniform, budget)

    def answering(self, preference_K: Tensor) -> Policy:
        """See `rl.preferences.PreferenceRun.answering`."""
        return self.conditioned.at(preference_K)

    def round(self, runs: Sequence[TrainingRun], step: int) -> list[Metrics]:
        """One update under a few preferences; all answers to one prompt have the same preference."""
        bench, policy, learner = self.bench, self.conditioned, self.learners[self.name]
        asked = prompts(bench, step)
        count = math.gcd(self.preferences, len(asked))
        preferences_WK = drawn(count, len(bench.objectives), stream(bench.seed, self.name, "preferences", step))
        policy.turn(preferences_WK)
        rollout = policy.generate(asked, bench.sampling, stream(bench.seed, self.name, "rollout", step))
        scores_BK, rewards, given = bench.score(rollout), [], []
        for preference_K, part_BK in zip(preferences_WK, scores_BK.chunk(count), strict=True):
            weighting = FixedWeights(tuple(preference_K.tolist()), bench.reward)
            rewards.append(weighting.reward(part_BK))
            given.append(learner.rewards(part_BK, weighting, rollout.group_size))
        update = learner.step(rollout, torch.cat(given), stream(bench.seed, self.name, "update", step))
        return [describe(bench, rollout, scores_BK, torch.cat(rewards)) | dict(update)]


def fit_conditioned(bench: Bench, name: str, settings: Conditioning, network_for: NetworkFor) -> Solution:
    """Train the experts, then the network on top of them.

    Args:
        bench: what the method is given.
        name: the learner's name in records and checkpoints.
        settings: how the network is trained.
        network_for: makes the network.

    Raises:
        UserError: there is only one objective, the settings do not go together, or the budget pays for no training.
    """
    settings.check(bench)
    learners = len(bench.objectives) + 1
    share = bench.budget.share(learners)
    step, validation = min(bench.training.batch_prompts, len(bench.train)), learners * len(select_part(bench, learners))
    if share.prompts is not None and step + 2 * validation > share.prompts:
        refuse_too_little(bench, name, share, step, validation)
    experts = expert_bank(bench, learners=learners)
    layers = len(on_one_base(experts)[1][0].factors)
    network = network_for(layers, len(experts), stream(bench.seed, name))
    run = ConditionedRun(bench, ConditionedPolicy.of(name, experts, network), settings, share)
    run_rounds(bench, [run], run.round)
    return ConditionedFront(run.conditioned)
