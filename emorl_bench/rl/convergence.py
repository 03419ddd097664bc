"""When a learner has converged by the published rule, and which limit of its budget it has reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from emorl_bench.core.ledger import Cost
from emorl_bench.core.types import Budget, Training


def has_converged(utilities: Sequence[float], training: Training) -> bool:
    """Whether std / mean of the last ``window`` validations is below ``variation`` (EMORL, released code)."""
    last = utilities[-training.window :]
    if len(last) < training.window:
        return False
    mean = statistics.fmean(last)
    return mean != 0 and statistics.pstdev(last) / abs(mean) < training.variation


def spent(cost: Cost, budget: Budget) -> str | None:
    """The limit of training that is reached, other than prompts, if any; `TrainingRun.fits` never exceeds prompts."""
    limits = (
        ("samples", cost.samples, budget.samples),
        ("generated_tokens", cost.generated_tokens, budget.generated_tokens),
        ("seconds", cost.wall_seconds, budget.seconds),
    )
    return next((name for name, used, limit in limits if limit is not None and used >= limit), None)


def fraction_spent(prompts: int, cost: Cost, budget: Budget) -> float:
    """The spent share of the budget, by the limit that is nearest; ``prompts`` include those of validations."""
    used = [
        (prompts, budget.prompts),
        (cost.samples, budget.samples),
        (cost.generated_tokens, budget.generated_tokens),
        (cost.wall_seconds, budget.seconds),
    ]
    return max((u / limit for u, limit in used if limit), default=0.0)
