"""How reward heads learn: every head has its own order of the data, and each text is read once for all heads.

A shared encoder reads each text once in an epoch, whatever the number of heads. k blocks of prompts are read together.
Every head steps through the blocks one by one in its own order. Then the encoder takes one step along the sum of the
gradients of all heads. In the full ensemble, every encoder goes through all prompts in its own order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from emorl_bench.core.errors import UserError
from emorl_bench.core.seeds import seed_for
from emorl_bench.progress import ProgressBar
from emorl_bench.scorer_training.loop import CLIP_NORM, WARM_UP, WEIGHT_DECAY
from emorl_bench.scorer_training.preference_heads import RewardHeads, inputs_of
from emorl_bench.scorer_training.settings import Settings
from emorl_bench.scorer_training.study import Subject, TextBatch


def fit(net: RewardHeads, tokenizer: Any, subject: Subject, settings: Settings, label: str) -> list[float]:
    """Train every encoder with its heads, in place.

    Returns:
        The mean loss of each epoch over all heads.

    Raises:
        UserError: the loss is not finite.
    """
    members, blocks = len(net.encoders), net.heads[0].out_features
    steps = math.ceil(math.ceil(subject.units / settings.batch) / blocks) * settings.epochs
    losses = torch.zeros(members, settings.epochs)
    with ProgressBar(label, total=steps * members, unit="batches") as progress:
        for member in range(members):
            training = _Member(net, tokenizer, settings, member, steps)
            rng = random.Random(seed_for(settings.seed, "scorer", "batches", member))
            for epoch in range(settings.epochs):
                net.train()
                found = []
                batches = subject.batches(settings.batch, rng)
                while together := list(islice(batches, blocks)):
                    found.append(training.step(together))
                    progress.to(member * steps + training.done, f"loss {found[-1]:.3f}")
                losses[member, epoch] = sum(found) / len(found)
    net.eval()
    if not losses.isfinite().all():
        raise UserError(f"{label}: the loss is not finite; lower rate={settings.rate} or say dtype=float32")
    return losses.mean(0).tolist()


class _Member:
    """One encoder in training, with its heads."""

    def __init__(self, net: RewardHeads, tokenizer: Any, settings: Settings, member: int, steps: int) -> None:
        self.net, self.tokenizer, self.settings, self.member = net, tokenizer, settings, member
        self.head = net.heads[member]
        self.count = self.head.out_features
        self.orders = [random.Random(seed_for(settings.seed, "scorer", "order", member, k)) for k in range(self.count)]
        self.own = [p for p in net.encoders[member].parameters() if p.requires_grad]
        self.encoder = _Optimiser(self.own, settings.rate, steps) if self.own else None
        self.heads = _Optimiser(list(self.head.parameters()), settings.head_rate, steps * self.count)
        self.done = 0

    def step(self, blocks: Sequence[TextBatch]) -> float:
        """Read blocks of texts once. Every head takes one step for each block, and the encoder takes one step."""
        device = self.head.weight.device
        texts = [text for block in blocks for text in block.texts]
        inputs = {k: v.to(device) for k, v in inputs_of(self.tokenizer, texts, self.settings).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.dtype == "bfloat16"):
            features_BH = self.net.features(inputs, self.member)
        leaf_BH = features_BH.detach().requires_grad_()
        parts = torch.split(leaf_BH, [len(block.texts) for block in blocks])
        orders = [rng.sample(range(len(blocks)), len(blocks)) for rng in self.orders]
        total = 0.0
        for turn in range(len(blocks)):
            losses = []
            for k, order in enumerate(orders):
                rewards_B1 = F.linear(parts[order[turn]], self.head.weight[k : k + 1], self.head.bias[k : k + 1])
                losses.append(blocks[order[turn]].loss(rewards_B1))
            loss = torch.stack(losses).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            self.heads.step()
            total += loss.item() / len(blocks)
        if self.encoder is not None:
            features_BH.backward(leaf_BH.grad)  # type: ignore[no-untyped-call]
            self.encoder.step()
        self.done += 1
        return total


class _Optimiser:
    """AdamW whose learning rate rises and falls over the planned steps."""

    def __init__(self, parameters: list[nn.Parameter], rate: float, steps: int) -> None:
        self.parameters, self.left = parameters, max(steps, 2)
        self.adamw = torch.optim.AdamW(parameters, lr=rate, weight_decay=WEIGHT_DECAY)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.adamw, rate, total_steps=self.left, pct_start=WARM_UP, cycle_momentum=False
        )

    def step(self) -> None:
        nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self.adamw.step()
        self.adamw.zero_grad()
        self.left -= 1
        if self.left:
            self.schedule.step()
