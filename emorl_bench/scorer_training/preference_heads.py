"""Several rewards for one objective, learned from pairs: linear heads on a shared encoder, or an encoder for each head.

Heads of one reward differ where the data do not determine them. So a policy that exploits an error of one head is
stopped by the others (Coste et al., arXiv 2310.02743). With a shared encoder F, r_i = H_i(F(x)), and every head has a
Bradley-Terry loss (arXiv 2406.01013). This takes M + k L parameters, where k complete encoders have k (M + L).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.scorer_training.encoders import freeze
from emorl_bench.scorer_training.nets import Text, fixed_inputs, tokenise
from emorl_bench.scorer_training.settings import Settings

STATISTICS = ("mean", "worst", "uncertainty")
READ_ROWS = 64  # texts that `read_near` reads at once


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Settings):
    """``heads`` rewards on one encoder, or with ``full`` on an encoder each.

    ``batch`` is the number of prompts of a block.

    ``label_noise`` is the share of training pairs that are flipped. ``statistic`` combines the heads into one number
    (see `statistics`).
    """

    heads: int
    full: bool
    label_noise: float
    statistic: str
    uncertainty_weight: float

    def check(self, owner: str) -> None:
        """See `Settings.check`."""
        super().check(owner)
        if self.heads < 2:
            raise UserError(
                f"scorer {owner}: heads={self.heads}: give 2 or more, one alone has nobody to disagree with"
            )
        if not 0 <= self.label_noise < 0.5:
            raise UserError(f"scorer {owner}: label_noise={self.label_noise}: give a share from 0 to below 0.5")
        if self.statistic not in STATISTICS:
            hint = did_you_mean(self.statistic, STATISTICS)
            raise UserError(f"scorer {owner}: statistic={self.statistic}: unknown{hint}")
        if self.uncertainty_weight < 0:
            raise UserError(f"scorer {owner}: uncertainty_weight={self.uncertainty_weight}: give 0 or more")

    def trained_by(self) -> dict[str, Any]:
        """The settings that decide the weights: without the statistic, which is computed from the same heads."""
        read = ("statistic", "uncertainty_weight")
        return {key: value for key, value in super().trained_by().items() if key not in read}


def bradley_terry(rewards_BK: Tensor, better_P: Sequence[int], worse_P: Sequence[int]) -> Tensor:
    """(K,) mean of ``-ln sigmoid(r_better - r_worse)`` over pairs of rows, for every head (Bradley & Terry 1952)."""
    return -F.logsigmoid(rewards_BK[list(better_P)] - rewards_BK[list(worse_P)]).mean(0)


def statistics(rewards_BK: Tensor, statistic: str, uncertainty_weight: float) -> Tensor:
    """(B,) statistic of the heads' rewards: ``mean``, ``worst`` (WCO) or ``uncertainty`` (UWO).

    Coste et al., arXiv 2310.02743. The worst is the minimum; UWO is mean - weight x variance. The variance is that of
    the population, divided by the number of heads, both to choose among answers and as a reward in training. The
    release has this in its best-of-n, and the variance of the sample, n / (n - 1) times as large, in its PPO.
    """
    if statistic == "worst":
        return rewards_BK.amin(1)
    if statistic == "uncertainty":
        return rewards_BK.mean(1) - uncertainty_weight * rewards_BK.var(1, correction=0)
    return rewards_BK.mean(1)


class RewardHeads(nn.Module):
    """Encoders with linear heads: one encoder with all heads, or as many encoders as heads.

    A Bradley-Terry loss does not determine each head's zero point and scale. ``centre_K`` and ``scale_K``, mean and
    standard deviation over the training texts, make the heads comparable.
    """

    centre_K: Tensor
    scale_K: Tensor

    def __init__(self, encoders: Sequence[Any], pooling: str, heads: int, freeze_layers: int = 0) -> None:
        """New heads on encoders, of which the first ``freeze_layers`` blocks are frozen."""
        super().__init__()
        for encoder in encoders:
            freeze(encoder, freeze_layers)
        width = encoders[0].config.hidden_size
        self.pooling = pooling
        self.encoders = nn.ModuleList(encoders)
        self.linear = nn.ModuleList(nn.Linear(width, heads // len(encoders)) for _ in encoders)
        self.register_buffer("centre_K", torch.zeros(heads))
        self.register_buffer("scale_K", torch.ones(heads))

    @property
    def encoder(self) -> Any:
        """The first encoder; all have the same architecture."""
        return self.encoders[0]

    @property
    def heads(self) -> list[nn.Linear]:
        """The heads of each encoder."""
        return [cast(nn.Linear, linear) for linear in self.linear]

    def features(self, inputs: dict[str, Tensor], member: int) -> Tensor:
        """(B, H) float32 features of texts from one encoder."""
        states_BTH: Tensor = self.encoders[member](**inputs).last_hidden_state.float()
        if self.pooling == "cls":
            return states_BTH[:, 0]
        weights_BT1 = inputs["attention_mask"][..., None].float()
        return (states_BTH * weights_BT1).sum(1) / weights_BT1.sum(1)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, K) float32 rewards in standard deviations of the training texts."""
        raw = [head(self.features(inputs, member)) for member, head in enumerate(self.heads)]
        return (torch.cat(raw, dim=1) - self.centre_K) / self.scale_K

    def learned(self) -> dict[str, Tensor]:
        """Name -> what training changes, the standardisation included."""
        found: dict[str, Tensor] = {name: p for name, p in self.named_parameters() if p.requires_grad}
        return found | dict(self.named_buffers(recurse=False))


