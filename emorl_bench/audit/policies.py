"""Requirements on trained policies, read from the summaries of finished runs.

They are about the task, never about how one method compares to another. They ask whether scores agree with gold, and
whether there is room for a difference.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from emorl_bench.audit.requirements import Requirement

DECODING = "greedy"
SINGLE_POLICIES = ("weighted_scst", "rloo", "weighted_ppo", "grpo", "cory")  # one policy, trained on all objectives
FOOLED = (0.6, 0.3)  # a policy whose mean score is at least the first and whose gold is at most the second
APART = 0.03  # two gold points differ where some grade differs by more than this
FALL, ROOM, GAP, RANKS, DISTINCT, POINTS, CHANCE = -0.05, (0.5, 0.95), 0.05, 0.85, 0.5, 5, 0.15
PER_PREFERENCE = "morlhf"  # one policy trained for each preference, the single objectives among them
PAIR = ("weighted_scst", "rloo")  # the same gradient up to a factor


@dataclass(frozen=True)
class Summary:
    """One finished run on one task and model."""

    task: str
    model: str
    method: str
    seed: int
    content: dict[str, Any]

    @property
    def uniform(self) -> dict[str, Any]:
        """The point of the uniform preference."""
        point: dict[str, Any] = self.content["decoding"][DECODING]["uniform"]
        return point

    @property
    def points(self) -> list[dict[str, Any]]:
        """One point for each preference."""
        points: list[dict[str, Any]] = self.content["decoding"][DECODING]["points"]
        return points

    @property
    def gold(self) -> float:
        """Mean gold grade at the uniform preference."""
        return float(self.uniform["gold_mean_reward"])

    @property
    def ceiling(self) -> float:
        """Gold of the best possible answers at the uniform preference."""
        return float(self.content["ceiling"]["uniform"])


def read_summaries(runs: Path) -> list[Summary]:
    """The finished runs in a runs_dir."""
    found = []
    for path in sorted(runs.rglob("summary.json")):
        content = json.loads(path.read_text())
        if json.loads((path.parent / "status.json").read_text()).get("state") == "done":
            names = content["names"]
            found.append(Summary(names["task"], names["model"], names["method"], content["seed"], content))
    return found


def requirements(summaries: Sequence[Summary]) -> list[Requirement]:
    """All requirements that the runs decide, by task and model."""
    rows = []
    for (task, model), group in _grouped(summaries):
        for name, value, low, high in _rows(group):
            rows.append(Requirement(task, model, name, value, low, high))
    return rows


def _grouped(summaries: Sequence[Summary]) -> Iterator[tuple[tuple[str, str], list[Summary]]]:
    def key(run: Summary) -> tuple[str, str]:
        return run.task, run.model

    for names, group in itertools.groupby(sorted(summaries, key=key), key):
        yield names, list(group)


def _rows(runs: Sequence[Summary]) -> Iterator[tuple[str, float, float, float]]:
    trained = [run for run in runs if run.method != "base"]
    singles = [run for run in trained if run.method in SINGLE_POLICIES]
    scores, golds = _scores_and_golds(trained)
    infinite = math.inf
    yield f"Spearman of mean score and gold, {len(scores)} policies", _ranks(scores, golds), RANKS, infinite
    fooled = sum(score >= FOOLED[0] and gold <= FOOLED[1] for score, gold in zip(scores, golds, strict=True))
    yield "policies with a mean score of .6 or more and a gold of .3 or less", float(fooled), 0.0, 0.0
    gaps = [run.uniform["mean_reward"] - run.gold for run in trained]
    yield f"median of mean score − gold at the uniform preference, {len(gaps)} runs", _median(gaps), -GAP, GAP
    distinct = [run.uniform["distinct"] for run in singles]
    yield f"least distinct answers ÷ prompts of {len(distinct)} single policies", _least(distinct), DISTINCT, infinite
    yield from _from_one_method(runs, trained)


def _from_one_method(runs: Sequence[Summary], trained: Sequence[Summary]) -> Iterator[tuple[str, float, float, float]]:
    fronts = [distinct_points(run) for run in trained if run.method == PER_PREFERENCE]
    yield "distinct gold points of one policy for each preference", _least(fronts), POINTS, math.inf
    base = [run for run in runs if run.method == "base"]
    falls = [change for run in trained if run.method == PER_PREFERENCE for change in _changes(run, base)]
    yield "largest fall of another objective where one is trained alone", _least(falls), -math.inf, FALL
    best, uniform = max((run.gold for run in trained), default=math.nan), base[0].gold if base else math.nan
    ceiling = runs[0].ceiling
    room = (best - uniform) / (ceiling - uniform)
    yield f"best gold {best:.3f} between base {uniform:.3f} and ceiling {ceiling:.3f}", room, *ROOM
    pairs = paired(trained, *PAIR)
    wins = [float(one > other) + 0.5 * (one == other) for one, other in pairs]
    chance = statistics.fmean(wins) if wins else math.nan
    yield f"probability that {PAIR[0]} beats {PAIR[1]}, {len(pairs)} pairs", chance, 0.5 - CHANCE, 0.5 + CHANCE


def distinct_points(run: Summary) -> int:
    """Number of different gold points of a run's preferences; points of nearly equal grades count once."""
    kept: list[np.ndarray] = []
    for point in run.points:
        grades = np.array(list(point["gold"].values()))
        if all(np.abs(grades - other).max() > APART for other in kept):
            kept.append(grades)
    return len(kept)


def paired(runs: Sequence[Summary], one: str, other: str) -> list[tuple[float, float]]:
    """Gold of two methods at the uniform preference, by seed."""
    by_seed = [{run.seed: run.gold for run in runs if run.method == method} for method in (one, other)]
    return [(by_seed[0][seed], by_seed[1][seed]) for seed in sorted(by_seed[0].keys() & by_seed[1].keys())]


def _scores_and_golds(runs: Sequence[Summary]) -> tuple[list[float], list[float]]:
    """Mean score and gold of every policy that was deployed for some preference, each policy once."""
    seen = {(run.method, run.seed, p["mean_reward"], p["gold_mean_reward"]) for run in runs for p in run.points}
    ordered = sorted(seen, key=str)
    return [score for *_, score, _ in ordered], [gold for *_, gold in ordered]


def _changes(run: Summary, base: Sequence[Summary]) -> Iterator[float]:
    """Change of gold in the other objectives, relative to the base, of policies trained on one objective alone."""
    before = base[0].uniform["gold"] if base else {}
    for point in run.points:
        if max(point["preference"]) == 1:
            names = zip(before, point["preference"], strict=True)
            yield from (point["gold"][name] - before[name] for name, weight in names if weight == 0)


def _ranks(scores: Sequence[float], golds: Sequence[float]) -> float:
    return float(spearmanr(scores, golds).statistic) if len(set(scores)) > 1 and len(set(golds)) > 1 else math.nan


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan


def _least(values: Sequence[float]) -> float:
    return float(min(values, default=math.nan))
