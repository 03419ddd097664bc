"""One training: the policies that it changes, the shape of its reward, its budget, and its progress on disk.

A training ends when its next step and the validation that must follow no longer fit into its prompts. So a training
with a smaller budget is a prefix of one with a larger budget, and the larger one continues from where the smaller one
ended (`rl.checkpoint`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Cost, Ledger
from emorl_bench.core.masked import mean_scores, stated
from emorl_bench.core.protocols import Bench, Learner, Policy, Sampler, Weighting
from emorl_bench.core.types import Budget, Example, Metrics
from emorl_bench.rl.checkpoint import Checkpoint, Progress
from emorl_bench.rl.convergence import fraction_spent, has_converged, spent
from emorl_bench.rl.divergence import check_finite
from emorl_bench.rl.least_budget import refuse_too_little


@dataclass
class TrainingRun:
    """Policies that share one reward and end together: usually one policy; CORY has two.

    Each policy is validated alone, and ends at its own best checkpoint. `rl.loop.run_rounds` drives the training.
    ``dir``: the directory of its checkpoints; ``None`` is one below ``Bench.dir``. ``earlier``: directories of the same
    training with smaller budgets, the nearest first.
    """

    prefix: ClassVar[bool] = True  # whether a smaller budget is a prefix: no step depends on the budget

    bench: Bench
    name: str
    policies: Mapping[str, Policy]
    learners: Mapping[str, Learner]
    weighting: Weighting
    budget: Budget
    dir: Path | None = None
    earlier: Sequence[Path] = ()
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        """Find the directory of its checkpoints, and the next smaller budget to continue from."""
        place, below = Path("checkpoints", self.name), self.bench.runtime.earlier
        if self.dir is None and below is not None and self.prefix:
            self.earlier = [below / place]
        self.checkpoint = Checkpoint(self.dir or self.bench.dir / place, self.policies, self.learners, self.earlier)

    @property
    def phase(self) -> str:
        """The name of its phase in the ledger."""
        return f"train/{self.name}"

    @property
    def cost(self) -> Cost:
        """What its training has cost so far, without validations."""
        return self.bench.ledger.phases.setdefault(self.phase, Cost())

    @property
    def spent_prompts(self) -> int:
        """Prompts that it has spent, on training and on validations."""
        validated = self.bench.ledger.phases.get(f"validate/{self.name}", Cost())
        return self.cost.prompts + validated.prompts

    @property
    def step_prompts(self) -> int:
        """Prompts that a step spends: each policy answers a batch."""
        return len(self.policies) * min(self.bench.training.batch_prompts, len(self.bench.train))

    @property
    def validation_prompts(self) -> int:
        """Prompts that a validation spends: each policy answers the select split."""
        return len(self.policies) * len(self.select_prompts)

    @property
    def fits(self) -> bool:
        """Whether the budget pays for a step and the validation after it; before the first, for two validations."""
        due = self.step_prompts + (1 if self.progress.history else 2) * self.validation_prompts
        return self.budget.prompts is None or self.spent_prompts + due <= self.budget.prompts

    def check(self) -> None:
        """Refuse a budget that pays for no step at all.

        Raises:
            UserError: the budget of this learner is that small.
        """
        if self.step == 0 and self.progress.ended is None and not self.fits:
            refuse_too_little(self.bench, self.name, self.budget, self.step_prompts, self.validation_prompts)

    @property
    def step(self) -> int:
        """Number of steps that are done."""
        return self.progress.step

    @property
    def validated(self) -> bool:
        """Whether the policies have been validated as they are now."""
        return bool(self.progress.history) and self.progress.history[-1]["step"] == self.step

    @property
    def fraction(self) -> float:
        """The spent share of the budget."""
        return fraction_spent(self.spent_prompts, self.cost, self.budget)

    def restore(self) -> None:
        """Load what an earlier process has left, and charge its cost.

        Raises:
            UserError: the bench is frozen and this training has not ended; or its weights cannot be restored.
        """
        self.progress = self.checkpoint.load()
        for phase, cost in Ledger.from_dict(self.progress.cost).items():
            self.bench.ledger.charge(phase, cost)
        self.bench.ledger.take_up(self.progress.meters)
        for row in self.progress.history if self.progress.ended is None else ():
            self._replay(row)
        self.bench.ledger.converged_at[self.name] = self.progress.converged_at
        if self.progress.ended is not None:
            self._deploy_best()
            if not self.bench.runtime.frozen and not all(
                (self.checkpoint.dir / name).exists() for name in self.policies
            ):
                self._export()  # an older program recorded the end first, and was killed before it exported
        elif self.bench.runtime.frozen:
            raise UserError(f"'{self.name}' was never trained to its end: run the same emorl-bench command first")

    def limit(self) -> str | None:
        """What ends this training now: a limit that is spent, or convergence where it ends it; ``None``: nothing."""
        self.bench.ledger.settle()
        stops = self.bench.training.stop_when_converged and self.converged
        ended = "converged" if stops else spent(self.cost, self.budget) if self.fits else "prompts"
        return self.bench.runtime.ranks.agree(ended)  # the clocks of ranks differ

    @property
    def converged(self) -> bool:
        """Whether its validations have converged by the published rule, even if that does not end it."""
        key = f"eval/{self.name}/utility"
        utilities = [row[key] for row in self.progress.history if key in row and row["step"] >= self.settles_from]
        return has_converged(utilities, self.bench.training)

    @property
    def settles_from(self) -> float:
        """The first step whose validation counts for convergence; here all count."""
        return 0

    def advance(self, metrics: Metrics) -> None:
        """Count a step, and record its metrics; a loss that is not finite is a `UserError`."""
        check_finite("the loss", float(metrics.get("loss", 0.0)))
        self.progress.step += 1
        row = {f"train/{self.name}/{k}": float(v) for k, v in metrics.items()} | self._weights() | self._axes()
        self.progress.trained.append(row)
        self.log(row)

    @property
    def graded(self) -> Mapping[str, Sampler]:
        """The samplers that are validated, by name; here the policies themselves."""
        return self.policies

    @property
    def select_prompts(self) -> Sequence[Example]:
        """The prompts that each of them answers in a validation; here the select split."""
        return self.bench.select

    def worth(self, name: str, scores_K: Tensor) -> float:
        """The utility of the mean scores (K,) of the sampler of this name."""
        return self.weighting.utility(scores_K)

    def judged(self, utilities: Mapping[str, float]) -> Mapping[str, float]:
        """By policy the number that its best checkpoint is chosen by, made of the utilities of the samplers."""
        return utilities

    def central(self, scores: Mapping[str, Tensor]) -> Tensor:
        """(K,) what stands for the whole run, of the mean scores of those that are graded: here their mean."""
        return mean_scores(torch.stack(list(scores.values())))

    def observe(self, scores: Mapping[str, Tensor]) -> None:
        """Note the mean validation scores (K,) of each sampler: keep every policy's best adapter.

        The utility is NaN where no objective that the reward asks for applied to any select prompt. Then it is left out
        of the record and of the rule of convergence, and the adapter is kept only until there is another validation.
        """
        row: dict[str, float] = {}
        utilities: dict[str, float] = {}
        for name, scores_K in scores.items():
            self.weighting.observe(scores_K)
            utilities[name] = self.worth(name, scores_K)
            row |= {f"eval/{name}/{o}": s for o, s in zip(self.bench.objectives, scores_K.tolist(), strict=True)}
            row[f"eval/{name}/mean_reward"] = mean_scores(scores_K).item()
        for name, judged in self.judged(utilities).items():
            utility = -math.inf if math.isnan(judged) else judged
            best = self.progress.best.get(name, (-math.inf, 0))[0]
            if utility > best or best == -math.inf:
                self.progress.best[name] = (utility, self.step)
                self.checkpoint.best[name] = self.policies[name].adapter()
        own_K = self.central(scores)
        row |= {f"eval/{self.name}/{o}": s for o, s in zip(self.bench.objectives, own_K.tolist(), strict=True)}
        row[f"eval/{self.name}/mean_reward"] = mean_scores(own_K).item()
        every_W = torch.tensor(list(utilities.values()), dtype=torch.float64)
        row[f"eval/{self.name}/utility"] = mean_scores(every_W).item()
        row |= {f"eval/{self.name}/{key}": value for key, value in self._weights().items()}
        self.progress.history.append(stated(row) | self._axes())
        if self.progress.converged_at is None and self.converged:
            self.progress.converged_at = self.bench.ledger.converged_at[self.name] = self.cost.prompts
        self.log(self.progress.history[-1])

    def _weights(self) -> dict[str, float]:
        return stated(self.weighting.metrics())

    def _replay(self, row: Mapping[str, float]) -> None:
        """Bring weights that change to where they were after a recorded validation.

        Raises:
            UserError: they differ from the recorded ones, so that the run cannot go on as it began.
        """
        for name in self.policies:
            scores = [row.get(f"eval/{name}/{objective}", math.nan) for objective in self.bench.objectives]
            self.weighting.observe(torch.tensor(scores, dtype=torch.float64))
        for key, value in self._weights().items():
            recorded = row.get(f"eval/{self.name}/{key}", value)
            if not math.isclose(recorded, value, rel_tol=1e-6, abs_tol=1e-9):
                raise UserError(
                    f"'{self.name}': {key} was {recorded:g} at step {row['step']:g} and is now {value:g}; "
                    "install the packages it was begun with, or start it afresh with force=true"
                )

    def save(self) -> None:
        """Write a checkpoint, with the cost so far."""
        self.bench.ledger.settle()
        phases, own = self.bench.ledger.as_dict(), (self.phase, f"validate/{self.name}")
        self.progress.cost = {phase: phases[phase] for phase in own if phase in phases}
        self.progress.meters = self.bench.ledger.meters_of(own)
        self.checkpoint.save(self.progress)

    def finish(self) -> None:
        """Write every policy at its best validation in PEFT's format, record the end, and deploy these policies.

        The end is recorded last: what has ended is exported. Where no validation was paid for, a policy stays as it is.
        """
        for name, policy in self.policies.items():
            self.progress.best.setdefault(name, (-math.inf, self.step))
            self.checkpoint.best.setdefault(name, policy.adapter())
        last = {name: policy.adapter() for name, policy in self.policies.items()}
        self._deploy_best()
        self._export()
        for name, policy in self.policies.items():
            policy.load_adapter(last[name])
        self.save()
        self._deploy_best()

    def _export(self) -> None:
        if self.bench.runtime.ranks.first:
            for name, policy in self.policies.items():
                policy.save(self.checkpoint.dir / name)

    def _deploy_best(self) -> None:
        for name, policy in self.policies.items():
            policy.load_adapter(self.checkpoint.best[name])
            self.bench.ledger.best_step[name] = self.progress.best[name][1]

    def _axes(self) -> dict[str, float]:
        """The step; what training alone has spent; and what this learner has spent, its validations included."""
        self.bench.ledger.settle()
        phases = (self.cost, self.bench.ledger.phases.get(f"validate/{self.name}", Cost()))
        return {
            "step": self.step,
            "data_points": self.cost.prompts,
            "tokens": self.cost.generated_tokens,
            f"spent/{self.name}/data_points": sum(cost.prompts for cost in phases),
            f"spent/{self.name}/tokens": sum(cost.generated_tokens for cost in phases),
            f"spent/{self.name}/seconds": sum(cost.wall_seconds for cost in phases),
        }

    def log(self, row: Mapping[str, float]) -> None:
        """Log a row, unless it is of a rung that the whole budget does not go through.

        A rung below the whole budget (`runner.ladder`) is a part of the run's curve only where the training of the
        whole budget begins with it. Its own last validation is none of the whole training's.
        """
        step, validates = int(row["step"]), any(key.startswith("eval/") for key in row)
        extra = validates and step % self.bench.training.validate_every != 0
        if self.bench.runtime.lower and (extra or not self.prefix):
            return
        self.bench.tracker.log({k: v for k, v in row.items() if k != "step"}, step=step)
