"""Training curves as metrics.jsonl has them: the one place that knows the names of their keys."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.read import Floats, Run

Curve = Mapping[float, float]  # data points -> score
Learners = dict[str, Curve]

MEASURED = re.compile(r"(?:eval/(?P<old>[^/]+)|learner/(?P<new>[^/]+)/eval)/(?P<what>[^/]+)")
X = "data_points"


def learning_curves(run: Run) -> Learners:
    """Learner -> its score on the select split. A step that a resumed run repeats counts once, as it was written last.

    The score is the mean reward; for an expert, which is named after its objective, it is the score of this objective.
    """
    curves: dict[str, dict[float, float]] = defaultdict(dict)
    for record in run.lines("metrics.jsonl"):
        if X not in record:
            continue
        for key, value in record.items():
            if (found := MEASURED.fullmatch(key)) is None:
                continue
            learner = found["old"] or found["new"]
            wanted = learner if is_expert(learner, run) and key.rpartition("/")[0] + f"/{learner}" in record else None
            if found["what"] == (wanted or "mean_reward"):
                curves[learner][float(record[X])] = float(value)
    return dict(curves)


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
