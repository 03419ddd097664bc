"""Greedy tokens of a large vocabulary: bfloat16 finds the few tokens that can be the largest, float32 decides.

On a CPU the head is half of a decode's time and a product in bfloat16 takes a quarter to a half of one in float32. With
u = 2^-9, the unit roundoff of bfloat16, rounding both factors moves the logit h.w_j by at most (2u + u^2)|h||w_j|
(Cauchy and Schwarz; sums are made in float32), and rounding the result by u|z_j|. A token that lies more than twice
that below the largest of the rounded logits is not the largest of the exact ones. Where more than a few come into
question, as with models whose logits all lie far from zero, the full product is made, then and from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

GROUPS = 128  # tokens whose numbers differ by a multiple of it are looked at as one: the fastest maximum there is
FEW = 16  # candidates of an output, on average
LEAST_WEIGHTS = 1 << 20  # of a head that is worth it
ROUNDOFF = 2.0**-9


@dataclass
class Screen:
    """A linear head without bias, and its rounded copy; ``pays`` until it has once not paid."""

    weight_VH: Tensor
    rounded_XH: Tensor  # as many rows as make whole groups
    bias_X: Tensor | None  # that keeps the rows beyond the vocabulary from being the largest
    longest: float  # of the rows' norms
    pays: bool = True

    @classmethod
    def of(cls, head: Any) -> Screen | None:
        """None where it cannot be exact or would not be faster."""
        if not isinstance(head, nn.Linear) or head.bias is not None or head.weight.numel() < LEAST_WEIGHTS:
            return None
        if head.weight.device.type != "cpu" or head.weight.dtype != torch.float32 or not _fast_bfloat16():
            return None
        weight_VH = head.weight.detach()
        beyond = -len(weight_VH) % GROUPS
        rounded_XH = pad(weight_VH.bfloat16(), (0, 0, 0, beyond))
        bias_X = pad(torch.zeros(len(weight_VH)), (0, beyond), value=-torch.inf).bfloat16() if beyond else None
        return cls(weight_VH, rounded_XH, bias_X, float(weight_VH.norm(dim=1).max()))

    def largest(self, states_LH: Tensor) -> Tensor | None:
        """(L,) the token of the largest logit for each hidden state, the first of equals; None where it did not pay."""
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
        logit_C = (states_LH[row_C] * self.weight_VH[token_C]).sum(1)
        best_L = torch.full_like(states_LH[:, 0], -torch.inf).scatter_reduce_(0, row_C, logit_C, "amax")
        token_C = torch.where(logit_C == best_L[row_C], token_C, len(self.weight_VH))
        nobody_L = torch.full_like(best_L, len(self.weight_VH), dtype=torch.long)
        return nobody_L.scatter_reduce_(0, row_C, token_C, "amin").clamp_max(len(self.weight_VH) - 1)  # NaN has none


def _fast_bfloat16() -> bool:
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch have none
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
