"""The least budget of a learner: a step, and the validations before and after it."""

from __future__ import annotations

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench
from emorl_bench.core.types import Budget


def refuse_too_little(bench: Bench, name: str, budget: Budget, step: int, validation: int) -> None:
    """Refuse a learner whose prompts do not pay for a step and for the validations before and after it.

    Args:
        bench: the bench that the learner is trained on.
        name: the name of the learner.
        budget: what the learner may spend.
        step: prompts of a step.
        validation: prompts of a validation.

    Raises:
        UserError: always, unless this is less than the whole budget (`Runtime.lower`), which may be too small to train.
    """
    if bench.runtime.lower:
        return
    raise UserError(
        f"budget.prompts: '{name}' may spend {budget.prompts} of them, but one step and two validations take "
        f"{step} + 2 x {validation}; raise budget.prompts or lower budget.select_prompts"
    )
