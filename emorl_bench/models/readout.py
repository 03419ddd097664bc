"""What is read off logits, without all logits: a large vocabulary makes them the largest tensor of a run.

256 answers of 256 tokens over 151,936 words have 10 billion logits, 37 GiB in float32, and every operation on them
makes as much again. So positions go through the head in blocks. All that exists of a block's logits at one time stays
within a budget of bytes. The chosen logits are gathered and the normaliser is summed up, so no normalised copy is made;
at temperature 1 no scaled one is made either. A position of padding needs no logits once there is more than one block.

Where one block suffices, its logits are kept for the backward pass, whose numbers are those of the plain formula. Where
several are needed, the backward pass computes each block's logits again: the logits of training stay within the budget
too (the idea of fused linear cross-entropy, 2410.10989).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from emorl_bench.core.types import Rollout

Head = Callable[[Tensor], Tensor]
COPIES = 3  # tensors as large as a block's logits that exist at one time, in either direction


def rows_within(block_bytes: int, head: Head, like_LH: Tensor, copies: int = COPIES) -> int:
    """The most positions, but at least one, for which ``copies`` of the logits in float32 or more fit the budget."""
    with torch.no_grad():
        none = head(like_LH.detach()[:0])  # the width of the head, without a product
    word = torch.promote_types(none.dtype, torch.float32).itemsize
    return max(1, block_bytes // (copies * word * none.shape[-1]))


def response_logprobs(head: Head, hidden_BTH: Tensor, rollout: Rollout, block_bytes: int) -> Tensor:
    """(B, T) log-probabilities of a rollout's tokens at its temperature, 0 where masked.

    Differentiable in the hidden states, and in nothing else: the head is frozen. It is computed in float32 where the
    model's type is smaller.
    """
    mask_BT, temperature = rollout.response_mask_BT, rollout.temperature
    hidden_LH, chosen_L = hidden_BTH.flatten(0, 1), rollout.response_ids_BT.flatten()
    rows = rows_within(block_bytes, head, hidden_LH)
    if len(hidden_LH) <= rows:
        found_L = token_logprobs(head, hidden_LH, chosen_L, temperature, keep=True)
        return found_L.view_as(mask_BT) * mask_BT
    kept_L = mask_BT.flatten().nonzero().squeeze(1)
    blocks = (
        token_logprobs(head, hidden_LH[at], chosen_L[at], temperature, keep=len(kept_L) <= rows)
        for at in kept_L.split(rows)
    )
    found_K = torch.cat(list(blocks))
    return found_K.new_zeros(len(hidden_LH)).scatter(0, kept_L, found_K).view_as(mask_BT)


def token_logprobs(
    head: Head, hidden_LH: Tensor, chosen_L: Tensor, temperature: float = 1.0, *, keep: bool = False
) -> Tensor:
    """(L,) log-probability of the chosen token at each position of one block.

    Args:
        head: hidden states to logits; frozen, and a row of its result depends on that row alone.
        hidden_LH: hidden states.
        chosen_L: ids of the tokens.
        temperature: what logits are divided by.
        keep: keep the logits for the backward pass; otherwise they are computed again.
    """
    if torch.is_grad_enabled() and hidden_LH.requires_grad:
        found_L: Tensor = _Chosen.apply(hidden_LH, head, chosen_L, temperature, keep)
        return found_L
    return _read(scaled(head(hidden_LH), temperature), chosen_L)[0]


@torch.no_grad()
def divergence(head: Head, own_LH: Tensor, other_LH: Tensor, temperature: float, block_bytes: int) -> Tensor:
    """(L,) ``sum_v p(v) (log p(v) - log q(v))`` of the distributions p and q that two hidden states give."""
    rows = rows_within(block_bytes, head, own_LH)
    blocks = zip(own_LH.split(rows), other_LH.split(rows), strict=True)
    return torch.cat([_diverged(head, own, other, temperature) for own, other in blocks])


def _diverged(head: Head, own_LH: Tensor, other_LH: Tensor, temperature: float) -> Tensor:
    own_LV, base_LV = (scaled(head(h), temperature).log_softmax(-1) for h in (own_LH, other_LH))
    torch.sub(own_LV, base_LV, out=base_LV)
    return base_LV.mul_(own_LV.exp_()).sum(-1)


def scaled(logits: Tensor, temperature: float) -> Tensor:
    """Logits over the temperature in float32, or in float64 where they are; at temperature 1 float32 is not copied."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits if temperature == 1 else logits / temperature


def _read(logits_LV: Tensor, chosen_L: Tensor) -> tuple[Tensor, Tensor]:
    """(L,) log-probabilities of the chosen tokens, and (L,) the logarithms of the normalisers."""
    normaliser_L = logits_LV.logsumexp(-1)
    return logits_LV.gather(-1, chosen_L[:, None]).squeeze(-1) - normaliser_L, normaliser_L


class _Chosen(torch.autograd.Function):
    """`token_logprobs` with its gradient in closed form: ``(onehot(chosen) - softmax(logits)) / temperature``."""

    @staticmethod
    def forward(ctx: Any, hidden_LH: Tensor, head: Head, chosen_L: Tensor, temperature: float, keep: bool) -> Tensor:
        made = _projected(head, hidden_LH) if keep else None
        logits_LV = head(hidden_LH) if made is None else made[1].detach()
        found_L, normaliser_L = _read(scaled(logits_LV, temperature), chosen_L)
        ctx.save_for_backward(hidden_LH, chosen_L, normaliser_L)
        ctx.head, ctx.temperature, ctx.made = head, temperature, made
        return found_L

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope_L: Tensor) -> tuple[Tensor | None, ...]:
        hidden_LH, chosen_L, normaliser_L = ctx.saved_tensors
        (leaf_LH, logits_LV), ctx.made = ctx.made or _projected(ctx.head, hidden_LH), None  # used once, then free
        slope_L1 = slope_L[:, None]
        slope_LV = scaled(logits_LV.detach(), ctx.temperature) - normaliser_L[:, None]
        slope_LV.exp_().mul_(-slope_L1).scatter_add_(1, chosen_L[:, None], slope_L1)
        if ctx.temperature != 1:
            slope_LV.div_(ctx.temperature)
        (found_LH,) = torch.autograd.grad(logits_LV, leaf_LH, slope_LV.to(logits_LV.dtype))
        return found_LH, None, None, None, None


def _projected(head: Head, hidden_LH: Tensor) -> tuple[Tensor, Tensor]:
    """A copy of the hidden states that can be differentiated by, and its logits."""
    with torch.enable_grad():
        leaf_LH = hidden_LH.detach().requires_grad_()
        # A view, because the hooks of the FLOP counter fail on leaf tensors.
        return leaf_LH, head(leaf_LH.view_as(leaf_LH))
