"""Rewards-in-Context (2402.10207): one policy reads in its prompt which scores its answer should reach.

Offline, the base model's answers are scored. Each answer is learnt by likelihood after a prompt that tells its scores.
Online, each prompt asks for the scores that a random preference maps to. Answers near the front by their weighted score
are kept (multi-objective rejection). They are told with the scores that they did reach, and are learnt beside the
offline ones, half of each batch from either stage. A preference is answered at once, by what it writes into the prompt.

A weight of 1/K or more asks for the largest score seen. A smaller weight asks for its part of the span above the least
score. This is the release's `linf`: a growing weight never asks for less, and the uniform preference asks for the best
of everything. ``mapping=l2`` is what the release evaluates with. Here a score is told in one of a few words, where the
release tells a number. The span is that of the scores seen so far, where the release takes that of a Gaussian.

Further against the release:

- A batch of answers is learnt from as soon as it is there, so a round is one batch.
- Offline answers are the base model's and are paid from the budget; the release takes a corpus's.
- Online prompts ask for what preferences ask for. Those of the release ask for the top in all objectives but one.
- An answer is kept for its weighted score under the preference that it was given for. The release keeps the top 30 % in
  any objective, and filters offline answers too.
- The KL that runs report is that of the policy with scores in its prompt to the base model on the plain prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import torch
from torch import Tensor

from baselines.ric.answers import Answer, Collected, as_rollout
from baselines.ric.prompting import (
    Association,
    Wording,
    desired_shares,
    levels_of,
    near_front,
    shares_of,
)
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.protocols import Bench, Policy, Sampler, Solution
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Example, Metrics, Rollout, Sampling
from emorl_bench.rl.loop import prompts, run_rounds
from emorl_bench.rl.preferences import PreferenceRun, drawn
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.showing import describe
from emorl_bench.rl.weighting import fixed_weights

NAME = "ric"


@dataclass(frozen=True)
class RewardsInContext:
    """One policy that reads the wanted scores in its prompt.

    Attributes:
        tags: the words of an objective's scores, from low to high. An objective without them has its name and a level.
        levels: the levels of objectives without words of their own.
        template: a text with ``{prompt}`` and after it ``{scores}``.
        mapping: how a preference becomes wanted scores (`desired_shares`).
        offline: the share of the budget for the offline stage.
        quantile: the quantile of a round's weighted scores that an answer must reach to be kept.
        updates: the number of batches that are learnt from for every batch of prompts.
    """

    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    levels: Sequence[str | int] = (1, 2, 3, 4, 5)
    template: str = "{prompt} {scores}."
    mapping: Association = "linf"
    offline: float = 0.5
    quantile: float = 0.7
    updates: int = 8

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`.

        Raises:
            UserError: a setting is out of its range, the update rule does not learn by likelihood, the budget has no
                limit, or the model cannot read the words.
        """
        self._check(bench)
        policy = bench.new_policy(NAME)
        named = {o: [f"{o} {level}" for level in self.levels] for o in bench.objectives}
        tags = tuple(tuple(self.tags.get(o, own)) for o, own in named.items())
        wording = Wording(tags, self.template)
        wording.check(policy)
        solution = Conditioned(policy, wording, self.mapping)
        run = Stages.of(bench, solution, self.offline)

        def round(_: Sequence[TrainingRun], step: int) -> list[Metrics]:
            seen = self._ask(run, step) if run.online else self._listen(run, step)
            return [seen | self._learn(run, step)]

        run_rounds(bench, [run], round)
        return solution

    def _check(self, bench: Bench) -> None:
        if not bench.update.rewards_are_weights:
            raise UserError("update: ric learns by likelihood; say update=likelihood, or leave update out")
        if bench.budget == Budget():
            raise UserError("budget: ric divides it between offline and online; give prompts or another limit")
        if self.mapping not in (known := get_args(Association)):
            raise UserError(f"method.mapping='{self.mapping}': unknown{did_you_mean(self.mapping, known)}")
        if not 0 < self.offline <= 1:
            raise UserError(f"method.offline={self.offline}: give a share of the budget above 0, at most 1")
        if not 0 <= self.quantile < 1:
            raise UserError(f"method.quantile={self.quantile}: give 0 (all are kept) or more, below 1")
        if self.updates < 1:
            raise UserError(f"method.updates={self.updates}: give 1 or more")

    def _listen(self, run: Stages, step: int) -> dict[str, float]:
        """Offline: the base model answers, and every answer with a score is learnt from."""
        bench, rng = run.bench, stream(run.bench.seed, NAME, "rollout", step)
        rollout = run.solution.policy.reference().generate(run.prompts(), bench.sampling, rng)
        scores_BK = bench.score(rollout)
        run.collected.add(step, rollout, scores_BK, ~scores_BK.isnan().all(1))
        return describe(bench, rollout, scores_BK, run.weighting.reward(scores_BK))

    def _ask(self, run: Stages, step: int) -> dict[str, float]:
        """Online: the policy answers what random preferences ask for, and answers near the front are kept."""
        bench, solution, examples = run.bench, run.solution, run.prompts()
        rng = stream(bench.seed, NAME, "preferences", step)
        preferences_PK = drawn(len(examples), len(bench.objectives), rng)
        shown = [solution.shown(e, w_K) for e, w_K in zip(examples, preferences_PK, strict=True)]
        rollout = solution.policy.generate(shown, bench.sampling, stream(bench.seed, NAME, "rollout", step))
        rollout = answered(rollout, examples)
        scores_BK, asked_BK = bench.score(rollout), preferences_PK.repeat_interleave(rollout.group_size, dim=0)
        kept_B = near_front(scores_BK, asked_BK, self.quantile, bench.reward)
        run.collected.add(step, rollout, scores_BK, kept_B, asked_BK)
        seen = describe(bench, rollout, scores_BK, run.weighting.reward(scores_BK))
        return {**seen, "kept": kept_B.double().mean().item()}

    def _learn(self, run: Stages, step: int) -> dict[str, float]:
        """A few steps of maximum likelihood on the answers kept so far, told with their scores."""
        bench, wording, seen_NK = run.bench, run.solution.wording, run.collected.scores
        metrics: dict[str, float] = {}
        for i in range(self.updates):
            answers = run.batch(i)
            if not answers:
                break
            shares_BK = shares_of(torch.tensor([a.scores for a in answers]), seen_NK)
            levels_BK = levels_of(shares_BK, wording.count).tolist()
            told = [wording.shown(a.example, levels_K) for a, levels_K in zip(answers, levels_BK, strict=True)]
            device = next(run.solution.policy.parameters()).device
            rollout = as_rollout(answers, told, bench.sampling.temperature, device)
            rng = stream(bench.seed, NAME, "update", step, i)
            metrics = dict(run.learners[NAME].step(rollout, torch.ones(len(answers)), rng))
        return metrics


