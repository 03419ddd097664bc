"""The headline of finished runs: mean reward and gold at the uniform preference, by task, model and method.

It is what one wants to see when a sweep has ended. `emorl-report` compares in earnest: it checks that runs may share a
table, and tests differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emorl_bench.indicators.intervals import t_interval
from emorl_bench.runner.columns import aligned
from emorl_bench.runner.identity import NAMED, read_json

SCORES = {"reward": "mean_reward", "gold": "gold_mean_reward"}  # title -> key of the uniform point
TITLES = ("task", "model", "decoding", "method", "seeds", *SCORES)
ELSEWHERE = ("seed=", "runs_dir=", "tracker", "force=", *(f"{name}=" for name in NAMED))
"""Beginnings of overrides that have a column of their own, or change no number."""


@dataclass(frozen=True)
class Finished:
    """A finished run: its summary, and what its command line has overridden."""

    summary: Mapping[str, Any]
    overrides: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Finished | None:
        """The run in this directory; None where it has no summary."""
        summary = read_json(path / "summary.json")
        if summary is None:
            return None
        try:
            lines = yaml.safe_load((path / "overrides.yaml").read_text(encoding="utf-8")) or []
        except (OSError, yaml.YAMLError):
            lines = []  # a label is missing, nothing else
        return cls(summary, tuple(str(line) for line in lines if not str(line).startswith(ELSEWHERE)))

    @property
    def names(self) -> tuple[str, ...]:
        """Task, model, method."""
        return tuple(str(self.summary.get("names", {}).get(name, "?")) for name in NAMED)

    @property
    def settings(self) -> tuple[Any, ...]:
        """Equal for the seeds of one method with one setting."""
        keys = ("fingerprint", "settings", "kl_coefficient")
        return (self.names, self.overrides, *(self.summary.get(key) for key in keys))


def headline(runs: Sequence[Finished]) -> list[str]:
    """Lines of a plain table: a row for each method, setting and decoding, with mean ± 95 % t interval over seeds.

    Of two seeds both values stand in brackets. Within a task the best is first. Runs of one method with different
    settings have a row each, labelled by the overrides that not all runs of the task and model have.
    """
    common: dict[tuple[str, ...], set[str]] = {}  # by task and model
    for run in runs:
        place, own = run.names[:2], set(run.overrides)
        common[place] = common.get(place, own) & own
    groups: dict[tuple[Any, ...], list[Finished]] = {}
    for run in runs:
        groups.setdefault(run.settings, []).append(run)
    named: dict[tuple[str, ...], int] = {}
    rows: list[tuple[list[str], float]] = []
    for group in groups.values():
        label = _label(group[0], common[group[0].names[:2]])
        count = named[label] = named.get(label, 0) + 1
        rows += _rows(label if count == 1 else (*label[:2], f"{label[2]} #{count}"), group)
    rows.sort(key=lambda row: (row[0][:3], -row[1]))
    without_gold = not any(cells[-1] for cells, _ in rows)
    return aligned([list(TITLES), *(cells for cells, _ in rows)], len(TITLES) - without_gold)


def scores(run: Finished) -> list[str]:
    """Lines of a plain table: the scores of one run at the uniform preference, a row for each decoding."""
    rows = [["decoding", "reward", *run.summary.get("objectives", ()), "held-out", "gold"]]
    for decoding, front in run.summary.get("decoding", {}).items():
        point = front.get("uniform", {})
        means = [point.get(key) for key in ("mean_reward", "held_out_mean_reward", "gold_mean_reward")]
        each = list(point.get("objectives", {}).values())
        rows.append([decoding, *(_cell(_known([mean])) for mean in (means[0], *each, *means[1:]))])
    return aligned(rows, len(rows[0]) - all(not row[-1] for row in rows[1:]))


def _label(run: Finished, common: set[str]) -> tuple[str, ...]:
    """Task, model, and the method with the overrides that tell it from others."""
    task, model, method = run.names
    apart = [line for line in run.overrides if line not in common]
    return task, model, f"{method} [{', '.join(apart)}]" if apart else method


def _rows(label: Sequence[str], runs: Sequence[Finished]) -> Iterator[tuple[list[str], float]]:
    """Cells of each decoding, and the mean reward that rows are sorted by."""
    task, model, method = label
    for decoding in runs[0].summary.get("decoding", {}):
        points = [run.summary["decoding"].get(decoding, {}).get("uniform", {}) for run in runs]
        values = {title: _known(point.get(key) for point in points) for title, key in SCORES.items()}
        cells = [task, model, decoding, method, str(len(runs)), *map(_cell, values.values())]
        yield cells, sum(values["reward"]) / max(1, len(values["reward"]))


def _known(values: Any) -> list[float]:
    return [value for value in values if value is not None]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    interval = t_interval(values)
    if interval.n == 2:  # Student's interval of two values is thirteen times as wide as their distance
        return f"{interval.mean:.3f} ({min(values):.3f}, {max(values):.3f})"
    return f"{interval.mean:.3f}" + (f" ± {interval.half_width:.3f}" if interval.n > 2 else "")
