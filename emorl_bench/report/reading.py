"""Functions that read one number of a run. Each returns None where the record does not have it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from emorl_bench.indicators.fronts import deployed_utility
from emorl_bench.report.read import Run

Read = Callable[[Run, str], float | None]


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A finite number of a JSON object. Null, NaN and absent values are the same to a table."""
    value = record.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def uniform(key: str) -> Read:
    """Reads a number of the point at the uniform preference."""
    return lambda run, decoding: number(run.decoding[decoding]["uniform"], key)


def objective(name: str, scores: str = "objectives") -> Read:
    """Reads the mean score of an objective at the uniform preference.

    ``scores``: the set of scorers, such as ``gold``.
    """
    return lambda run, decoding: number(run.decoding[decoding]["uniform"].get(scores, {}), name)


def front(key: str) -> Read:
    """Reads an indicator of the front."""
    return lambda run, decoding: number(run.decoding[decoding], key)


def cost(key: str, unit: float = 1.0) -> Read:
    """Reads a total of the run's cost, in a unit such as 1e12."""
    return lambda run, _: run.cost[key] / unit if key in run.cost else None


def change(what: str, key: str, unit: float = 1.0) -> Read:
    """Reads the cost of a change. ``what``: first_preference, next_preference or next_objective."""

    def read(run: Run, _: str) -> float | None:
        value = number(run.change.get(what, {}), key)
        return None if value is None else value / unit

    return read


def deployed(record: Mapping[str, Any], prefix: str = "") -> float | None:
    """Mean over preferences of the utility of the policy that was deployed for each.

    An older record lacks it; it is then computed from the points. ``prefix``: nothing for the scorers, ``held_out_`` or
    ``gold_``.
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
    """Reads the mean utility of the deployed policies under one set of scorers (`deployed`)."""
    return lambda run, decoding: deployed(run.decoding[decoding], prefix)


def minus(a: Read, b: Read) -> Read:
    """Reads the difference of two numbers, where a run has both."""

    def read(run: Run, decoding: str) -> float | None:
        left, right = a(run, decoding), b(run, decoding)
        return None if left is None or right is None else left - right

    return read


def held_out_mean(run: Run, decoding: str) -> float | None:
    """The mean of the held-out scores at the uniform preference."""
    held_out = run.decoding[decoding]["uniform"].get("held_out", {})
    scores = [score for name in held_out if (score := number(held_out, name)) is not None]
    return sum(scores) / len(scores) if scores else None
