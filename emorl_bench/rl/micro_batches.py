"""The one place where a rollout's rows are divided: among ranks, and into parts of similar length (little padding).

A loss that is summed over rows or tokens and divided by the count of the whole batch has a gradient that does not
depend on the cut.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Forward, Policy
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.types import Rollout
from emorl_bench.policies.bank import token_logprobs


def micro_batches(
    rollout: Rollout, size: int | None, rows: Sequence[int] | None = None, *, ranks: Ranks = ALONE
) -> list[list[int]]:
    """This rank's part of ``rows`` (``None``: all) by response length, cut into parts of ``size`` (``None``: one).

    The longest come first: where memory does not suffice, that shows at once.

    Raises:
        UserError: the rows are fewer than the ranks, or uneven where ranks go in step.
    """
    lengths = rollout.response_mask_BT.sum(1).tolist()
    order = sorted(range(len(lengths)) if rows is None else rows, key=lambda row: -lengths[row])
    if len(order) < ranks.count or (ranks.in_step and len(order) % ranks.count):
        raise UserError(
            f"{len(order)} rows of an update among {ranks.count} processes: budget.training.batch_prompts times "
            "samples_per_prompt (by update.minibatches) must be at least their number, and its multiple where "
            "hardware.shard_base=true"
        )
    order = order[ranks.index :: ranks.count]
    size = size or len(order)
    return [order[low : low + size] for low in range(0, len(order), size)]


def reference_logprobs(policy: Policy, rollout: Rollout, size: int | None) -> Generator[Forward, Any, Tensor]:
    """(B, T) log-probabilities of the rollout under the base model, 0 where masked."""
    return (yield from forced_logprobs(policy, rollout, size, reference=True))


def forced_logprobs(
    policy: Policy, rollout: Rollout, size: int | None, *, reference: bool = False
) -> Generator[Forward, Any, Tensor]:
    """(B, T) log-probabilities of the rollout, whoever spoke it, under the policy as it is now; no gradient."""
    logprobs_BT = torch.zeros_like(rollout.logprobs_BT)
    for picks in micro_batches(rollout, size, ranks=policy.ranks):
        part = rollout.rows(picks)
        hidden_BTH = yield Forward(part, reference=reference)
        with torch.no_grad():
            logprobs_BT[picks, : hidden_BTH.shape[1]] = token_logprobs(policy.logits(hidden_BTH), part).to(logprobs_BT)
    policy.ranks.sum_([logprobs_BT])  # every row is one rank's
    return logprobs_BT
