"""When a learner would have settled by the published rule, and which limit of its budget it has reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from emorl_bench.core.ledger import Cost
from emorl_bench.core.types import Budget, Training


def has_converged(utilities: Sequence[float], training: Training) -> bool:
    """The coefficient of variation of the last ``window`` validations is below ``variation`` (EMORL, released code)."""
    last = utilities[-training.window :]
    if len(last) < training.window:
        return False
    mean = statistics.fmean(last)
    return mean != 0 and statistics.pstdev(last) / abs(mean) < training.variation


def spent(cost: Cost, budget: Budget) -> str | None:
    """Which limit of training alone has been reached, if any; prompts are never exceeded (`TrainingRun.fits`)."""
    limits = (
        ("samples", cost.samples, budget.samples),
        ("generated_tokens", cost.generated_tokens, budget.generated_tokens),
        ("seconds", cost.wall_seconds, budget.seconds),
    )
    return next((name for name, used, limit in limits if limit is not None and used >= limit), None)


def fraction_spent(prompts: int, cost: Cost, budget: Budget) -> float:
    """How much of the budget is used, by the limit that is nearest; ``prompts``: validations' included."""
    used = [
        (prompts, budget.prompts),
        (cost.samples, budget.samples),
        (cost.generated_tokens, budget.generated_tokens),
        (cost.wall_seconds, budget.seconds),
    ]
    return max((u / limit for u, limit in used if limit), default=0.0)
