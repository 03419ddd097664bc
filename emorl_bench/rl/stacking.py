"""Passes through the model: of one learner, or of several in one stack (docs/decisions/stacked_updates.md).

A pass changes no state, so it can be repeated in parts where memory does not suffice (`rl.fitting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from emorl_bench.core.types import Metrics
from emorl_bench.policies.adapter_policy import token_logprobs
from emorl_bench.policies.together import concatenated, hidden_together

if TYPE_CHECKING:
    from emorl_bench.rl.learner import AdapterLearner
    from emorl_bench.rl.update import Batch

Gradients = list[tuple[torch.nn.Parameter, Tensor]]


@dataclass(frozen=True)
class Pass:
    """A micro-batch, some rows of a minibatch, on its way through one learner's model.

    ``last``: it completes the minibatch, so that the optimiser steps after it.
    """

    learner: AdapterLearner[Any, Any]
    minibatch: Batch
    rows: list[int]
    last: bool

    @cached_property
    def part(self) -> Batch:
        """The rows of the micro-batch."""
        return self.minibatch.rows(self.rows)


def gradients(passes: Sequence[Pass]) -> list[tuple[Metrics, Gradients]]:
    """Forward, loss and backward: for each pass the metrics of its loss, and the gradients of what it trains.

    The chain rule is applied in two parts. First, each loss is differentiated by its own slice of the hidden states
    only, so that the logits of one learner at a time are in memory. Second, one backward pass through the stacked model
    starts from these gradients. This is exact: the backward pass computes the gradient of the sum of all losses, and no
    adapter affects the hidden states of another learner, so each adapter gets the gradient of its own loss.
    """
    policies = [one.learner.policy for one in passes]
    hidden_MBTH = hidden_together(policies, [one.part.rollout for one in passes])
    slope_MBTH = torch.zeros_like(hidden_MBTH)
    found: list[tuple[Metrics, Gradients]] = []
    for m, one in enumerate(passes):
        leaf_BTH = hidden_MBTH[m, :, : one.part.rollout.response_ids_BT.shape[1]].detach().requires_grad_()
        # A view, because the hooks of the FLOP counter fail on leaf tensors.
        loss, metrics = one.learner.loss(leaf_BTH.view_as(leaf_BTH), one.part, one.minibatch)
        beside = one.learner.beside_adapter
        slope_BTH, *own = torch.autograd.grad(loss, [leaf_BTH, *beside])
        slope_MBTH[m, :, : slope_BTH.shape[1]] = slope_BTH
        found.append((metrics, list(zip(beside, own, strict=True))))
    trained = [list(policy.parameters()) for policy in policies]
    flat = [parameter for parameters in trained for parameter in parameters]
    below = iter(torch.autograd.grad(hidden_MBTH, flat, slope_MBTH, materialize_grads=True))
    for (_, mine), parameters in zip(found, trained, strict=True):
        mine += [(parameter, next(below)) for parameter in parameters]
    return found


@torch.no_grad()
def reference_logprobs(passes: Sequence[Pass]) -> list[Tensor]:
    """(B, T) log-probabilities under the base model, for each pass; a prompt that passes share is read once."""
    parts = [one.part.rollout for one in passes]
    hidden_RTH = passes[0].learner.policy.reference().hidden(concatenated(parts))
    found = []
    for one, part, hidden_BTH in zip(passes, parts, hidden_RTH.chunk(len(parts)), strict=True):
        found.append(token_logprobs(one.learner.policy, hidden_BTH[:, : part.response_ids_BT.shape[1]], part))
    return found
