"""Objectives that do not apply to a row: their score is NaN, and every mean leaves it out; it never counts as 0.

A scorer returns ``None`` where it does not apply (a question without a reference answer has no accuracy). The scorer
panel stores NaN for it. Every mean is then taken over the scores that apply. Where none applies, the mean is NaN too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def mean_scores(scores_BK: Tensor, dim: int = 0) -> Tensor:
    """Mean over rows: (B, K) -> (K,), or (B,) -> a scalar.

    Each objective is averaged over the rows that it applies to.
    """
    return scores_BK.nanmean(dim) if scores_BK.isnan().any() else scores_BK.mean(dim)


def weighted_mean(scores_BK: Tensor, weights_K: Tensor) -> Tensor:
    """Weighted mean of a row's scores, ``sum_k w_k s_k``: (B, K) -> (B,), or (K,) -> a scalar.

    Where an objective does not apply to a row, the weights of the other objectives are scaled up to the same total.

    Args:
        scores_BK: scores, NaN where an objective does not apply.
        weights_K: weights, none below 0.

    Returns:
        One value for each row; NaN where no objective with a weight above 0 applies.
    """
    if not scores_BK.isnan().any():
        return scores_BK @ weights_K
    left_B = (~scores_BK.isnan()).to(weights_K) @ weights_K
    mean_B = scores_BK.nan_to_num(0.0) @ weights_K * weights_K.sum() / left_B
    return torch.where(left_B > 0, mean_B, torch.nan)


def not_applicable(scores_BK: Tensor, objectives: Sequence[str]) -> dict[str, int]:
    """Number of rows that each objective does not apply to. Objectives that apply to all rows are left out."""
    counts = zip(objectives, scores_BK.isnan().sum(0).tolist(), strict=True)
    return {name: count for name, count in counts if count}


def stated(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that have a value.

    A mean over no rows is NaN, which JSON does not know, so it is left out of a record.
    """
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def or_none(values: Sequence[float]) -> list[float | None]:
    """The values as JSON and tables hold them: NaN becomes ``None``."""
    return [None if math.isnan(value) else value for value in values]
