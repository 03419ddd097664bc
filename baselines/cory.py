"""CORY (2410.06101): a pioneer answers, an observer answers after reading it, both share the reward, and swap roles.

Two adapters of one base model. Each is updated on its own rollout with the sum of both rewards; the KL penalty of the
observer is conditioned on its own, longer input. Against the release: roles are swapped, not weights, so no optimiser
state is lost; the agents are validated and deployed alone, reading the plain prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from emorl_bench.core.applicable import mean_scores, stated
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Learner, Policy, Solution
from emorl_bench.core.seeds import stream
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.rl.decoupling import reward_for
from emorl_bench.rl.loop import describe, prompts, side_by_side
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.weighting import FixedWeights, fixed_weights

AGENTS = ("first", "second")  # `first` starts as the pioneer


@dataclass(frozen=True)
class Cory:
    """``deploy``: the agent that is graded, ``first`` or ``second``, or the ``best`` of them on the select split."""

    weights: Sequence[float] | None = None
    swap_every: int = 5
    template: str = "{prompt} {response} {prompt}"
    deploy: str = "best"

    def fit(self, bench: Bench) -> Solution:
        if self.deploy not in (*AGENTS, "best"):
            raise UserError(f"method.deploy='{self.deploy}': must be first, second or best")
        if self.swap_every < 1:
            raise UserError(f"method.swap_every={self.swap_every}: must be at least 1 iteration")
        weighting = fixed_weights(self.weights, bench.objectives, bench.reward)
        agents = {name: bench.new_policy(name) for name in AGENTS}
        learners = {name: bench.update.learner(policy, bench.ledger) for name, policy in agents.items()}

        def round(_: Sequence[TrainingRun], step: int) -> list[Metrics]:
            pioneer, observer = AGENTS if (step // self.swap_every) % 2 == 0 else AGENTS[::-1]
            return [self._iteration(bench, agents, learners, weighting, pioneer, observer, step)]

        run = TrainingRun(bench, "cory", agents, learners, weighting, bench.budget)
        side_by_side(bench, [run], round)
        best = max(AGENTS, key=lambda name: run.progress.best[name][0])
        return OnePolicy(agents[best if self.deploy == "best" else self.deploy])

    def _iteration(
        self,
        bench: Bench,
        agents: Mapping[str, Policy],
        learners: Mapping[str, Learner],
        weighting: FixedWeights,
        pioneer: str,
        observer: str,
        step: int,
    ) -> Metrics:
        first = agents[pioneer].generate(prompts(bench, step), bench.sampling, stream(bench.seed, "pioneer", step))
        second = self._observe(bench, agents[observer], first, step)
        scores = {pioneer: bench.score(first), observer: bench.score(second)}
        rewards = {name: weighting.reward(scores[name]) for name in scores}
        told = [reward_for(learners[n], weighting, scores[n], rewards[n], first.group_size) for n in scores]
        # The sum of both; an answer without a reward counts as its partner's, which keeps the scale of the others.
        shared_B, told_B = (2 * mean_scores(torch.stack(both)) for both in (list(rewards.values()), told))
        metrics = stated({"reward": mean_scores(shared_B).item()})
        for name, rollout in ((pioneer, first), (observer, second)):
            update = learners[name].step(rollout, told_B, stream(bench.seed, name, "update", step))
            seen = describe(bench, rollout, scores[name], shared_B) | dict(update)
            metrics |= {f"{name}/{key}": value for key, value in seen.items()}
        return metrics

    def _observe(self, bench: Bench, agent: Policy, first: Rollout, step: int) -> Rollout:
        """One observation for each of the pioneer's answers; samples of a prompt stay one group."""
        shown = [
            replace(e, shown=self.template.format(prompt=e.prompt, response=r))
            for e, r in zip(first.examples, first.responses, strict=True)
        ]
        once = replace(bench.sampling, samples_per_prompt=1)
        second = agent.generate(shown, once, stream(bench.seed, "observer", step))
        return replace(second, group_size=first.group_size)
