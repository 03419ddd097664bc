"""One policy trained on one weighted sum of the scores: what every ensemble must beat.

`method=weighted_ppo` trains it with PPO, and `method=weighted_scst` with the experts' own update rule. It may spend the
whole budget that EMORL divides among its experts. `dynaopt`, `c_dynaopt`, `dorb`, `round_robin`, `random_weights`,
`saw` and `hv_guided` change the weights (`rl.weightings`) at more validations, which they pay for (``validate_every``).

`method=ppo_matched` is the rival of CORY (2410.06101). It answers two batches of prompts in each step, like CORY's two
agents, and learns from both at once. So one budget gives both methods the same prompts and samples in each iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Solution
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.rl.loop import train
from emorl_bench.rl.weighting import WeightingRule, fixed_weights


@dataclass(frozen=True)
class WeightedPolicy:
    """One policy for all preferences. ``weights`` as given choose checkpoints and judge convergence.

    ``weights``: one for each objective, summing to 1; ``None`` is uniform. ``weighting``: how they change, if they do.
    ``batches``: batches of prompts in each update. ``validate_every``: steps between validations, None as in the
    budget.
    """

    weights: Sequence[float] | None = None
    weighting: WeightingRule | None = None
    batches: int = 1
    validate_every: int | None = None

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`. A `UserError` names a setting below 1 or weights that do not fit."""
        if self.batches < 1:
            raise UserError(f"method.batches={self.batches}: give 1 or more batches of prompts for each update")
        if self.validate_every is not None and self.validate_every < 1:
            raise UserError(f"method.validate_every={self.validate_every}: give 1 or more steps, or null")
        training = replace(
            bench.training,
            batch_prompts=self.batches * bench.training.batch_prompts,
            validate_every=self.validate_every or bench.training.validate_every,
        )
        bench = replace(bench, training=training)
        preference = fixed_weights(self.weights, bench.objectives, bench.reward)
        weighting = preference if self.weighting is None else self.weighting.start(bench, preference)
        return OnePolicy(train(bench, bench.new_policy("policy"), weighting, name="policy", budget=bench.budget))
