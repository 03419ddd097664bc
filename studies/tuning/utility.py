"""The utility of a finished run on the select split, read from its record.

It is the mean over graded preferences of the utility of what the run would deploy for each. Report, held-out and gold
scores are never read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.masked import weighted_mean
from emorl_bench.tracking.jsonl import read_rows


def select_utility(run: Path, summary: Mapping[str, Any]) -> float:
    """The utility on the select split, of whichever record the run has.

    These are tried in turn. Of a searched front: the best that each preference's search has seen. Of a group of
    policies: that of the deployed one. Otherwise: the mean over trainings that are not an expert's, such as one for
    each preference, of the best validation.

    Raises:
        UserError: the record has no such number, because the method neither trains nor searches.
    """
    names = list(summary["objectives"])
    preferences_WK = torch.tensor(summary["preferences"], dtype=torch.float64)
    if (searched := run / "search.jsonl").exists():
        lines = [json.loads(line) for line in searched.read_text().splitlines() if line]
        return _best_of(_scores([line["scores"] for line in lines]), preferences_WK)
    if members := summary.get("members"):
        select = next(member["select"] for member in members.values() if member["deployed"])
        return _best_of(_scores([[select.get(name) for name in names]]), preferences_WK)
    rows = read_rows(run / "metrics.jsonl")
    best = {name: _best(rows, name) for name in _runs(rows) if name not in names}
    if not best:
        raise UserError(
            f"{run}: nothing in it was trained or searched on the select split, so there is nothing to tune"
        )
    return sum(best.values()) / len(best)


def _runs(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """The trainings that have validations, in order."""
    parts = [key.split("/") for row in rows for key in row if key.startswith("learner/")]
    return list(dict.fromkeys(part[1] for part in parts if part[2:] == ["eval", "utility"]))


def _best(rows: Sequence[Mapping[str, float]], name: str) -> float:
    key = f"learner/{name}/eval/utility"
    return max(row[key] for row in rows if key in row)


def _scores(rows: Sequence[Sequence[float | None]]) -> Tensor:
    return torch.tensor([[math.nan if s is None else s for s in row] for row in rows], dtype=torch.float64)


def _best_of(scores_NK: Tensor, preferences_WK: Tensor) -> float:
    """The mean over preferences of the largest utility among some mean scores."""
    best = [weighted_mean(scores_NK, preference_K).nan_to_num(-math.inf).max() for preference_K in preferences_WK]
    return torch.stack(best).mean().item()
