"""Policies that are a table of logits, whose gradients are known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from emorl_bench.core.memory import Memory
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.types import Rollout


class Tabular:
    """pi(token | position) from a free table of logits (T, V): gradients are known in closed form."""

    def __init__(self, logits_TV: Tensor) -> None:
        self.table = torch.nn.Parameter(logits_TV.clone())

    def logprobs_of(self, ids_BT: Tensor) -> Tensor:
        return self.table.log_softmax(-1)[torch.arange(ids_BT.shape[1]), ids_BT]


class TabularPolicy(Tabular):
    """`Tabular` with what a learner asks of a policy: its hidden states are the table's logits."""

    ranks: Ranks = ALONE
    memory = Memory()
    correction = None

    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.table]

    def hidden(self, rollout: Rollout) -> Tensor:
        return self.table.expand(len(rollout.examples), -1, -1)

    def logits(self, hidden_BTH: Tensor) -> Tensor:
        return hidden_BTH
