"""The goals of speed and memory on a GPU: ratios that the kit measures, and whether they are met.

A goal that several models or presets take part in has the worst of their ratios. One that nothing was measured for is
"not measured", which is not "met".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FEW, MANY, QUICK = 64, 256, 4  # rows; a micro run has few rows only


@dataclass(frozen=True)
class Goal:
    """One ratio, and the bound that it should keep.

    Attributes:
        what: the ratio in words.
        keys: a regular expression that the keys of all numbers match which take part; its group names the one.
        fact: the fact of the number that is the ratio; "" is its ratio itself.
        bound: the bound.
        at_most: whether the ratio should be at most the bound, or at least.
    """

    what: str
    keys: str
    fact: str
    bound: float
    at_most: bool

    def of(self, numbers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The worst ratio among the numbers, the one it belongs to, and the verdict."""
        found: dict[str, float] = {}
        for key, number in numbers.items():
            match = re.fullmatch(self.keys, key)
            value = number["facts"].get(self.fact) if self.fact else number["ratio"]
            if match is not None and value is not None:
                found[match["one"]] = float(value)
        wanted = {"what": self.what, "bound": self.bound, "at_most": self.at_most, "found": found}
        if not found:
            return {**wanted, "worst": None, "of": "", "verdict": "not measured"}
        worst = (max if self.at_most else min)(found, key=lambda one: found[one])
        met = found[worst] <= self.bound if self.at_most else found[worst] >= self.bound
        return {**wanted, "worst": found[worst], "of": worst, "verdict": "met" if met else "not met"}


def goals(*, quick: bool) -> tuple[Goal, ...]:
    """All goals; those of a micro run look at its few rows."""
    few, many = (QUICK, QUICK) if quick else (FEW, MANY)
    model = "(?P<one>[^/]+)"
    return (
        Goal(
            f"a blend of 3 experts on {few} prompts over one policy on {3 * few}, time",
            f"decoding/{model}/{few}_rows/blend_of_3", "over_3x_rows", 1.2, True,
        ),
        Goal(
            f"transformers' generate over one policy on {many} prompts, time",
            f"decoding/{model}/{many}_rows/generate", "", 3.0, False,
        ),
        Goal("TRL's GRPO step over ours, time", "training/(?P<one>grpo_step)/trl", "", 1.3, False),
        Goal(
            f"one policy on {few} prompts over the bound of the card, time",
            f"decoding/{model}/{few}_rows/one_policy", "over_bound", 3.0, True,
        ),
        Goal("measured peak of memory over the planned one", "memory/(?P<one>[^/]+)/peak", "", 1.0, True),
    )  # fmt: skip


def reached(numbers: Mapping[str, Mapping[str, Any]], *, quick: bool) -> list[dict[str, Any]]:
    """Every goal with the ratio that was found.

    Args:
        numbers: the numbers of gpu.json by key.
        quick: whether they are those of a micro run.
    """
    return [goal.of(numbers) for goal in goals(quick=quick)]
