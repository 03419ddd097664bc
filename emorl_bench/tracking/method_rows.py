"""Rows of the whole method, made of what learners and searches log. Names and axes are the same for all methods.

A learner logs ``train/<learner>/<number>`` at a step and ``eval/<learner>/<number>`` at a validation. A search logs
``search/<number>``. A row of the record has:

- ``learner/<learner>/train/...`` and ``learner/<learner>/eval/...``: what the learner has logged.
- ``train/<number>`` and ``eval/<number>``: numbers of the method. Each is the mean over learners of the last value that
  each learner has logged. Experts, which are named after their objectives, count only at first. As soon as a policy
  trained on top of them, or the search, logs the number, that value is the method's.
- ``search/utility``: the best utility on the select split, for the uniform preference. A method that searches takes the
  best of its blends. Another method has one point at its end: its best validation.
- ``train/kl``: where no learner measures KL, one point at the end has the KL of the report.
- ``data_points``, ``tokens``, ``seconds``: what all learners and searches have spent so far. They never decrease.

A resumed run repeats the steps after its last checkpoint, and a ladder repeats its lower rungs. The repeated rows have
the same numbers. So a row that the record has already is not recorded again, and the record only grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emorl_bench.core.types import Metrics  # which imports torch, and a configuration is checked without it

Row = dict[str, float]
Identity = tuple[str, float]
"""Who has logged a row, and its step."""

AXES = ("data_points", "tokens", "seconds")
SHARED = ("reward", "kl", "length", "loss", "sampler_mismatch")
"""The numbers of a training step that are also shown for the method, beside the objectives."""
JUDGED = ("mean_reward", "utility")
"""The numbers of a validation that are not the score of an objective."""
SEARCH = "search"


@dataclass
class MethodRows:
    """Makes rows of the method. It remembers what each learner has logged and spent last."""

    spent: dict[str, dict[str, float]] = field(default_factory=dict)
    latest: dict[str, dict[str, float]] = field(default_factory=dict)  # name for the method -> learner -> value
    best: dict[str, float] = field(default_factory=dict)  # learner -> the largest utility of its validations
    searched: bool = False
    objectives: set[str] = field(default_factory=set)
    recorded: Counter[Identity] = field(default_factory=Counter)
    session: Counter[Identity] = field(default_factory=Counter)

    @classmethod
    def after(cls, rows: Iterable[Mapping[str, float]]) -> MethodRows:
        """Go on after the rows of a record."""
        made = cls()
        for row in rows:
            made.recorded[identity(row)] += 1
            made._remember(row)
        return made

    def again(self) -> None:
        """Learners and searches repeat from here on what they have logged before."""
        self.session.clear()

    def row(self, metrics: Metrics, step: int) -> Row | None:
        """The row of the record, or None where it is in the record already."""
        learner = learner_of(metrics)
        own = _own(metrics, learner)
        known = identity({"step": step, **own})
        self.session[known] += 1
        if self.session[known] <= self.recorded[known]:
            return None
        self.recorded[known] += 1
        self._remember(own)
        self._remember(_spent(metrics, learner))
        if known[0] == "end":
            own = self._end(own)
        axes = {axis: sum(one.get(axis, 0.0) for one in self.spent.values()) for axis in AXES}
        mine = {f"learner/{learner}/{axis}": value for axis, value in self.spent.get(learner, {}).items()}
        return {"step": step, **self._method(own), **own, **mine, **axes}

    def _remember(self, row: Mapping[str, float]) -> None:
        self.searched |= "search/utility" in row
        for key, value in row.items():
            parts = key.split("/")
            if parts[0] == "learner" and parts[-1] in AXES and len(parts) == 3:
                self._pay(parts[1], parts[2], value)
            elif parts[0] == "learner" and len(parts) == 4:
                self._learn("/".join(parts[2:]), parts[1], value)
            elif parts[0] == "spent" and parts[-1] in AXES:
                self._pay("/".join(parts[1:-1]), parts[-1], value)

    def _pay(self, learner: str, axis: str, value: float) -> None:
        own = self.spent.setdefault(learner, {})
        own[axis] = max(own.get(axis, 0.0), value)

    def _learn(self, name: str, learner: str, value: float) -> None:
        kind, number = name.split("/")
        if kind == "eval" and number not in JUDGED:
            self.objectives.add(number)
        self.latest.setdefault(name, {})[learner] = value
        if name == "eval/utility":
            self.best[learner] = max(self.best.get(learner, value), value)

    def _method(self, own: Mapping[str, float]) -> Row:
        names = ["/".join(key.split("/")[2:]) for key in own if key.startswith("learner/")]
        return {name: self._mean(name) for name in names if name.count("/") == 1 and self._is_shared(name)}

    def _is_shared(self, name: str) -> bool:
        kind, number = name.split("/")
        return number in self.objectives or number in (SHARED if kind == "train" else JUDGED)

    def _end(self, own: Row) -> Row:
        """The last row: only what the rows before it do not say."""
        if "train/kl" in self.latest or not self.latest:
            own.pop("train/kl", None)
        if not self.searched and (chosen := self._chosen()) is not None:
            own["search/utility"] = chosen
        return own

    def _chosen(self) -> float | None:
        """The best validation of a method without a search; None where nothing but single experts was validated."""
        best = [value for learner, value in self.best.items() if learner not in self.objectives]
        return sum(best) / len(best) if best else None

    def _mean(self, name: str) -> float:
        values = self.latest[name]
        counted = [value for learner, value in values.items() if learner not in self.objectives] or [*values.values()]
        return sum(counted) / len(counted)


def learner_of(metrics: Mapping[str, float]) -> str:
    """The learner that has logged these numbers; empty where none has."""
    parts = [key.split("/") for key in metrics]
    spending = {"/".join(part[1:-1]) for part in parts if part[0] == "spent"}
    named = [part[1] for part in parts if part[0] in ("train", "eval") and len(part) > 2]
    return spending.pop() if len(spending) == 1 else next(iter(named), "")


def identity(row: Mapping[str, float]) -> Identity:
    """What tells a row of the record from all others but its repetitions: its learner and kind, and its step."""
    kinds = {"/".join(key.split("/")[:3]) for key in row if key.startswith("learner/") and key.count("/") > 2}
    if kinds:
        return "|".join(sorted(kinds)), row["step"]
    if "search/evaluations" in row:
        return ("search" if "eval/utility" in row else "end"), row["step"]
    own = sorted(
        key for key in row if key not in (*AXES, "step") and not key.startswith(("spent/", "eval/", "learner/"))
    )
    return "|".join(own), row["step"]


def _own(metrics: Mapping[str, float], learner: str) -> Row:
    """What was logged, under the names of the record."""
    own: Row = {}
    for key, value in metrics.items():
        kind, _, rest = key.partition("/")
        if kind == "spent" or key in AXES:
            continue
        if kind in ("train", "eval") and "/" in rest:
            key = f"learner/{learner}/{kind}/{rest.removeprefix(f'{learner}/')}"
        elif kind == SEARCH and rest not in ("utility", "evaluations"):
            key = f"eval/{rest}"
        own[key] = float(value)
    if "search/utility" in own:
        own["eval/utility"] = own["search/utility"]
    return own


def _spent(metrics: Mapping[str, float], learner: str) -> Row:
    """What has been spent, by learner. Who does not say it at length may give the axes as they are."""
    spent = {key: float(value) for key, value in metrics.items() if key.startswith("spent/")}
    given = {f"spent/{learner}/{axis}": float(metrics[axis]) for axis in AXES if axis in metrics}
    return spent or given
