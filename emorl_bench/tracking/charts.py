"""Which numbers of a row are drawn: at most 40 charts for any run, those of the whole method first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emorl_bench.tracking.method_rows import AXES

CHARTS = 31
"""Charts of numbers. With three axes, three pictures and two tables a run has 40."""
KEPT = {"search": 0, "method": 2, "asked": 6, "other": 8}
"""How many of these are kept for what may come later: searches come last, and learners one after another."""
ASKED = ("train/reward", "train/kl", "eval/utility")
"""What each learner is asked about most. Its other numbers are not drawn where the method has such a number."""


@dataclass
class Charts:
    """Chooses the numbers that a view draws. A number that is drawn once is drawn in every row that has it.

    Numbers are drawn in the order in which they come, until there are `CHARTS`, and fewer of learners than of the
    method. The record has all of them. While a method has one learner, its reward is the method's reward, and is drawn
    once.
    """

    chosen: set[str] = field(default_factory=set)
    learners: set[str] = field(default_factory=set)

    def of(self, row: Mapping[str, float]) -> dict[str, float]:
        """The numbers of a row that are drawn, and its axes."""
        shown: dict[str, float] = {axis: row[axis] for axis in AXES if axis in row}
        own = {key: key.split("/", 2) for key in row if key.startswith("learner/")}
        self.learners |= {name for _, name, _ in own.values()}
        for key, value in row.items():
            if key not in shown and key != "step" and self._has_chart(key, own.get(key), row):
                shown[key] = value
        return shown

    def _has_chart(self, key: str, own: list[str] | None, row: Mapping[str, float]) -> bool:
        if own is None:
            kind = "search" if key.startswith("search/") else "method"
        else:
            number = own[2]
            if number in AXES or (len(self.learners) == 1 and number in row):
                return False
            if number in row and number not in ASKED:
                return False
            kind = "asked" if number in ASKED else "other"
        if len(self.chosen) < CHARTS - KEPT[kind]:
            self.chosen.add(key)
        return key in self.chosen
