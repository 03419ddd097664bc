"""One weighted policy, and the way it took: its adapter is kept at chosen steps, to be graded after the run.

The study grades the snapshots by scorers that the method does not know. The method trains as `weighted_policy` does, by
the configured update rule. Snapshots are in PEFT's form; a run that is resumed writes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Solution
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.core.types import Metrics
from emorl_bench.rl.loop import Round, run_rounds, sample_score_update, single_policy_run
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.weighting import fixed_weights

PLACE = "snapshots"


@dataclass(frozen=True)
class Snapshots:
    """``keep``: after how many steps the policy is kept, where training goes so far; 0 is the untrained one."""

    keep: Sequence[int]
    weights: Sequence[float] | None = None

    def fit(self, bench: Bench) -> Solution:
        if not self.keep or min(self.keep) < 0:
            raise UserError(f"method.keep={list(self.keep)}: give the steps to keep, such as [0,8,16]")
        weighting = fixed_weights(self.weights, bench.objectives, bench.reward)
        policy = bench.new_policy("policy")
        run = single_policy_run(bench, policy, weighting, name="policy", budget=bench.budget)
        run_rounds(bench, [run], self._keeping(sample_score_update(bench), bench))
        return OnePolicy(policy)

    def _keeping(self, plain: Round, bench: Bench) -> Round:
        def round(runs: Sequence[TrainingRun], step: int) -> Sequence[Metrics]:
            if step == 0:
                self._keep(bench, runs[0], 0)
            metrics = plain(runs, step)
            self._keep(bench, runs[0], step + 1)
            return metrics

        return round

    def _keep(self, bench: Bench, run: TrainingRun, steps: int) -> None:
        if steps in self.keep and bench.runtime.ranks.first:
            run.policies[run.name].save(place(bench.dir, steps))


def place(directory: Path, steps: int) -> Path:
    """Where a run directory holds the policy after so many steps."""
    return directory / PLACE / f"step-{steps}"
