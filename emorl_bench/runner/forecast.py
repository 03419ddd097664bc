"""What a run that has not started will spend, and how long it may take.

torch is not imported: prompts follow from the configuration, and seconds from recorded runs.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from emorl_bench.config.schema import Config
from emorl_bench.core.totals import is_counted
from emorl_bench.core.words import counted

Names = tuple[str, str, str]  # task, model, method


@dataclass(frozen=True)
class Schedule:
    """What one learner can do with its prompts: training steps, and validations before, between and after them."""

    steps: int
    validations: int

    @classmethod
    def of(cls, prompts: int, *, batch: int, select: int, every: int) -> Schedule:
        """The schedule that fits into ``prompts``. A step is taken where it and the validation after it still fit.

        See docs/budgets.md.

        Args:
            prompts: prompts of the learner.
            batch: prompts of a step.
            select: prompts of a validation.
            every: steps between two validations.
        """
        if batch + 2 * select > prompts:
            return cls(0, 0)
        steps, validations = 0, 1
        while (steps + 1) * batch + (validations + 1) * select <= prompts:
            steps += 1
            validations += steps % every == 0
        return cls(steps, validations + (steps % every != 0))


@dataclass(frozen=True)
class Estimate:
    """Seconds that one job may take, and a text that says where the estimate comes from."""

    seconds: float
    source: str


class Timings:
    """Seconds of finished runs of the same method, task and model, or else those of a table from another machine."""

    def __init__(self, runs_dir: Path, table: Path | None) -> None:
        """``table``: a report's ``table.csv``, or None. Its rows count neither grading nor start-up."""
        self.runs_dir, self.table = runs_dir, table
        self._found: dict[tuple[Names, int | None], Estimate | None] = {}

    def estimate(self, names: Names, prompts: int | None) -> Estimate | None:
        """The estimate for a run that may spend ``prompts``; None where no such run was measured."""
        if (names, prompts) not in self._found:
            self._found[names, prompts] = self._recorded(names, prompts) or self._tabled(names, prompts)
        return self._found[names, prompts]

    def _recorded(self, names: Names, prompts: int | None) -> Estimate | None:
        runs = list(_timed(self.runs_dir.joinpath(*names)))
        same = [run.seconds(1.0) for run in runs if run.prompts == prompts]
        if same:
            return Estimate(sum(same) / len(same), f"{counted(len(same), 'recorded run')} of this budget")
        scaled = [run.seconds(prompts / run.prompts) for run in runs if run.prompts and prompts]
        if scaled:
            words = f"{counted(len(scaled), 'recorded run')} of another budget, scaled by prompts"
            return Estimate(sum(scaled) / len(scaled), words)
        return None

    def _tabled(self, names: Names, prompts: int | None) -> Estimate | None:
        if self.table is None or prompts is None:
            return None
        with self.table.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["seconds"] and float(row["data_points_sum"])]
        seconds = [
            float(row["seconds"]) * prompts / float(row["data_points_sum"])
            for row in rows
            if (row["task"], row["model"], row["method"]) == names
        ]
        if not seconds:
            return None
        words = f"{'/'.join(self.table.parts[-3:])}, scaled by prompts, without start-up and grading"
        return Estimate(sum(seconds) / len(seconds), words)


@dataclass(frozen=True)
class _Run:
    prompts: int | None
    """Its budget."""
    spending: float
    """Seconds of what the budget limits."""
    rest: float
    """Seconds of everything else: setup and grading."""

    def seconds(self, factor: float) -> float:
        return factor * self.spending + self.rest


def _timed(directory: Path) -> Iterator[_Run]:
    for run in sorted(directory.glob("s*-*")):
        status, cost = (read_json(run / name) for name in ("status.json", "cost.json"))
        budget = ((read_json(run / "summary.json") or {}).get("ladder") or [{}])[-1]
        if not cost or (status or {}).get("state") != "done":
            continue
        spending = sum(phase["wall_seconds"] for name, phase in cost.items() if is_counted(name))
        rest = sum(phase["wall_seconds"] for name, phase in cost.items() if not is_counted(name))
        wall = _wall(run, status or {})
        yield _Run(budget.get("prompts"), spending, max(rest, wall - spending))


def _wall(run: Path, status: Config) -> float:
    """Seconds from start to end of a run with a single session; 0 for any other run."""
    sessions = (read_json(run / "provenance.json") or {}).get("sessions", [])
    if len(sessions) != 1 or "heartbeat" not in status:
        return 0.0
    return float(status["heartbeat"]) - datetime.fromisoformat(sessions[0]["started"]).timestamp()


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None where there is no complete one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None
