"""The training loop every gradient-based method shares: rounds, validation, best checkpoint, convergence, budget,
resume.

What a round does is the method's: `train` is the plain one (sample, score, update); CORY's has two agents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Cost, Ledger
from emorl_bench.core.progress import Steps
from emorl_bench.core.protocols import Bench, Learner, Policy, Weighting
from emorl_bench.core.seeds import seed_for, stream
from emorl_bench.core.types import Budget, Example, Metrics, Rollout
from emorl_bench.rl.checkpoint import Checkpoint, Progress
from emorl_bench.rl.convergence import fraction_spent, has_converged, spent

Round = Callable[[int], Metrics]


def train(
    bench: Bench, policy: Policy, weighting: Weighting, *, name: str, budget: Budget, dir: Path | None = None
) -> Policy:
    """Train one policy on one weighting until it converges or its budget is spent; it ends at its best validation."""
    learner = bench.update.learner(policy, bench.ledger)

    def round(step: int) -> Metrics:
        rollout = policy.generate(prompts(bench, step), bench.sampling, stream(bench.seed, name, "rollout", step))
        scores_BK = bench.score(rollout)
        rewards_B = weighting.reward(scores_BK)
        metrics = learner.step(rollout, rewards_B, stream(bench.seed, name, "update", step))
        return describe(bench, rollout, scores_BK, rewards_B) | dict(metrics)

    TrainingRun(bench, name, {name: policy}, {name: learner}, round, weighting, budget, dir).run()
    return policy


def prompts(bench: Bench, step: int) -> list[Example]:
    """The step's training prompts: the same for every learner of every method under one seed."""
    order = torch.randperm(len(bench.train), generator=stream(bench.seed, "prompts", step))
    return [bench.train[i] for i in order[: bench.training.batch_prompts].tolist()]


def describe(bench: Bench, rollout: Rollout, scores_BK: torch.Tensor, rewards_B: torch.Tensor) -> dict[str, float]:
    """What a training step has seen: mean score by objective, mean reward, mean response length in tokens."""
    means = dict(zip(bench.objectives, scores_BK.mean(0).tolist(), strict=True))
    return means | {"reward": rewards_B.mean().item(), "length": rollout.tokens / len(rollout.examples)}


@dataclass
class TrainingRun:
    """Some policies trained in one loop; each is validated alone and put back to its own best checkpoint at the end."""

    bench: Bench
    name: str
    policies: Mapping[str, Policy]
    learners: Mapping[str, Learner]
    round: Round
    weighting: Weighting
    budget: Budget
    dir: Path | None = None
    progress: Progress = field(default_factory=Progress)

    def run(self) -> None:
        directory = self.dir or self.bench.dir / "checkpoints" / self.name
        self.checkpoint = Checkpoint(directory, self.policies, self.learners)
        self.progress = self.checkpoint.load()
        for phase, cost in Ledger.from_dict(self.progress.cost).items():
            self.bench.ledger.charge(phase, cost)
        for row in self.progress.history:
            self._log(row)
        if self.progress.ended is None:
            if self.bench.frozen:
                raise UserError(f"'{self.name}' was never trained to its end: run the same emorl-bench command first")
            self._train()
        for name, policy in self.policies.items():
            policy.load_adapter(self.checkpoint.best[name])

    def _train(self) -> None:
        ledger, training = self.bench.ledger, self.bench.training
        total = self.budget.prompts or 1
        with ledger.phase(f"train/{self.name}") as cost, Steps(f"train {self.name}", total, "prompts") as steps:
            if not self.progress.history:
                self._validate(cost)
            while (ended := self._ended(cost)) is None:
                step = self.progress.step
                torch.manual_seed(seed_for(self.bench.seed, self.name, "dropout", step))
                metrics = self.round(step)
                self.progress.step = step + 1
                self._log({f"train/{self.name}/{k}": v for k, v in metrics.items()} | self._axes(cost))
                if self.progress.step % training.validate_every == 0:
                    self._validate(cost)
                if self.progress.step % training.checkpoint_every == 0:
                    self._save()
                steps.to(fraction_spent(cost, self.budget) * total, f"reward {metrics.get('reward', 0.0):.3f}")
            if self.progress.history[-1]["step"] != self.progress.step:
                self._validate(cost)
        self.progress.ended = ended
        self._save()
        for name in self.policies:
            self.policies[name].load_adapter(self.checkpoint.best[name])
            self.policies[name].save(self.checkpoint.dir / name)

    def _ended(self, cost: Cost) -> str | None:
        self.bench.ledger.settle()
        utilities = [row[f"eval/{self.name}/utility"] for row in self.progress.history]
        return "converged" if has_converged(utilities, self.bench.training) else spent(cost, self.budget)

    def _validate(self, cost: Cost) -> None:
        """Grade every policy greedily on the select split; keep each one's best adapter."""
        row: dict[str, float] = {}
        utilities: list[float] = []
        greedy = replace(self.bench.sampling, temperature=0.0, samples_per_prompt=1)
        for name, policy in self.policies.items():
            with self.bench.ledger.phase(f"validate/{self.name}"):
                rollout = policy.generate(self.bench.select, greedy, stream(self.bench.seed, "validate"))
                scores_K = self.bench.score(rollout).mean(0)
            self.weighting.observe(scores_K)
            utilities.append(self.weighting.utility(scores_K))
            row |= {f"eval/{name}/{o}": s for o, s in zip(self.bench.objectives, scores_K.tolist(), strict=True)}
            row[f"eval/{name}/mean_reward"] = scores_K.mean().item()
            if name not in self.progress.best or utilities[-1] > self.progress.best[name][0]:
                self.progress.best[name] = (utilities[-1], self.progress.step)
                self.checkpoint.best[name] = policy.adapter()
        row[f"eval/{self.name}/utility"] = sum(utilities) / len(utilities)
        self.progress.history.append(row | self._axes(cost))
        self._log(self.progress.history[-1])

    def _axes(self, cost: Cost) -> dict[str, float]:
        return {"step": self.progress.step, "data_points": cost.prompts, "tokens": cost.generated_tokens}

    def _log(self, row: Mapping[str, float]) -> None:
        metrics = {k: v for k, v in row.items() if k != "step"}
        self.bench.tracker.log(metrics, step=int(row["step"]))

    def _save(self) -> None:
        self.bench.ledger.settle()
        phases = self.bench.ledger.as_dict()
        self.progress.cost = {p: phases[p] for p in (f"train/{self.name}", f"validate/{self.name}") if p in phases}
        self.checkpoint.save(self.progress)
