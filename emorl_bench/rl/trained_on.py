"""What of a rollout is trained on: the sampled ids with the end token; or, to compare, what EMORL's release takes.

The release decodes the answers, tokenizes the text again and leaves out the end token's log-probability (2505.02579,
released code). The ids of the text may differ from the sampled ones, so the gradient is that of other sequences. And no
token teaches an answer where to end.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from emorl_bench.core.protocols import Policy
from emorl_bench.core.types import Rollout


def retokenized(policy: Policy, rollout: Rollout) -> Rollout:
    """The same answers with the ids that the tokenizer gives their text, and an end token where one was sampled.

    Their log-probabilities were never computed, so they are NaN. A row that was masked everywhere stays so.
    """
    ended_B = (policy.is_eos(rollout.response_ids_BT) & rollout.response_mask_BT).any(1)
    ids_BT, mask_BT = policy.tokenize_responses(rollout.responses)
    mask_BT = mask_BT & rollout.response_mask_BT.any(1)[:, None]
    mask_BT = mask_BT & (ended_B[:, None] | ~policy.is_eos(ids_BT))
    unknown_BT = torch.full(ids_BT.shape, torch.nan, device=ids_BT.device)
    return replace(
        rollout, response_ids_BT=ids_BT, response_mask_BT=mask_BT, logprobs_BT=unknown_BT, importance_BT=None
    )


def without_end(policy: Policy, rollout: Rollout) -> Rollout:
    """The same rollout, with its end tokens masked."""
    mask_BT = rollout.response_mask_BT & ~policy.is_eos(rollout.response_ids_BT)
    return replace(rollout, response_mask_BT=mask_BT, logprobs_BT=rollout.logprobs_BT.masked_fill(~mask_BT, 0.0))
