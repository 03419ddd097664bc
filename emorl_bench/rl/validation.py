"""Validation: the policies of every run answer the select split greedily, at the same time where that saves time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.masked import mean_scores
from emorl_bench.core.protocols import Bench, Sampler
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.policies.adapter_policy import AdapterPolicy
from emorl_bench.policies.together import generate_together
from emorl_bench.rl.run import TrainingRun


def validate(bench: Bench, runs: Sequence[TrainingRun]) -> None:
    """Grade what each run wants to be graded, on greedy answers to the select split: by default its policies."""
    graded = [(run, name, asked) for run in runs for name, asked in run.graded.items()]
    if not graded:
        return
    greedy = replace(bench.sampling, temperature=0.0, samples_per_prompt=1)
    scores: dict[str, dict[str, torch.Tensor]] = {run.name: {} for run in runs}
    with bench.ledger.together([f"validate/{run.name}" for run, *_ in graded]):
        rngs = [stream(bench.seed, "validate") for _ in graded]
        prompts = runs[0].select_prompts  # runs that take turns are of one kind
        rollouts = _answers([asked for *_, asked in graded], prompts, greedy, rngs, bench.ledger)
        for i, ((run, name, _), rollout) in enumerate(zip(graded, rollouts, strict=True)):
            with bench.ledger.alone(i):
                scores[run.name][name] = mean_scores(run.bench.score(rollout))
    for run in runs:
        run.observe(scores[run.name])


def _answers(
    graded: Sequence[Sampler],
    prompts: Sequence[Example],
    sampling: Sampling,
    rngs: Sequence[torch.Generator],
    ledger: Ledger,
) -> list[Rollout]:
    """Adapters of one base answer together. A sampler that changes the prompts answers alone."""
    policies = [asked for asked in graded if isinstance(asked, AdapterPolicy)]
    if len(policies) == len(graded):
        return generate_together(policies, prompts, sampling, rngs)
    rollouts = []
    for i, (asked, rng) in enumerate(zip(graded, rngs, strict=True)):
        with ledger.alone(i):
            rollouts.append(asked.generate(prompts, sampling, rng))
    return rollouts
