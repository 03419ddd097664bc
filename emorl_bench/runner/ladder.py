"""One run, graded at several shares of its budget: gold against cost, instead of one point.

Each rung is the method itself with a part of its budget. It has what a run with that budget would have: its own
searches, its own networks on top of experts, its own cost. What is the same for every budget continues: a training
continues where the rung below ended (`rl.checkpoint`), and so do experts (`rl.experts`). So the last rung equals the
run without a ladder, to the bit, and a rung costs little more than its grading. The searches and validations of a rung
are counted in its own cost only. Wall seconds and FLOPs of a continued training are the sums of its parts; these are
close to those of a training in one go, but not equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from emorl_bench.core.protocols import Bench, Method, Solution, Tracker
from emorl_bench.core.types import Budget
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.evaluate import Grader, Grades

PLACE, RECORD = "rungs", "rung.json"


class Repeating(Tracker, Protocol):
    """A tracker that is told when learners are about to repeat rows that they have logged before."""

    def again(self) -> None:
        """Learners log again from here on: what is recorded already is not recorded again."""


@dataclass(frozen=True)
class Ladder:
    """The rungs of one run. ``shares`` are shares of the budget, rising; the last one is 1."""

    shares: Sequence[float]
    bench: Bench
    method: Method
    grader: Grader
    directory: RunDirectory
    tracker: Repeating

    def climb(self) -> tuple[Bench, list[dict[str, Any]]]:
        """Grade every rung below the whole budget.

        Returns the bench of the last rung, and a row for each rung below.
        """
        rows, earlier = [], None
        for share in self.shares[:-1]:
            name = f"{PLACE}/{share:g}"
            row = self.directory.ranks.once(partial(self.directory.read_json, f"{name}/{RECORD}"))
            if row is None:
                self.directory.note(phase=f"rung {share:g}")
                row = self._rung(share, name, earlier)
                self.directory.write_json(f"{name}/{RECORD}", row)
            rows.append(row)
            earlier = self.directory.path / name
        self._restart(self.bench.budget.prompts)
        if rows:
            self.tracker.again()
        return self.bench.with_runtime(earlier=earlier), rows

    def _restart(self, prompts: int | None) -> None:
        """Start the cost of a rung at 0, and clear the scores that were cached in the rung below."""
        self.bench.ledger.restart(prompts)
        self.grader.panel.forget()
        self.grader.held_out.forget()

    def _rung(self, share: float, name: str, earlier: Path | None) -> dict[str, Any]:
        budget, place = self.bench.budget.scaled(share), self.directory.path / name
        self.directory.ranks.once(lambda: place.mkdir(parents=True, exist_ok=True))
        ledger = self.bench.ledger
        self._restart(budget.prompts)
        self.tracker.again()
        bench = replace(self.bench, budget=budget, dir=place).with_runtime(earlier=earlier, lower=True)
        solution = self.method.fit(bench)
        grades = _graded(self.grader, solution, bench)
        ledger.settle()
        return row_of(share, budget, ledger.totals(), grades.summary["decoding"])


def row_of(share: float, budget: Budget, cost: Mapping[str, float], decoding: Mapping[str, Any]) -> dict[str, Any]:
    """What ``summary.json`` holds of a rung: its cost as if the run had ended there, and its fronts by decoding."""
    return {
        "share": share,
        "prompts": budget.prompts,
        "data_points": cost["data_points_sum"],
        "flops": cost["flops"],
        "seconds": cost["seconds_sum"],
        "cost": dict(cost),
        "decoding": dict(decoding),
    }


def _graded(grader: Grader, solution: Solution, bench: Bench) -> Grades:
    """Grade with one decoding: greedy, where the configuration has it."""
    decoding = "greedy" if "greedy" in grader.decoding else grader.decoding[0]
    with bench.ledger.phase("evaluate"):
        return replace(grader, decoding=(decoding,)).grade(solution, bench.ledger)
