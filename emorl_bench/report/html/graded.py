"""What one run was graded as, as the charts need it: scores at each preference, KL, cost, and shares of the budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emorl_bench.report.read import Run
from emorl_bench.report.reading import deployed, number

SETS = {"gold": "gold_", "objectives": "", "held_out": "held_out_"}  # set of scorers -> prefix of its keys
TERA = 1e12
Scores = Sequence[float | None]


@dataclass(frozen=True)
class Stage:
    """What was spent until some share of the budget, and the utility of what would have been deployed then."""

    share: float
    data_points: float
    seconds: float | None
    tflop: float | None
    utility: Mapping[str, float]
    """Set of scorers -> mean utility of the deployed policies."""


@dataclass(frozen=True)
class Graded:
    """One run under one decoding, with W preferences and K objectives."""

    method: str
    seed: int
    points: Mapping[str, Sequence[Scores]]
    """Set of scorers -> W rows of K mean scores; None where an objective does not apply or has no score."""
    kl: Scores
    """W; nats a sequence."""
    stages: Sequence[Stage]
    """In order of cost. The last one is the whole run."""


def graded(run: Run, decoding: str) -> Graded:
    """The record of one run."""
    points = run.decoding[decoding]["points"]
    by_set = {name: [_scores(point, name, run.objectives) for point in points] for name in SETS}
    known = {name: rows for name, rows in by_set.items() if any(score is not None for row in rows for score in row)}
    return Graded(run.method, run.seed, known, [rounded(number(p, "kl")) for p in points], stages(run, decoding))


def stages(run: Run, decoding: str) -> list[Stage]:
    """The shares at which the run was graded, and its end.

    A run that trains nothing, such as the base model, has its end only.
    """
    found = [
        Stage(
            number(record, "share") or 0.0,
            number(record, "data_points") or 0.0,
            number(record, "seconds"),
            _tera(number(record, "flops")),
            _utilities(record["decoding"][decoding]),
        )
        for record in run.ladder
        if decoding in record.get("decoding", {})
    ]
    if all(stage.share < 1 for stage in found):
        spent = run.cost.get("data_points_sum", 0.0)
        end = _utilities(run.decoding[decoding])
        found.append(Stage(1.0, spent, run.cost.get("seconds_sum"), _tera(run.cost.get("flops")), end))
    return sorted(found, key=lambda stage: stage.share)


def rounded(value: float | None) -> float | None:
    """Four decimals, which is finer than any chart shows."""
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _utilities(record: Mapping[str, Any]) -> dict[str, float]:
    known = {name: rounded(deployed(record, prefix)) for name, prefix in SETS.items()}
    return {name: value for name, value in known.items() if value is not None}


def _scores(point: Mapping[str, Any], name: str, objectives: Sequence[str]) -> list[float | None]:
    """Gold is known by the objective's name. A held-out scorer has a name of its own and the place of its objective."""
    scores = point.get(name) or {}
    if name == "held_out" and len(scores) == len(objectives):
        return [rounded(number(scores, key)) for key in scores]
    return [rounded(number(scores, key)) for key in objectives]


def _tera(flops: float | None) -> float | None:
    return None if flops is None else round(flops / TERA, 6)
