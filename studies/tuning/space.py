"""Draws of settings by a Latin hypercube, so that few trials cover each range evenly, the same for every method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from emorl_bench.core.errors import UserError
from emorl_bench.core.seeds import stream

Settings = dict[str, Any]
DIGITS = 3  # significant digits of a drawn number


@dataclass(frozen=True)
class Knob:
    """The range of a key: any number from ``low`` to ``high``, or one of ``values``."""

    low: float = 0.0
    high: float = 0.0
    values: tuple[Any, ...] = ()

    def at(self, place: float) -> Any:
        """The setting at a place in [0, 1): uniform in the logarithm, or among the values."""
        if self.values:
            return self.values[int(place * len(self.values))]
        exact = self.low * math.exp(place * math.log(self.high / self.low))
        return float(f"{exact:.{DIGITS}g}")


def knobs(space: Any) -> dict[str, Knob]:
    """The ranges of ``tuning.yaml`` by key.

    Raises:
        UserError: a key has neither values nor 0 < low < high.
    """
    found = {}
    for key, told in space.items():
        knob = Knob(float(told.get("low", 0)), float(told.get("high", 0)), tuple(told.get("values", ())))
        if not knob.values and not 0 < knob.low < knob.high:
            raise UserError(f"space.{key}={dict(told)}: give values, or low and high above 0")
        found[str(key)] = knob
    return found


def drawn(space: Mapping[str, Knob], count: int) -> list[Settings]:
    """Draw ``count`` settings. The range of each key has ``count`` equal parts, and each part is used once.

    The order of the parts differs between keys. A key's draws do not depend on which other keys there are.
    """
    places = {key: _places(key, count) for key in space}
    return [{key: knob.at(places[key][i]) for key, knob in space.items()} for i in range(count)]


def _places(key: str, count: int) -> Sequence[float]:
    rng = stream(0, "tuning", key, count)
    order = torch.randperm(count, generator=rng).tolist()
    return [
        (part + offset) / count for part, offset in zip(order, torch.rand(count, generator=rng).tolist(), strict=True)
    ]
