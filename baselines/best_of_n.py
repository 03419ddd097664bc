"""Best of n (2009.01325): draw n answers and keep the one that the scorers like best under the preference.

This rival needs no training at all (``policy=base``), or only that of one weighted policy (``policy=weighted``). It
answers every preference by choosing. It pays for n times the decoding and for K scorer calls on each candidate, and all
of it is metered where it happens. Candidates are drawn once for all preferences.

It is graded by the scorers that it chooses with. So only held-out scorers, and gold labels where a task has them, can
tell how much of the gain is real. The solution says so (``chooses_with_scorers``), and the record of a run repeats it.

KL: choosing costs ``ln n - (n - 1) / n`` nats against the distribution that candidates are drawn from. That is exact
where no two candidates tie, and an upper bound otherwise (2401.01879). An answer's log-probabilities hold this
constant, so the KL to the base that runs report is that of best-of-n, or an upper bound of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.masked import weighted_mean
from emorl_bench.core.protocols import Bench, Sampler, Solution
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.policies.together import concatenated
from emorl_bench.rl.loop import train
from emorl_bench.rl.weighting import fixed_weights

POLICIES = ("base", "weighted")


@dataclass(frozen=True)
class BestOfN:
    """Best of n under every preference.

    Attributes:
        n: the number of candidates of each answer.
        policy: who draws the candidates, "base" or "weighted".
        weights: the weights of the reward that the weighted policy is trained on; None is uniform.
    """

    n: int = 8
    policy: str = "weighted"
    weights: Sequence[float] | None = None

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`.

        Raises:
            UserError: ``n`` is below 1, ``policy`` is unknown, or the weights do not fit the objectives.
        """
        if self.n < 1:
            raise UserError(f"method.n={self.n}: give 1 or more candidates")
        if self.policy not in POLICIES:
            raise UserError(f"method.policy='{self.policy}': unknown{did_you_mean(self.policy, POLICIES)}")
        policy = bench.new_policy("policy")
        if self.policy == "base":
            policy = policy.reference()
        else:
            weighting = fixed_weights(self.weights, bench.objectives, bench.reward)
            policy = train(bench, policy, weighting, name="policy", budget=bench.budget)
        return ChosenFront(Candidates(policy, bench.score, self.n, bench.sampling.temperature))


@dataclass(frozen=True)
class ChosenFront(Solution):
    """A `Solution` whose answers the scorers choose, and which says so (`core.protocols.Solution`)."""

    candidates: Candidates
    chooses_with_scorers: ClassVar[bool] = True

    def policy_for(self, preference_K: Tensor) -> Sampler:
        """See `core.protocols.Solution.policy_for`."""
        return Chosen(self.candidates, preference_K)


@dataclass
class Candidates:
    """Scored answers, n for each wanted one; they are remembered, so every preference chooses among the same ones.

    Attributes:
        policy: who draws the candidates.
        score: the bench's scorers, (B, K) for a rollout.
        n: the number of candidates of each answer.
        temperature: that of the candidates of greedy answers.
    """

    policy: Sampler
    score: Callable[[Rollout], Tensor]
    n: int
    temperature: float
    _drawn: dict[tuple[object, ...], tuple[Rollout, Tensor, Tensor]] = field(default_factory=dict)

    def of(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> tuple[Rollout, Tensor]:
        """The candidates for P prompts with G samples each, drawn now or remembered.

        Returns:
            a rollout of P*G*n rows, the candidates of one answer next to each other, and their scores (P*G*n, K).
        """
        key = (tuple(examples), sampling, rng.get_state().numpy().tobytes())
        if key not in self._drawn:
            rollout = (
                self._greedy(examples, sampling, rng)
                if sampling.temperature == 0
                else self._sampled(examples, sampling, rng, self.n)
            )
            self._drawn[key] = rollout, self.score(rollout), rng.get_state()
        rollout, scores_BK, after = self._drawn[key]
        rng.set_state(after)
        return rollout, scores_BK

    def _sampled(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator, each: int) -> Rollout:
        return self.policy.generate(
            examples, replace(sampling, samples_per_prompt=sampling.samples_per_prompt * each), rng
        )

    def _greedy(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """The greedy answer and n - 1 samples beside it, because n greedy answers would all be the same."""
        greedy = self.policy.generate(examples, sampling, rng)
        if self.n == 1:
            return greedy
        others = self._sampled(examples, replace(sampling, temperature=self.temperature), rng, self.n - 1)
        first, rest, answers = len(greedy.examples), self.n - 1, range(len(greedy.examples))
        return concatenated([greedy, others]).rows(
            [row for i in answers for row in (i, *range(first + i * rest, first + (i + 1) * rest))]
        )


@dataclass(frozen=True)
class Chosen:
    """The candidates that one preference likes best. An objective that does not apply to a candidate has no say."""

    candidates: Candidates
    preference_K: Tensor

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """See `core.protocols.Sampler.generate`; the first log-probability of each answer holds the KL of choosing."""
        drawn, scores_BK = self.candidates.of(examples, sampling, rng)
        n = self.candidates.n
        worth_BN = weighted_mean(scores_BK, self.preference_K.to(scores_BK)).nan_to_num(-math.inf).view(-1, n)
        row_indices = torch.arange(len(worth_BN)) * n + worth_BN.argmax(1)
        best = drawn.rows(row_indices.tolist())
        logprobs_BT = best.logprobs_BT.clone()
        logprobs_BT[:, 0] += math.log(n) - (n - 1) / n
        if sampling.temperature == 0:
            logprobs_BT = torch.full_like(logprobs_BT, torch.nan)
        return replace(
            best,
            logprobs_BT=logprobs_BT,
            group_size=sampling.samples_per_prompt,
            temperature=sampling.temperature or 1.0,
        )
