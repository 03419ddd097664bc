"""The training loop every gradient-based method shares: rounds, validation, checkpoints, budget, convergence, resume.

It drives one `TrainingRun` or several side by side, each with its own end. What a round does is the method's:
`sample_score_update` is the plain one; CORY's has two agents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from emorl_bench.core.masked import mean_scores, not_applicable, stated
from emorl_bench.core.protocols import Bench, Policy, Weighting
from emorl_bench.core.seeds import seed_for, stream
from emorl_bench.core.types import Budget, Example, Metrics, Rollout
from emorl_bench.policies.together import can_stack, generate_together
from emorl_bench.progress import ProgressBar
from emorl_bench.rl.learner import AdapterLearner
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.update import Updater
from emorl_bench.rl.validation import validate

Round = Callable[[Sequence[TrainingRun], int], Sequence[Metrics]]
"""One step of some runs that all stand at it."""


def train(
    bench: Bench, policy: Policy, weighting: Weighting, *, name: str, budget: Budget, dir: Path | None = None
) -> Policy:
    """Train one policy on one weighting until its budget is spent; it ends at its best validation."""
    train_runs(bench, [single_policy_run(bench, policy, weighting, name=name, budget=budget, dir=dir)])
    return policy


def train_runs(bench: Bench, runs: Sequence[TrainingRun]) -> None:
    """Bring runs of one policy each to their end, by `sample_score_update`: together where they can share passes."""
    drivable = all(isinstance(run.learners[run.name], AdapterLearner) for run in runs)
    together = bench.runtime.joint_experts and drivable and can_stack([run.policies[run.name] for run in runs])
    for group in [runs] if together else [[run] for run in runs]:
        run_rounds(bench, group, sample_score_update(bench))


def single_policy_run(
    bench: Bench,
    policy: Policy,
    weighting: Weighting,
    *,
    name: str,
    budget: Budget,
    dir: Path | None = None,
    earlier: Sequence[Path] = (),
) -> TrainingRun:
    """The training of one policy by the configured rule."""
    learner = bench.update.learner(policy, bench.ledger, bench.objectives)
    return TrainingRun(bench, name, {name: policy}, {name: learner}, weighting, budget, dir, earlier)


def sample_score_update(bench: Bench) -> Round:
    """The plain round of runs with one policy each: every expert's numbers are those of its training alone."""
    updater = Updater(bench.ledger)

    def round(runs: Sequence[TrainingRun], step: int) -> list[Metrics]:
        rngs = [stream(bench.seed, run.name, "rollout", step) for run in runs]
        policies = [run.policies[run.name] for run in runs]
        learners = [run.learners[run.name] for run in runs]
        rollouts = generate_together(policies, prompts(bench, step), bench.sampling, rngs)
        seen, rewards = [], []
        for i, (run, learner, rollout) in enumerate(zip(runs, learners, rollouts, strict=True)):
            with bench.ledger.alone(i):
                scores_BK = run.bench.score(rollout)
            seen.append(describe(run.bench, rollout, scores_BK, run.weighting.reward(scores_BK)))
            rewards.append(learner.rewards(scores_BK, run.weighting, rollout.group_size))
        rngs = [stream(bench.seed, run.name, "update", step) for run in runs]
        driven = [learner for learner in learners if isinstance(learner, AdapterLearner)]
        if len(driven) == len(runs):
            updates = updater.update(driven, rollouts, rewards, rngs)
        else:  # a rule that is none of ours, in a run of its own
            updates = [learners[0].step(rollouts[0], rewards[0], rngs[0])]
        return [shown | dict(metrics) for shown, metrics in zip(seen, updates, strict=True)]

    return round


def run_rounds(bench: Bench, runs: Sequence[TrainingRun], round: Round) -> None:
    """Bring every run to its end, from wherever an earlier process has left it.

    The runs that are furthest behind go first, so runs that were taken up at different steps meet; from then on they go
    together, on the same prompts, and whoever has ended leaves.
    """
    for run in runs:
        run.restore()
    if not (unfinished := [run for run in runs if run.progress.ended is None]):
        return
    for run in unfinished:
        run.check()
    total = sum(run.budget.prompts or 1 for run in unfinished)
    label, quiet = f"train {', '.join(run.name for run in unfinished)}", not bench.runtime.ranks.first
    with ProgressBar(label, total, "prompts", quiet=quiet, tokens=lambda: bench.ledger.generated_tokens) as steps:
        while group := _furthest_behind(unfinished):
            if metrics := _advance(bench, group, round):
                done = sum(run.fraction * (run.budget.prompts or 1) for run in unfinished)
                # Agents that share a reward log its sum; shown is the mean of a run's policies, as for all methods.
                shown = [
                    own.get("reward", math.nan) / len(run.policies) for run, own in zip(group, metrics, strict=True)
                ]
                mean = sum(shown) / len(shown)
                words = " ".join(["reward", *(f"{reward:.3f}" for reward in shown)])
                steps.to(done, words, None if math.isnan(mean) else mean)


def _furthest_behind(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    going = [run for run in runs if run.progress.ended is None]
    return [run for run in going if run.step == min(other.step for other in going)]


def _advance(bench: Bench, group: Sequence[TrainingRun], round: Round) -> Sequence[Metrics]:
    """One step of some runs that stand at the same one, or the end of those that are due to end."""
    training = bench.training
    with bench.ledger.together([run.phase for run in group]):
        validate(bench, [run for run in group if not run.progress.history and run.fits])
        limits = {run.name: run.limit() for run in group}
        ended = [run for run in group if limits[run.name] is not None]
        for run in ended:
            run.save()  # as a larger budget goes on from: without the validation that only an end calls for
        validate(bench, [run for run in ended if run.progress.history and not run.validated])
        for run in ended:
            run.progress.ended = limits[run.name]
            run.finish()
    going = [run for run in group if run.progress.ended is None]
    if not going:
        return []
    with bench.ledger.together([run.phase for run in going]):
        step = going[0].step
        # With dropout a run goes alone, and ranks drop apart.
        torch.manual_seed(seed_for(bench.seed, going[0].name, "dropout", step) + bench.runtime.ranks.index)
        metrics = round(going, step)
        for run, own in zip(going, metrics, strict=True):
            run.advance(own)
        if (step + 1) % training.validate_every == 0:
            validate(bench, going)
        if (step + 1) % training.checkpoint_every == 0:
            for run in going:
                run.save()
    return metrics


def prompts(bench: Bench, step: int) -> list[Example]:
    """The step's training prompts: the same for every learner of every method under one seed."""
    order = torch.randperm(len(bench.train), generator=stream(bench.seed, "prompts", step))
    return [bench.train[i] for i in order[: bench.training.batch_prompts].tolist()]


def describe(bench: Bench, rollout: Rollout, scores_BK: torch.Tensor, rewards_B: torch.Tensor) -> dict[str, float]:
    """What a training step has seen: mean score by objective, mean reward, mean response length in tokens.

    Objectives that do not apply to some responses are counted, and so is a reward that is missing for all.
    """
    means = dict(zip(bench.objectives, mean_scores(scores_BK).tolist(), strict=True))
    skipped = {f"not_applicable/{k}": float(n) for k, n in not_applicable(scores_BK, bench.objectives).items()}
    return (
        stated(means | {"reward": mean_scores(rewards_B).item()})
        | skipped
        | {"length": rollout.tokens / len(rollout.examples)}
    )
