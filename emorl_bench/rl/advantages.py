"""Advantages of whole answers: how much better an answer is than the others to the same prompt. Pure functions."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

SPREAD_FLOOR = 1e-4  # added to a standard deviation before dividing by it, as in TRL's trainers

Scale = Literal["group", "batch", "none"]


def group_advantages(rewards_B: Tensor, group_size: int) -> Tensor:
    """Reward minus the mean of its prompt's samples: ``A_i = R_i - mean_j R_j`` (k-SCST; EMORL 2505.02579, eq. 2).

    A sample without a reward (NaN) is left out of the mean, and its advantage is 0.
    """
    rewards_PG = rewards_B.view(-1, group_size)
    if rewards_PG.isnan().any():
        return (rewards_PG - rewards_PG.nanmean(dim=1, keepdim=True)).nan_to_num(0.0).flatten()
    return (rewards_PG - rewards_PG.mean(dim=1, keepdim=True)).flatten()


def leave_one_out(rewards_B: Tensor, group_size: int) -> Tensor:
    """Reward minus the mean of its prompt's other samples: ``A_i = n / (n - 1) (R_i - mean_j R_j)`` (2402.14740).

    n counts the samples that have a reward. A single one has nothing to be compared with, and its advantage is 0.
    """
    count_PG = (~rewards_B.isnan()).view(-1, group_size).sum(1, keepdim=True).expand(-1, group_size)
    factor_B = (count_PG / (count_PG - 1).clamp_min(1)).flatten()
    return group_advantages(rewards_B, group_size) * factor_B.to(rewards_B.dtype)


def spread(values: Tensor, dim: int) -> Tensor:
    """Sample standard deviation along ``dim``, which is kept, of the values that are not NaN; 0 for fewer than two."""
    count = (~values.isnan()).sum(dim, keepdim=True)
    squares = ((values - values.nanmean(dim, keepdim=True)) ** 2).nansum(dim, keepdim=True)
    return (squares / (count - 1).clamp_min(1)).sqrt()


def scaled_advantages(rewards_B: Tensor, group_size: int, scale: Scale) -> Tensor:
    """`group_advantages`, divided by the standard deviation of rewards in the group or the batch, or by nothing."""
    advantages_PG = group_advantages(rewards_B, group_size).view(-1, group_size)
    if scale == "none":
        return advantages_PG.flatten()
    wide = spread(rewards_B.view(-1, group_size), 1) if scale == "group" else spread(rewards_B, 0)
    return (advantages_PG / (wide + SPREAD_FLOOR)).flatten()


def decoupled(values_BK: Tensor, group_size: int) -> Tensor:
    """(B, K): each objective's distance from the mean of its prompt's samples, in units of their standard deviation."""
    values_PGK = values_BK.view(-1, group_size, values_BK.shape[1])
    away_PGK = values_PGK - values_PGK.nanmean(1, keepdim=True)
    return (away_PGK / (spread(values_PGK, 1) + SPREAD_FLOOR)).flatten(0, 1)
