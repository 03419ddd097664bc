"""Training curves as metrics.jsonl has them: the one place that knows the names of their keys."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.read import Floats, Run

Curve = Mapping[float, float]  # data points -> score
Learners = dict[str, Curve]

X = "data_points"
NAMED = re.compile(r"(?:eval/(?P<alone>[^/]+)|learner/(?P<learner>[^/]+)/eval)/(?P<what>[^/]+)")
"""A learner's score: ``eval/<learner>/<objective>`` over the row's data points, or ``learner/<learner>/eval/…`` over
``learner/<learner>/data_points``, where the row's own count is of the whole method."""


def learning_curves(run: Run) -> Learners:
    """Learner -> its score on the select split. A step that a resumed run repeats counts once, as it was written last.

    The score is the mean reward; for an expert, which is named after its objective, it is the score of this objective.
    """
    curves: dict[str, dict[float, float]] = defaultdict(dict)
    for record in run.lines("metrics.jsonl"):
        for learner, found in _scores(record).items():
            own = learner if is_expert(learner, run) and learner in found else "mean_reward"
            if own in found and X in found:
                curves[learner][float(found[X])] = float(found[own])
    return dict(curves)


def _scores(record: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Learner -> its scores of one row, and the data points that it has spent."""
    rows: dict[str, dict[str, float]] = defaultdict(dict)
    for key, value in record.items():
        if isinstance(value, int | float) and (named := NAMED.fullmatch(key)) is not None:
            learner = named["alone"] or named["learner"]
            rows[learner][named["what"]] = value
            spent = record.get(X if named["alone"] else f"learner/{learner}/{X}")
            if isinstance(spent, int | float):
                rows[learner][X] = spent
    return rows


def is_expert(learner: str, run: Run) -> bool:
    """Whether a learner is trained on one of several objectives, whose name it has."""
    return len(run.objectives) > 1 and learner in run.objectives


def curves_by_row(comparison: Comparison) -> dict[str, dict[str, list[Curve]]]:
    """Row -> learner -> one curve for each seed. Rows without any are left out."""
    found: dict[str, dict[str, list[Curve]]] = {}
    for run in comparison.runs:
        for learner, curve in learning_curves(run).items():
            found.setdefault(run.method, {}).setdefault(learner, []).append(curve)
    return found


def shared_sets(rows: Mapping[str, Mapping[str, Sequence[Curve]]], order: Sequence[str]) -> dict[str, list[str]]:
    """The first row in ``order`` that has a set of curves -> all rows with just this set, such as the same experts."""
    found: dict[object, list[str]] = {}
    for name in (name for name in order if name in rows):
        same = tuple(
            (learner, tuple(tuple(sorted(curve.items())) for curve in curves))
            for learner, curves in sorted(rows[name].items())
        )
        found.setdefault(same, []).append(name)
    return {names[0]: names for names in found.values()}


def over_seeds(curves: Sequence[Curve]) -> tuple[Floats, Floats]:
    """Data points (X,) and scores (N, X).

    Between two validations, and after its last one, a seed keeps its last value.
    """
    x_X = np.array(sorted({x for curve in curves for x in curve}))
    start = max(min(curve) for curve in curves)  # before this point some seed has no validation yet
    x_X = x_X[x_X >= start]
    rows = []
    for curve in curves:
        known = np.array(sorted(curve))
        values = np.array([curve[x] for x in known])
        rows.append(values[np.searchsorted(known, x_X, side="right") - 1])
    return x_X, np.array(rows)
