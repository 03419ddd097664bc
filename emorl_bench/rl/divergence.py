"""A training whose numbers are no longer finite ends in one line, before it spoils its parameters."""

from __future__ import annotations

import math

from emorl_bench.core.errors import UserError


def check_finite(what: str, value: float) -> None:
    """End a training whose numbers are no longer finite.

    Raises:
        UserError: the value is infinite or NaN.
    """
    if math.isfinite(value):
        return
    raise UserError(f"training has diverged: {what} is {value}; lower update.learning_rate or model.adapter.alpha")
