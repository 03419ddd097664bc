"""What is recorded of one graded policy (a point), and of one policy for each preference (a front).

The utility of a preference w is ``sum_k w_k s_k`` over mean scores s. An objective that does not apply, or that a set
of scorers lacks, is left out: the other weights are scaled up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from emorl_bench.core.masked import mean_scores, not_applicable, or_none, weighted_mean
from emorl_bench.core.types import Rollout
from emorl_bench.indicators.fronts import deployed_utility, hypervolume, worst_objective
from emorl_bench.indicators.text import distinct_share, diversity_2, edit_rate

Row = dict[str, Any]

SETS = {"objectives": "", "held_out": "held_out_", "gold": "gold_"}  # set of scores -> prefix of its keys


@dataclass(frozen=True)
class Scored:
    """One rollout under one set of scorers."""

    objectives: tuple[str, ...]
    scores_BK: Tensor

    def means(self) -> dict[str, float | None]:
        """Objective -> mean score over the answers that it applies to."""
        means_K = mean_scores(self.scores_BK.double())
        return dict(zip(self.objectives, or_none(means_K.tolist()), strict=True))


def point(rollout: Rollout, scored: Mapping[str, Scored], ended_B: Tensor) -> Row:
    """The record of one policy under one decoding.

    Args:
        rollout: B answers.
        scored: set of scorers -> its scores.
        ended_B: whether each answer has an end token.
    """
    own, held_out = scored["objectives"], scored["held_out"]
    pairs = list(zip(rollout.examples, rollout.responses, strict=True))
    row: Row = {name: one.means() for name, one in scored.items()}
    row |= {f"{SETS[name]}mean_reward": _mean(row[name].values()) for name in scored}
    known = [score for score in row["objectives"].values() if score is not None]
    return row | {
        "worst": worst_objective(known) if known else None,
        "not_applicable": own.scores_BK.isnan().double().mean().item(),
        "not_applicable_by_objective": not_applicable(own.scores_BK, own.objectives)
        | not_applicable(held_out.scores_BK, [f"held_out/{name}" for name in held_out.objectives]),
        "responses": len(pairs),
        "distinct": distinct_share(rollout.responses[:: rollout.group_size]),
        "truncated": 1 - ended_B.double().mean().item(),
        "diversity_2": diversity_2(rollout.responses),
        "edit_rate": sum(edit_rate(e.prompt, r) for e, r in pairs) / len(pairs),
        "length": rollout.tokens / len(pairs),
    }


def at(found: Row, objectives: Sequence[str], preference_K: Tensor) -> Row:
    """A point as the answer to one preference: with its utility under every set of scorers."""
    sets = [name for name in SETS if name in found]
    scores = {name: torch.tensor(values(found, name, objectives), dtype=torch.float64) for name in sets}
    utility = {f"{SETS[name]}utility": _number(weighted_mean(scores[name], preference_K)) for name in sets}
    return {"preference": preference_K.tolist(), **utility, **found}


def front(points: Sequence[Row], objectives: Sequence[str], preferences_WK: Tensor, uniform: int) -> Row:
    """The points deployed for all preferences, and their indicators.

    ``uniform`` is the index of the uniform preference.
    """
    record: Row = {"points": list(points), "uniform": points[uniform]}
    for name, prefix in SETS.items():
        if name in points[0]:
            points_WK = torch.tensor([values(p, name, objectives) for p in points], dtype=torch.float64)
            record |= {f"{prefix}{key}": value for key, value in indicators(points_WK, preferences_WK).items()}
    return record


def indicators(points_WK: Tensor, preferences_WK: Tensor) -> Row:
    """Hypervolume of a front, and mean utility of the deployed policies; None where no mean exists.

    An objective that applied to no response of any point is no dimension of the front. A point that lacks one of the
    other objectives is left out of the volume.
    """
    points_NK = points_WK[:, ~points_WK.isnan().all(0)]
    points_NK = points_NK[~points_NK.isnan().any(1)]
    return {
        "hypervolume": hypervolume(points_NK.numpy()) if points_NK.numel() else None,
        "deployed_utility": or_none([deployed_utility(points_WK.numpy(), preferences_WK.numpy())])[0],
    }


def ceiling(best_WK: Tensor, preferences_WK: Tensor, uniform: int) -> Row:
    """Gold scores of the best possible answers, and their utility for each preference."""
    utility_W = (best_WK.double() * preferences_WK).sum(1)
    return {
        "objectives": best_WK.tolist(),
        "utility": utility_W.tolist(),
        "mean_utility": utility_W.mean().item(),
        "uniform": utility_W[uniform].item(),
    }


def values(found: Row, name: str, objectives: Sequence[str]) -> list[float]:
    """K mean scores of a point under one set of scorers; NaN where one does not apply or has no gold scorer."""
    scores = found[name]
    given = [scores.get(key) for key in objectives] if name == "gold" else scores.values()
    return [math.nan if score is None else score for score in given]


def rows(rollout: Rollout, scored: Mapping[str, Scored]) -> Iterator[Row]:
    """Each answer with its scores. Names of held-out and gold scores have a prefix."""
    listed = {name: [or_none(row) for row in one.scores_BK.tolist()] for name, one in scored.items()}
    for b, (example, response) in enumerate(zip(rollout.examples, rollout.responses, strict=True)):
        row: Row = {"split": "report", "example_id": example.id, "sample": b % rollout.group_size}
        row |= {"prompt": example.prompt, "response": response}
        for name, one in scored.items():
            prefix = "" if name == "objectives" else f"{name}/"
            row |= {f"{prefix}{key}": s for key, s in zip(one.objectives, listed[name][b], strict=True)}
        yield row


def _mean(scores: Any) -> float | None:
    return _number(mean_scores(torch.tensor([math.nan if s is None else s for s in scores], dtype=torch.float64)))


def _number(value: Tensor) -> float | None:
    return or_none([value.item()])[0]