@torch.no_grad()
def standardise(net: RewardHeads, tokenizer: Any, texts: Sequence[Text], settings: Settings) -> None:
    """Set every head's zero point and scale from the texts that it has learned from."""
    net.centre_K.zero_()
    net.scale_K.fill_(1.0)
    raw_NK = read_near(net, tokenizer, texts, settings)
    net.centre_K.copy_(raw_NK.mean(0))
    net.scale_K.copy_(raw_NK.std(0, correction=0).clamp_min(1e-6))


@torch.no_grad()
def read(
    net: RewardHeads, tokenizer: Any, texts: Sequence[Text], settings: Settings, block_bytes: int | None = None
) -> Tensor:
    """(N, K) float32 rewards on the CPU, in the order of the texts. Those of a text depend on no other text.

    ``block_bytes``: see `nets.fixed_inputs`.
    """
    rewards_NK = torch.zeros(len(texts), len(net.centre_K))
    if texts:
        batches = fixed_inputs(tokenizer, texts, settings.reads, settings.max_tokens, net.encoder, block_bytes)
        for indices, inputs in batches:
            rewards_NK[indices] = net(inputs)[: len(indices)].float().cpu()
    return rewards_NK


@torch.no_grad()
def read_near(net: RewardHeads, tokenizer: Any, texts: Sequence[Text], settings: Settings) -> Tensor:
    """(N, K) float32 rewards as `read` has, up to rounding, in batches of texts with similar length."""
    device = net.centre_K.device
    order = sorted(range(len(texts)), key=lambda i: sum(map(len, texts[i])))
    rewards_NK = torch.zeros(len(texts), len(net.centre_K))
    for indices in _chunks(order):
        inputs = inputs_of(tokenizer, [texts[i] for i in indices], settings)
        rewards_NK[indices] = net({k: v.to(device) for k, v in inputs.items()}).float().cpu()
    return rewards_NK


def inputs_of(tokenizer: Any, texts: Sequence[Text], settings: Settings) -> dict[str, Tensor]:
    """Tensors (B, T) from the tokenizer, by the settings."""
    return tokenise(tokenizer, texts, settings.reads, settings.max_tokens)


def _chunks(order: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(order), READ_ROWS):
        yield list(order[start : start + READ_ROWS])