@dataclass
class Stages(PreferenceRun):
    """One training in two stages.

    The training can converge only online, so the offline share of the budget is always spent. The budget decides when
    the training goes online, so it goes on from no run with a smaller one.

    Attributes:
        solution: the policy with its words.
        offline: the share of the budget for the offline stage.
        collected: the answers so far.
    """

    prefix = False

    solution: Conditioned = field(kw_only=True)
    offline: float = field(kw_only=True)
    collected: Collected = field(kw_only=True)

    @classmethod
    def of(cls, bench: Bench, solution: Conditioned, offline: float) -> Stages:
        """The training of a solution's policy, with the bench's budget."""
        policy = solution.policy
        return cls(
            bench,
            NAME,
            {NAME: policy},
            {NAME: bench.update.learner(policy, bench.ledger, bench.objectives)},
            fixed_weights(None, bench.objectives, bench.reward),
            bench.budget,
            solution=solution,
            offline=offline,
            collected=Collected(bench, policy.ranks),
        )

    def answering(self, preference_K: Tensor) -> Sampler:
        """See `rl.preferences.PreferenceRun.answering`."""
        return self.solution.policy_for(preference_K)

    @property
    def online(self) -> bool:
        """Whether the online stage has begun; all ranks agree on it, because their clocks differ."""
        return bool(self.solution.policy.ranks.agree(self.fraction >= self.offline))  # ranks' clocks differ

    @property
    def settles_from(self) -> float:
        """The first step of the online stage, and infinity before it; only later validations count for convergence."""
        return next((a.step for a in self.collected.answers if a.asked is not None), math.inf)

    def restore(self) -> None:
        """See `rl.run.TrainingRun.restore`; the answers of earlier steps are read too."""
        super().restore()
        if self.progress.ended is None:
            self.collected.resume(self.step)

    def prompts(self) -> list[Example]:
        """The prompts of this step."""
        return prompts(self.bench, self.step)

    def batch(self, i: int) -> list[Answer]:
        """As many answers as a step collects, drawn from all kept answers: half of them from either stage.

        Args:
            i: the number of the batch within this step, for its random stream.
        """
        rng = stream(self.bench.seed, NAME, "batch", self.step, i)
        size = self.bench.training.batch_prompts * self.bench.sampling.samples_per_prompt
        offline, online = (self.collected.kept(asked=asked) for asked in (False, True))
        fresh = size // 2 if online and offline else size if online else 0
        return _drawn(online, fresh, rng) + _drawn(offline, size - fresh, rng)


def _drawn(answers: Sequence[Answer], count: int, rng: torch.Generator) -> list[Answer]:
    return [answers[i] for i in torch.randint(len(answers), (count,), generator=rng).tolist()] if answers else []


@dataclass
class Conditioned(Solution):
    """A `Solution`: the policy with a prompt that asks for what a preference maps to.

    Attributes:
        policy: the trained policy.
        wording: the words of the scores.
        mapping: how a preference becomes wanted scores.
    """

    policy: Policy
    wording: Wording
    mapping: Association
    _known: dict[tuple[int, ...], Sampler] = field(default_factory=dict)  # levels -> sampler

    def policy_for(self, preference_K: Tensor) -> Sampler:
        """See `core.protocols.Solution.policy_for`; preferences with equal levels share one sampler."""
        levels_K = self.levels(preference_K)
        return self._known.setdefault(levels_K, Asked(self.policy, self.wording, levels_K))

    def levels(self, preference_K: Tensor) -> tuple[int, ...]:
        """The level of each objective that a preference (K,) asks for."""
        shares_K = desired_shares(preference_K.double(), self.mapping)
        return tuple(levels_of(shares_K, self.wording.count).tolist())

    def shown(self, example: Example, preference_K: Tensor) -> Example:
        """The example with what a preference (K,) asks for in its prompt."""
        return self.wording.shown(example, self.levels(preference_K))


@dataclass(frozen=True)
class Asked:
    """The policy under fixed levels.

    Its rollouts name the plain prompts, so that their KL is to the base model on the plain prompts.
    """

    policy: Policy
    wording: Wording
    levels_K: tuple[int, ...]

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """See `core.protocols.Sampler.generate`."""
        shown = [self.wording.shown(example, self.levels_K) for example in examples]
        return answered(self.policy.generate(shown, sampling, rng), examples)


def answered(rollout: Rollout, examples: Sequence[Example]) -> Rollout:
    """The same answers with the plain prompts as their examples."""
    return replace(rollout, examples=tuple(e for e in examples for _ in range(rollout.group_size)))
