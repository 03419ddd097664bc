"""One weighted policy trained by TRL 1.16's own trainers: the independent check of our `grpo`, `gdpo` and `rloo`.

The trainers are GRPOTrainer (2402.03300), RLOOTrainer (2402.14740), and GRPOTrainer with ``normalize_then_sum``, which
is GDPO (2601.05242). They serve decoder-only models. Prompts, scorers, sampling, adapter, settings of the update rule,
budget and ledger are those of the method that is checked. Answers, advantages and loss are TRL's. `training` says how
the two fit together, and docs/methods.md what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from baselines.trl.settings import TRAINERS, TrainerName
from baselines.trl.training import train_with_trl
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.protocols import Bench, Solution
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.rl.weighting import fixed_weights

INSTALL = "pip install -c constraints.txt -e ."


@dataclass(frozen=True)
class TrlPolicy:
    """One policy for all preferences, trained by TRL.

    Attributes:
        trainer: which of TRL's trainers.
        weights: one for each objective, summing to 1; None is uniform.
    """

    trainer: TrainerName
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: the trainer is unknown, or TRL is not installed.
        """
        if self.trainer not in TRAINERS:
            raise UserError(f"method.trainer={self.trainer}: unknown{did_you_mean(self.trainer, TRAINERS)}")
        if find_spec("trl") is None or find_spec("datasets") is None:
            raise UserError(f"method.trainer={self.trainer} needs the packages trl and datasets: {INSTALL}")

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`.

        Raises:
            UserError: TRL's trainer does not suit the model, the run or the update rule.
        """
        weighting = fixed_weights(self.weights, bench.objectives, bench.reward)
        policy = bench.new_policy("policy")
        return OnePolicy(train_with_trl(bench, policy, weighting, self.trainer, name="policy", budget=bench.budget))
