"""Numbers of a run by name: one function a source, each None where the record is older or has nothing to say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from emorl_bench.indicators.fronts import deployed_utility
from emorl_bench.report.read import Run

Read = Callable[[Run, str], float | None]


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A finite number of a JSON object; null, NaN and absent are the same to a table."""
    value = record.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def uniform(key: str) -> Read:
    return lambda run, decoding: number(run.decoding[decoding]["uniform"], key)


def objective(name: str, scores: str = "objectives") -> Read:
    """``scores``: under which set, such as ``gold``."""
    return lambda run, decoding: number(run.decoding[decoding]["uniform"].get(scores, {}), name)


def front(key: str) -> Read:
    return lambda run, decoding: number(run.decoding[decoding], key)


def cost(key: str, unit: float = 1.0) -> Read:
    return lambda run, _: run.cost[key] / unit if key in run.cost else None


def change(what: str, key: str, unit: float = 1.0) -> Read:
    """``what``: first_preference, next_preference or next_objective."""

    def read(run: Run, _: str) -> float | None:
        value = number(run.change.get(what, {}), key)
        return None if value is None else value / unit

    return read


def deployed(record: Mapping[str, Any], prefix: str = "") -> float | None:
    """Mean over preferences of the utility of what was deployed for each; from the points in an older record.

    ``prefix``: nothing for the scorers, ``held_out_`` or ``gold_``.
    """
    key = f"{prefix}deployed_utility"
    if key in record:
        return number(record, key)
    name = {"": "objectives", "held_out_": "held_out", "gold_": "gold"}[prefix]
    scores = [list(point.get(name, {}).values()) for point in record["points"]]
    preferences_WK = np.array([point["preference"] for point in record["points"]], dtype=np.float64)
    points_WK = np.array(scores, dtype=np.float64) if len({len(row) for row in scores}) == 1 else np.empty(0)
    if points_WK.shape != preferences_WK.shape:
        return None
    worth = deployed_utility(points_WK, preferences_WK)
    return worth if math.isfinite(worth) else None


def deployed_by(prefix: str = "") -> Read:
    return lambda run, decoding: deployed(run.decoding[decoding], prefix)


def minus(a: Read, b: Read) -> Read:
    """The difference where a run has both."""

    def read(run: Run, decoding: str) -> float | None:
        left, right = a(run, decoding), b(run, decoding)
        return None if left is None or right is None else left - right

    return read


def held_out_mean(run: Run, decoding: str) -> float | None:
    held_out = run.decoding[decoding]["uniform"].get("held_out", {})
    scores = [score for name in held_out if (score := number(held_out, name)) is not None]
    return sum(scores) / len(scores) if scores else None
