"""Each expert's share of the decision for every token of an answer of a blend.

A blend of last hidden states (EMORL, 2505.02579) and multi-objective decoding (MOD, 2406.18853) both have the logits
``z = sum_m w_m z_m`` up to a constant. The decision for token c was one against the runner-up r, the token with the
largest logit of all others. Its margin is

    z(c) - z(r)  =  sum_m w_m (z_m(c) - z_m(r))  =  sum_m w_m (log p_m(c) - log p_m(r)),

and the m-th term is the share of expert m. The shares add up to the margin, whatever the vocabulary. A share below 0
means that the expert was for the runner-up. In a sampled answer the margin may be below 0 as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Sampler
from emorl_bench.core.types import Rollout
from emorl_bench.ensemble.blending import Blend
from emorl_bench.policies.together import on_one_base

COPIES = 8  # tensors as large as one expert's logits in float64 that exist for each expert at one time
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}  # of a margin's two ways of computing; other types: 0.25


@dataclass(frozen=True)
class Shares:
    """The decisions of B answers of at most T tokens by M experts. What the answers' mask leaves out has no meaning."""

    weights_M: Tensor
    """The weights of the blend, float64."""
    shares_BTM: Tensor
    """Shares of the margin, float64."""
    margin_BT: Tensor
    """Logit of the token less that of the runner-up, float64."""
    runner_up_BT: Tensor
    """Ids of the runners-up."""
    logprobs_BTM: Tensor
    """Log-probability of the token under each expert, unweighted, float64."""
    alone_BTM: Tensor
    """Ids of the tokens that each expert alone finds most likely at this place."""
    pivotal_BTM: Tensor
    """Whether the blend without this expert would have found another token most likely."""

    @property
    def decided_BTM(self) -> Tensor:
        """How the decision divides among the experts that were for the token: shares above 0, scaled to sum 1.

        NaN where no expert was for it.
        """
        for_it_BTM = self.shares_BTM.clamp(min=0)
        return for_it_BTM / for_it_BTM.sum(-1, keepdim=True)


@torch.no_grad()
def shares_of(sampler: Sampler, rollout: Rollout) -> Shares:
    """Shares of the tokens of a rollout that this sampler could have given.

    Raises:
        UserError: it is no blend of experts, or its logits are no weighted sum of theirs.
    """
    blend = checked(sampler)
    decoder, _ = on_one_base(blend.experts)
    weights_M = blend.weights_WM[0].to(decoder.backbone.device, torch.float64)
    hidden_MBTH = torch.stack([expert.hidden(rollout) for expert in blend.experts])
    hidden_MLH = hidden_MBTH.flatten(1, 2)
    chosen_L = rollout.response_ids_BT.flatten()
    per_token = COPIES * 8 * decoder.backbone.vocabulary * len(weights_M)
    rows = max(1, decoder.memory.block_bytes // per_token)
    parts = []
    for part_L in torch.split(torch.arange(len(chosen_L), device=chosen_L.device), rows):
        part_MLH = hidden_MLH[:, part_L]
        part = _decisions(decoder.backbone.head(part_MLH).double(), weights_M, chosen_L[part_L])
        kept = rollout.response_mask_BT.flatten()[part_L]
        _check(blend, part_MLH, chosen_L[part_L], part, kept)
        parts.append(part)
    b, t = rollout.response_ids_BT.shape
    whole = [torch.cat(found).reshape(b, t, *found[0].shape[1:]) for found in zip(*parts, strict=True)]
    return Shares(weights_M, *whole)


def checked(sampler: Sampler) -> Blend:
    """The blend that can be explained.

    Raises:
        UserError: there is none.
    """
    if not isinstance(sampler, Blend) or len(sampler.weights_WM) != 1:
        raise UserError(
            "--explain: this method answers with one policy, in which no expert has a share; use emorl or mod"
        )
    if sampler.mixing.inner_layer is not None:
        raise UserError(
            "--explain: these experts also meet inside the decoder, so a decision is no sum of theirs; use emorl or mod"
        )
    return sampler


def _decisions(logits_MLV: Tensor, weights_M: Tensor, chosen_L: Tensor) -> tuple[Tensor, ...]:
    """The fields of `Shares` after the weights, for L tokens."""
    weighted_MLV = logits_MLV * weights_M[:, None, None]
    blend_LV = weighted_MLV.sum(0)
    at_L1 = chosen_L[:, None]
    runner_up_L = blend_LV.scatter(1, at_L1, -torch.inf).argmax(1)

    def of(tokens_L: Tensor) -> Tensor:
        index_ML1 = tokens_L[None, :, None].expand(len(weights_M), -1, 1)
        return weighted_MLV.gather(2, index_ML1).squeeze(2).T

    shares_LM = of(chosen_L) - of(runner_up_L)
    margin_L = (blend_LV.gather(1, at_L1) - blend_LV.gather(1, runner_up_L[:, None])).squeeze(1)
    logprobs_ML = logits_MLV.log_softmax(-1).gather(2, at_L1.expand(len(weights_M), -1, -1)).squeeze(2)
    best_L = blend_LV.argmax(1)
    without_ML = torch.stack([(blend_LV - own_LV).argmax(1) for own_LV in weighted_MLV])
    pivotal_ML = without_ML != best_L
    return shares_LM, margin_L, runner_up_L, logprobs_ML.T, logits_MLV.argmax(-1).T, pivotal_ML.T


def _check(blend: Blend, hidden_MLH: Tensor, chosen_L: Tensor, part: tuple[Tensor, ...], kept_L: Tensor) -> None:
    """Check that the shares add up to the margin of the very logits that are decoded."""
    decoder, _ = on_one_base(blend.experts)
    row_L = torch.arange(len(chosen_L), device=chosen_L.device)
    weights_LM = blend.weights_WM.to(chosen_L.device).expand(len(chosen_L), -1)
    logits_LV = blend.mixing.logits(hidden_MLH, row_L, weights_LM, decoder.backbone.head)
    decoded_L = logits_LV[row_L, chosen_L].double() - logits_LV[row_L, part[2]].double()
    off_L = (part[0].sum(1) - decoded_L).abs() / (1 + decoded_L.abs())
    if (off_L[kept_L] > TOLERANCE.get(logits_LV.dtype, 0.25)).any():
        raise UserError(
            "--explain: the logits of this blend are no weighted sum of its experts' logits; use emorl or mod"
        )
