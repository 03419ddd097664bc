"""The training loop of all gradient-based methods: rounds, validation, checkpoints, budget, convergence, resume.

It drives one `TrainingRun`, or several at the same time; each ends by itself. A method decides what happens in a round:
`sample_score_update` is the plain round, and CORY's round has two agents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from emorl_bench.core.ledger import Cost
from emorl_bench.core.protocols import Bench, Policy, Weighting
from emorl_bench.core.seeds import seed_for, stream
from emorl_bench.core.types import Budget, Example, Metrics
from emorl_bench.policies.together import can_stack, generate_together
from emorl_bench.progress import ProgressBar
from emorl_bench.rl.learner import AdapterLearner
from emorl_bench.rl.recovery import meet
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.showing import describe, log_again, reward_line
from emorl_bench.rl.update import Updater
from emorl_bench.rl.validation import validate

Round = Callable[[Sequence[TrainingRun], int], Sequence[Metrics]]
"""One step of some runs that all stand at it."""


def train(
    bench: Bench, policy: Policy, weighting: Weighting, *, name: str, budget: Budget, dir: Path | None = None
) -> Policy:
    """Train one policy on one weighting until its budget is spent. The policy ends at its best validation."""
    train_runs(bench, [single_policy_run(bench, policy, weighting, name=name, budget=budget, dir=dir)])
    return policy


def train_runs(bench: Bench, runs: Sequence[TrainingRun]) -> None:
    """Train runs of one policy each to their end, by `sample_score_update`; together where they can share passes."""
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
    """The training of one policy by the configured update rule; `TrainingRun` explains ``dir`` and ``earlier``."""
    learner = bench.update.learner(policy, bench.ledger, bench.objectives)
    return TrainingRun(bench, name, {name: policy}, {name: learner}, weighting, budget, dir, earlier)


def sample_score_update(bench: Bench) -> Round:
    """The plain round, for runs with one policy each. Every run has the numbers that it would have alone."""
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
        else:  # a rule from outside this project, in a run of its own
            updates = [learners[0].step(rollouts[0], rewards[0], rngs[0])]
        return [shown | dict(metrics) for shown, metrics in zip(seen, updates, strict=True)]

    return round


def run_rounds(bench: Bench, runs: Sequence[TrainingRun], round: Round) -> None:
    """Train every run to its end, from where an earlier process has left it.

    The runs that are furthest behind go first. So runs that resume at different steps meet. From then on they take each
    step together, on the same prompts. A run that has ended leaves the group.
    """
    meet(runs)
    for run in runs:
        bench.ledger.phases.setdefault(run.phase, Cost())  # in the order of trainings that begin together
    for run in runs:
        run.restore()
    log_again(runs)
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
                steps.to(done, *reward_line([run for run in group if run.progress.ended is None], metrics))


def _furthest_behind(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    going = [run for run in runs if run.progress.ended is None]
    return [run for run in going if run.step == min(other.step for other in going)]


def _advance(bench: Bench, group: Sequence[TrainingRun], round: Round) -> Sequence[Metrics]:
    """One step of runs that stand at the same step, or the end of those runs that have reached a limit."""
    training = bench.training
    for run in group:
        run.progress.together = [other.name for other in group] if len(group) > 1 else []
    with bench.ledger.together([run.phase for run in group]):
        validate(bench, [run for run in group if not run.progress.history and run.fits])
        limits = {run.name: run.limit() for run in group}
        ended = [run for run in group if limits[run.name] is not None]
        for run in ended:
            run.save()  # what a larger budget continues from: without the validation that only an end asks for
        validate(bench, [run for run in ended if run.progress.history and not run.validated])
        for run in ended:
            run.progress.ended = limits[run.name]
            run.finish()
    going = [run for run in group if run.progress.ended is None]
    if not going:
        return []
    with bench.ledger.together([run.phase for run in going]):
        step, names = going[0].step, [run.name for run in going]
        # A run with dropout is trained alone, and each rank draws other masks.
        torch.manual_seed(seed_for(bench.seed, going[0].name, "dropout", step) + bench.runtime.ranks.index)
        metrics = round(going, step)
        for run, own in zip(going, metrics, strict=True):
            run.progress.together = names if len(names) > 1 else []
            run.advance(own)
        if (step + 1) % training.validate_every == 0:
            validate(bench, going)
        if (step + 1) % training.checkpoint_every == 0:
            for run in going:
                run.save()
    return metrics


def prompts(bench: Bench, step: int) -> list[Example]:
    """The training prompts of a step. Under one seed they are the same for every learner of every method."""
    order = torch.randperm(len(bench.train), generator=stream(bench.seed, "prompts", step))
    return [bench.train[i] for i in order[: bench.training.batch_prompts].tolist()]
