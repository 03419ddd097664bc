"""Objectives that do not apply to a row: NaN inside scores, left out of every mean, never a 0.

A scorer says ``None`` (a question without a reference answer has no accuracy), the panel makes it a NaN, and all that
follows averages over what applies. Where nothing applies the mean is a NaN itself: there is nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def mean_scores(scores_BK: Tensor, dim: int = 0) -> Tensor:
    """Mean over rows, (B, K) -> (K,) or (B,) -> a scalar: each objective over the rows that it applies to."""
    return scores_BK.nanmean(dim) if scores_BK.isnan().any() else scores_BK.mean(dim)


def weighted_mean(scores_BK: Tensor, weights_K: Tensor) -> Tensor:
    """``sum_k w_k s_k``, (B, K) -> (B,) or (K,) -> a scalar; a row's weights are scaled up over what applies to it.

    Weights are not negative. NaN where no objective with a weight applies.
    """
    if not scores_BK.isnan().any():
        return scores_BK @ weights_K
    left_B = (~scores_BK.isnan()).to(weights_K) @ weights_K
    mean_B = scores_BK.nan_to_num(0.0) @ weights_K * weights_K.sum() / left_B
    return torch.where(left_B > 0, mean_B, torch.nan)


def not_applicable(scores_BK: Tensor, objectives: Sequence[str]) -> dict[str, int]:
    """Rows that each objective does not apply to; objectives that apply to all rows are left out."""
    counts = zip(objectives, scores_BK.isnan().sum(0).tolist(), strict=True)
    return {name: count for name, count in counts if count}


def stated(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that have a value: a mean over nothing is left out of a record, where JSON knows no NaN."""
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def or_none(values: Sequence[float]) -> list[float | None]:
    """As JSON and tables hold them: ``None`` for what does not apply."""
    return [None if math.isnan(value) else value for value in values]
