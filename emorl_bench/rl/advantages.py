"""Advantages: how much better a sample, or a token, was than expected. Pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from emorl_bench.core.types import Rollout

SPREAD_FLOOR = 1e-4  # added to every standard deviation that is divided by, as TRL's trainers do

Scale = Literal["group", "batch", "none"]


def silenced(rollout: Rollout, teaches_B: Tensor) -> Rollout:
    """The same rollout without a token of the rows that have no reward: they enter no loss, no mean and no KL."""
    if teaches_B.all():
        return rollout
    mask_BT = rollout.response_mask_BT & teaches_B[:, None]
    return replace(rollout, response_mask_BT=mask_BT, logprobs_BT=rollout.logprobs_BT.masked_fill(~mask_BT, 0.0))


def group_advantages(rewards_B: Tensor, group_size: int) -> Tensor:
    """Reward minus the mean of its prompt's samples: ``A_i = R_i - mean_j R_j`` (k-SCST; EMORL 2505.02579, eq. 2).

    A sample without a reward (NaN) is in no mean, and its advantage is 0.
    """
    rewards_PG = rewards_B.view(-1, group_size)
    if rewards_PG.isnan().any():
        return (rewards_PG - rewards_PG.nanmean(dim=1, keepdim=True)).nan_to_num(0.0).flatten()
    return (rewards_PG - rewards_PG.mean(dim=1, keepdim=True)).flatten()


def leave_one_out(rewards_B: Tensor, group_size: int) -> Tensor:
    """Reward minus the mean of its prompt's other samples: ``A_i = n / (n - 1) (R_i - mean_j R_j)`` (2402.14740).

    n counts the samples with a reward; one alone has nothing to be compared with, and the advantage 0.
    """
    count_PG = (~rewards_B.isnan()).view(-1, group_size).sum(1, keepdim=True).expand(-1, group_size)
    factor_B = (count_PG / (count_PG - 1).clamp_min(1)).flatten()
    return group_advantages(rewards_B, group_size) * factor_B.to(rewards_B.dtype)


def spread(values: Tensor, dim: int) -> Tensor:
    """Sample standard deviation along ``dim`` (kept) of what is not NaN; 0 where that is fewer than two."""
    count = (~values.isnan()).sum(dim, keepdim=True)
    squares = ((values - values.nanmean(dim, keepdim=True)) ** 2).nansum(dim, keepdim=True)
    return (squares / (count - 1).clamp_min(1)).sqrt()


def scaled_advantages(rewards_B: Tensor, group_size: int, scale: Scale) -> Tensor:
    """`group_advantages`, divided by the spread of the rewards of the group or the batch, or by nothing."""
    advantages_PG = group_advantages(rewards_B, group_size).view(-1, group_size)
    if scale == "none":
        return advantages_PG.flatten()
    wide = spread(rewards_B.view(-1, group_size), 1) if scale == "group" else spread(rewards_B, 0)
    return (advantages_PG / (wide + SPREAD_FLOOR)).flatten()


def decoupled(values_BK: Tensor, group_size: int) -> Tensor:
    """(B, K): each objective's distance from the mean of its prompt's samples, in units of its own spread there."""
    values_PGK = values_BK.view(-1, group_size, values_BK.shape[1])
    away_PGK = values_PGK - values_PGK.nanmean(1, keepdim=True)
    return (away_PGK / (spread(values_PGK, 1) + SPREAD_FLOOR)).flatten(0, 1)


def token_rewards(rewards_B: Tensor, kl_penalty_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T): minus the KL penalty at every token, plus the sequence's reward at its last one (Ziegler 1909.08593).

    A row that is masked throughout must have the reward 0.
    """
    last_B = (mask_BT.sum(1).long() - 1).clamp_min(0)
    rewards_BT = -kl_penalty_BT * mask_BT
    return rewards_BT.scatter_add(1, last_B[:, None], rewards_B[:, None].to(rewards_BT))


def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman 1506.02438, eq. 16) on right-padded episodes.

    ``delta_t = r_t + gamma V_{t+1} - V_t`` and ``A_t = delta_t + gamma lam A_{t+1}``; nothing follows the last token.

    Returns:
        advantages (B, T) and returns ``A + V`` (B, T), 0 where masked.
    """
    advantages_BT = torch.zeros_like(values_BT)
    running_B, next_value_B = torch.zeros_like(values_BT[:, 0]), torch.zeros_like(values_BT[:, 0])
    for t in reversed(range(values_BT.shape[1])):
        here_B = mask_BT[:, t]
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        running_B = torch.where(here_B, delta_B + gamma * lam * running_B, 0.0)
        next_value_B = torch.where(here_B, values_BT[:, t], 0.0)
        advantages_BT[:, t] = running_B
    return advantages_BT, (advantages_BT + values_BT) * mask_BT


def whiten(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Zero mean and unit variance over the tokens that count."""
    count = mask_BT.sum().clamp_min(1)
    mean = (values_BT * mask_BT).sum() / count
    variance = ((values_BT - mean) ** 2 * mask_BT).sum() / count
    return (values_BT - mean) * (variance + 1e-8).rsqrt() * mask_BT
