"""One weighted policy whose adapter is kept at chosen steps, to be graded after the run.

The study grades the snapshots by scorers that the method does not know. The method trains as `weighted_policy` does, by
the configured update rule. Snapshots are in PEFT's format. A run that is resumed writes the same snapshots.
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
    """A method that keeps its policy at some steps.

    Attributes:
        keep: the numbers of steps after which the policy is kept, as far as training goes; 0 is the untrained policy.
        weights: one for each objective, summing to 1; None is uniform.
    """

    keep: Sequence[int]
    weights: Sequence[float] | None = None

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`.

        Raises:
            UserError: ``keep`` is empty or has a negative number, or the weights do not fit the objectives.
        """
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
    """The directory of the policy after so many steps, within a run directory."""
    return directory / PLACE / f"step-{steps}"
