"""CORY (2410.06101): a pioneer answers, an observer answers after reading it, and both share the reward and swap roles.

Both agents are adapters of one base model. Each agent is updated on its own rollout with the sum of both rewards. The
KL penalty of the observer is conditioned on the observer's own, longer input. The paper's three ablations are settings:
``template=None`` (no knowledge transfer), ``swap_every=None`` (no role swap), and ``share_reward=False`` (individual
rewards).

Against the release (its IMDB script). Where a key brings the release's form back, the key is named;
`experiment=cory_forms` runs both forms:

- The KL is that of the sampled token; there it is exact over the vocabulary: ``update.kl=full``.
- Rewards are used as they are, so with a sum of two rewards the KL weighs half. There rewards are normalised by a
  running mean and deviation, which undoes the factor 2: ``update.reward_scale=normalised``.
- The KL coefficient is fixed; there it starts at 0.4 and adapts to 6 nats: ``update.kl_coefficient=0.4
  update.kl_target=6``.
- An update has 2 epochs; there 4: ``update.epochs=4``.
- The observer reads query, text and query; there it reads a sentence about them: ``template=sentence``.
- The agents are adapters of one base; there all weights of two models are trained, at a learning rate of 1.41e-5.
- Roles are swapped. There weights are swapped into new trainers, so Adam, the adaptive coefficient and the running
  moments begin anew.
- Samples have the temperature of all methods, and there are 4 for each prompt. There each prompt has one sample with a
  repetition penalty of 1.1 and a length drawn for each batch. With the penalty, the sampled distribution is not the
  trained one.
- The agents are validated and deployed alone. They read the plain prompt, and each is deployed at its best validation.
- A skipped minibatch changes nothing (`rl.ppo`), and answers without a score have no reward.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.masked import mean_scores
from emorl_bench.core.protocols import Bench, Candidate, Learner, Policy, Solution
from emorl_bench.core.seeds import stream
from emorl_bench.core.solutions import BestCandidate
from emorl_bench.core.types import Example, Metrics, Rollout
from emorl_bench.rl.loop import prompts, run_rounds
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.showing import describe
from emorl_bench.rl.weighting import FixedWeights, fixed_weights

AGENTS = ("first", "second")  # `first` starts as the pioneer
TEMPLATES = {  # what the observer reads; the wording of the last one is our own
    "again": "{prompt} {response} {prompt}",  # IMDB: the query, the pioneer's text, the query again
    "sentence": 'I can make this sentence "{prompt} {response}" more positive: {prompt}',  # IMDB, as released
    "reference": "{prompt}\nSomebody's answer, for reference, right or wrong: {response}",  # GSM8K
}
PLACE = re.compile(r"\{(prompt|response)\}")


@dataclass(frozen=True)
class Cory:
    """Two agents that learn from each other.

    Attributes:
        weights: one for each objective, summing to 1; None is uniform.
        swap_every: iterations between swaps of roles, or None for no swap.
        template: a name of `TEMPLATES`, a text with ``{prompt}`` and ``{response}``, or None: the observer reads the
            plain prompt.
        share_reward: whether both agents are rewarded with the sum of both rewards, or each with its own.
        deploy: the agent that is graded as the method; "best" is the one that is better on the select split.
    """

    weights: Sequence[float] | None = None
    swap_every: int | None = 5
    template: str | None = "again"
    share_reward: bool = True
    deploy: Literal["first", "second", "best"] = "best"

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`.

        Raises:
            UserError: ``template`` shows no prompt or no response, ``swap_every`` is below 1, or the weights do not fit
                the objectives.
        """
        template = checked(self.template)
        if self.swap_every is not None and self.swap_every < 1:
            raise UserError(f"method.swap_every={self.swap_every}: give 1 or more iterations, or null for no swap")
        weighting = fixed_weights(self.weights, bench.objectives, bench.reward)
        agents = {name: bench.new_policy(name) for name in AGENTS}
        learners = {
            name: bench.update.learner(policy, bench.ledger, bench.objectives) for name, policy in agents.items()
        }
        pair = _Pair(bench, agents, learners, weighting, template, self.share_reward)

        def round(_: Sequence[TrainingRun], step: int) -> list[Metrics]:
            return [pair.iterate(step, *self.roles(step))]

        run = TrainingRun(bench, "cory", agents, learners, weighting, bench.budget)
        run_rounds(bench, [run], round)
        best = max(AGENTS, key=lambda name: run.progress.best[name][0])
        members = {name: Candidate(policy, validation(run, name)) for name, policy in agents.items()}
        return BestCandidate(members, best if self.deploy == "best" else self.deploy)

    def roles(self, step: int) -> tuple[str, str]:
        """The names of the pioneer and the observer of an iteration."""
        swapped = self.swap_every is not None and (step // self.swap_every) % 2 == 1
        first, second = AGENTS
        return (second, first) if swapped else (first, second)


@dataclass(frozen=True)
class _Pair:
    """The two agents and one iteration of theirs; ``template`` None: the observer reads nothing of the pioneer."""

    bench: Bench
    agents: Mapping[str, Policy]
    learners: Mapping[str, Learner]
    weighting: FixedWeights
    template: str | None
    share_reward: bool

    def iterate(self, step: int, pioneer: str, observer: str) -> Metrics:
        bench, examples = self.bench, prompts(self.bench, step)
        first = self.agents[pioneer].generate(examples, bench.sampling, stream(bench.seed, "pioneer", step))
        second = self._observe(examples, first, observer, step)
        scores = {pioneer: bench.score(first), observer: bench.score(second)}
        rollouts = {pioneer: first, observer: second}
        rewards = {n: self.weighting.reward(scores_BK) for n, scores_BK in scores.items()}
        given = {n: self.learners[n].rewards(scores[n], self.weighting, first.group_size) for n in scores}
        own = {name: describe(bench, rollouts[name], scores[name], rewards[name]) for name in scores}
        if self.share_reward:
            rewards, given = (dict.fromkeys(scores, _sum(both)) for both in (rewards, given))
        metrics: dict[str, float] = {}
        for name, rollout in rollouts.items():
            update = self.learners[name].step(rollout, given[name], stream(bench.seed, name, "update", step))
            own[name] |= dict(update)
            seen = describe(bench, rollout, scores[name], rewards[name]) | dict(update)
            metrics |= {f"{name}/{key}": value for key, value in seen.items()}
        metrics |= _means(list(own.values()), ("reward", "kl", "length", *bench.objectives))
        cut = sum(self.agents[observer].truncates(example.context) for example in second.examples)
        return metrics | {f"{observer}/truncated": float(cut)}

    def _observe(self, examples: Sequence[Example], first: Rollout, observer: str, step: int) -> Rollout:
        """One observation for each of the pioneer's answers; samples of a prompt stay one group."""
        agent, rng = self.agents[observer], stream(self.bench.seed, "observer", step)
        if self.template is None:
            return agent.generate(examples, self.bench.sampling, rng)
        shown = [
            replace(example, shown=filled(self.template, example.prompt, response))
            for example, response in zip(first.examples, first.responses, strict=True)
        ]
        second = agent.generate(shown, replace(self.bench.sampling, samples_per_prompt=1), rng)
        return replace(second, group_size=first.group_size)


def checked(template: str | None) -> str | None:
    """The text of a template, given by name or as it is.

    Raises:
        UserError: it shows no prompt or no response.
    """
    if template is None:
        return None
    text = TEMPLATES.get(template, template)
    if {match[1] for match in PLACE.finditer(text)} != {"prompt", "response"}:
        raise UserError(
            f"method.template={template!r}: give {', '.join(TEMPLATES)}, a text with {{prompt}} and {{response}}, "
            "or null: the observer reads the plain prompt"
        )
    return text


def filled(template: str, prompt: str, response: str) -> str:
    """Put prompt and response into a template, in one pass.

    A prompt or an answer that itself contains ``{response}``, or any other brace, stays as it is.
    """
    given = {"prompt": prompt, "response": response}
    return PLACE.sub(lambda match: given[match[1]], template)


def validation(run: TrainingRun, name: str) -> Metrics:
    """What an agent scored on the select split at its best validation; training ends by going back to that state."""
    step, own = run.progress.best[name][1], f"eval/{name}/"
    row = next((row for row in run.progress.history if row["step"] == step), {})  # none if no validation was paid for
    return {key.removeprefix(own): value for key, value in row.items() if key.startswith(own)} | {"step": step}


def _means(agents: Sequence[Metrics], names: Sequence[str]) -> dict[str, float]:
    """Of the pair: the mean over its agents, of what each has earned by itself."""
    found = {name: [one[name] for one in agents if name in one] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def _sum(rewards: Mapping[str, Tensor]) -> Tensor:
    """The sum (B,) of both rewards.

    An answer without a reward counts as its partner's, which keeps the scale of the other rewards.
    """
    return 2 * mean_scores(torch.stack(list(rewards.values())))
