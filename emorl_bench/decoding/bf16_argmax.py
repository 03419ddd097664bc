"""Greedy tokens of a large vocabulary: bfloat16 finds the few tokens that can be the largest, float32 decides.

On a CPU the head takes half of a decode's time, and a product in bfloat16 takes a quarter to a half of the time of one
in float32. The result is exact because the rounding error is bounded. Let u = 2^-9 be the unit roundoff of bfloat16.
Rounding both factors changes the logit h.w_j by at most (2u + u^2)|h||w_j| (Cauchy and Schwarz; sums are made in
float32), and rounding the result changes it by at most u|z_j|. So a token that lies more than twice that bound below
the largest rounded logit cannot have the largest exact logit. The logits of all other tokens, the candidates, are
computed in float32. If there are many candidates, as for models whose logits all lie far from zero, this saves no
time: the full product is made, at this step and at all later ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

GROUPS = 128  # groups of tokens, by id modulo this number; the maximum of each group is found first
FEW = 16  # if an output has more groups with a candidate than this, on average, the search saves no time
LEAST_WEIGHTS = 1 << 20  # smaller heads are multiplied in float32
ROUNDOFF = 2.0**-9


@dataclass
class Bf16Argmax:
    """The argmax of a linear head without bias, by way of a copy of its weight in bfloat16.

    Attributes:
        weight_VH: the head's own weight, in float32.
        rounded_XH: the copy, with rows of zeros up to a multiple of ``GROUPS``.
        bias_X: minus infinity in these rows, and for ids without a token, so that none is the largest; None if there
            are none.
        longest: the largest norm of a row of the weight.
        pays: whether it saves time; false from the first call with too many candidates.
    """

    weight_VH: Tensor
    rounded_XH: Tensor
    bias_X: Tensor | None
    longest: float
    pays: bool = True

    @classmethod
    def of(cls, head: Any, without_token_V: Tensor | None = None) -> Bf16Argmax | None:
        """Prepare the argmax of a model's head; None where it would not be exact, or not faster.

        ``without_token_V``: the ids that may not be chosen (`Backbone.without_token`).
        """
        if not isinstance(head, nn.Linear) or head.bias is not None or head.weight.numel() < LEAST_WEIGHTS:
            return None
        if head.weight.device.type != "cpu" or head.weight.dtype != torch.float32 or not _fast_bfloat16():
            return None
        weight_VH = head.weight.detach()
        beyond = -len(weight_VH) % GROUPS
        rounded_XH = pad(weight_VH.bfloat16(), (0, 0, 0, beyond))
        bias_X = None
        if beyond or without_token_V is not None:
            bias_V = torch.zeros(len(weight_VH))
            if without_token_V is not None:
                bias_V.masked_fill_(without_token_V, -torch.inf)
            bias_X = pad(bias_V, (0, beyond), value=-torch.inf).bfloat16()
        return cls(weight_VH, rounded_XH, bias_X, float(weight_VH.norm(dim=1).max()))

    def argmax(self, states_LH: Tensor) -> Tensor | None:
        """(L,) id of the token with the largest logit for each hidden state, the first of equals.

        None if there were too many candidates: the caller then computes all logits, and ``pays`` is false.
        """
        # A group is looked into only if its largest rounded logit lies within the margin, so no candidate is missed.
        # 2.05 instead of 2 covers the terms in u^2 and the sums in float32. |best| is doubled, because the rounding
        # error of a candidate grows with its own logit, which may be larger than the best one in magnitude.
        logits_LXG = linear(states_LH.bfloat16(), self.rounded_XH, self.bias_X).unflatten(1, (-1, GROUPS))
        best_LG = logits_LXG.amax(1)
        best_L = best_LG.amax(1).float()
        margin_L = 2.05 * (2 * ROUNDOFF * self.longest * states_LH.norm(dim=1) + 2 * ROUNDOFF * best_L.abs())
        least_L1 = (best_L - margin_L)[:, None]
        row_N, group_N = (best_LG >= least_L1).nonzero(as_tuple=True)
        if len(row_N) > FEW * len(states_LH):
            self.pays = False
            return None
        of_group_NX = logits_LXG[row_N, :, group_N]
        index_C, place_C = (of_group_NX >= least_L1[row_N]).nonzero(as_tuple=True)
        return self._decided(states_LH, row_N[index_C], place_C * GROUPS + group_N[index_C])

    def _decided(self, states_LH: Tensor, row_C: Tensor, token_C: Tensor) -> Tensor:
        """(L,) the best of C candidates by their logits in float32; equal logits are decided by the smaller id."""
        logit_C = (states_LH[row_C] * self.weight_VH[token_C]).sum(1)
        best_L = torch.full_like(states_LH[:, 0], -torch.inf).scatter_reduce_(0, row_C, logit_C, "amax")
        token_C = torch.where(logit_C == best_L[row_C], token_C, len(self.weight_VH))
        nobody_L = torch.full_like(best_L, len(self.weight_VH), dtype=torch.long)
        return nobody_L.scatter_reduce_(0, row_C, token_C, "amin").clamp_max(len(self.weight_VH) - 1)  # a row of NaN


def _fast_bfloat16() -> bool:
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch have none
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
