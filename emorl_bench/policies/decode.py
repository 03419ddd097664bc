"""The only decode loop in the project: single policies, merges and blends, greedy and sampled, all go through it.

Sampling inverts the distribution function at a uniform number drawn beforehand for each (step, prompt, sample). So the
split into batches changes nothing, and weight vectors that are decoded together answer the same prompt with the same
random numbers (common random numbers: their difference is not noise).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.policies.backbone import Backbone
from emorl_bench.policies.lora import Adapter, active

Head = Callable[[Tensor], Tensor]


class Readout(Protocol):
    """How the hidden states of N adapters become next-token logits.

    Each adapter runs ``copies`` blocks of P*G rows; what comes out is ``blocks`` of them, one per weight vector.
    """

    @property
    def copies(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    def __call__(self, hidden_NRH: Tensor, head: Head) -> Tensor: ...  # (blocks*P*G, V)


@dataclass(frozen=True)
class SideBySide:
    """Every adapter speaks for itself."""

    blocks: int = 1
    copies: int = 1

    def __call__(self, hidden_NRH: Tensor, head: Head) -> Tensor:
        return head(hidden_NRH.flatten(0, 1))


@dataclass(frozen=True)
class Decoder:
    """Decodes with any adapters of one base model; ``max_rows`` bounds the rows that run at once."""

    backbone: Backbone
    ledger: Ledger
    max_rows: int = 4096

    @torch.no_grad()
    def __call__(
        self,
        adapters: Sequence[Adapter],
        examples: Sequence[Example],
        sampling: Sampling,
        rng: torch.Generator,
        readout: Readout,
    ) -> Rollout:
        """Answer P prompts; the rollout's rows are weight-major: ``readout.blocks`` blocks of P*G."""
        n, g = max(len(adapters), 1), sampling.samples_per_prompt
        prompts = [self.backbone.prompt_ids(e.context) for e in examples]
        uniforms_TPG = torch.rand(sampling.max_new_tokens, len(examples), g, generator=rng)
        chunk = max(1, self.max_rows // (n * readout.copies * g))
        parts = []
        for low in range(0, len(examples), chunk):
            rows = slice(low, low + chunk)
            with self.ledger.metered("decode") as call, active(self.backbone.layers, adapters):
                parts.append(self._chunk(n, prompts[rows], sampling, uniforms_TPG[:, rows], readout))
                call.tokens = int(parts[-1].mask.sum())
        return self._assemble(parts, examples, sampling, readout.blocks)

    def _chunk(
        self, n: int, prompts: Sequence[Sequence[int]], sampling: Sampling, uniforms_TPG: Tensor, readout: Readout
    ) -> _Tokens:
        backbone, p, g = self.backbone, len(prompts), sampling.samples_per_prompt
        state, hidden = backbone.start(prompts, n)
        fan_out = _fan_out(n, readout.copies, p, g).to(hidden.device)
        if len(fan_out) > len(hidden):
            state, hidden = backbone.select(state, fan_out), hidden[fan_out]
        uniforms_TO = uniforms_TPG.flatten(1).repeat(1, readout.blocks).to(hidden.device)
        alive_O = torch.ones(readout.blocks * p * g, dtype=torch.bool, device=hidden.device)
        ids: list[Tensor] = []
        masks: list[Tensor] = []
        logps: list[Tensor] = []
        for t in range(sampling.max_new_tokens):
            if t:
                # R output rows feed all N adapters; N*R output rows feed one each.
                tokens_NR = ids[-1].view(-1, readout.copies * p * g).expand(n, -1)
                hidden = backbone.step(state, tokens_NR.flatten())
            logits_OV = readout(hidden.view(n, -1, hidden.shape[-1]), backbone.head)
            picked_O, logp_O = pick(logits_OV, sampling.temperature, uniforms_TO[t])
            ids.append(torch.where(alive_O, picked_O, backbone.pad))
            masks.append(alive_O)
            logps.append(logp_O * alive_O)
            alive_O = alive_O & (picked_O != backbone.eos)
            if not alive_O.any():
                break
        return _Tokens(torch.stack(ids, 1), torch.stack(masks, 1), torch.stack(logps, 1))

    def _assemble(
        self, parts: Sequence[_Tokens], examples: Sequence[Example], sampling: Sampling, blocks: int
    ) -> Rollout:
        width, g = max(p.ids.shape[1] for p in parts), sampling.samples_per_prompt

        def joined(tensors: Sequence[Tensor], fill: float) -> Tensor:
            grown = [pad(t, (0, width - t.shape[1]), value=fill).view(blocks, -1, width) for t in tensors]
            return torch.cat(grown, dim=1).flatten(0, 1)

        ids_BT = joined([p.ids for p in parts], self.backbone.pad)
        mask_BT = joined([p.mask for p in parts], False)
        rows = tuple(e for _ in range(blocks) for e in examples for _ in range(g))
        texts = self.backbone.response_texts(ids_BT, mask_BT)
        temperature = sampling.temperature or 1.0
        rollout = Rollout(rows, texts, ids_BT, mask_BT, joined([p.logprobs for p in parts], 0.0), g, temperature)
        cost = self.ledger.current
        cost.prompts += blocks * len({e.id for e in examples})
        cost.samples += len(rows)
        cost.generated_tokens += rollout.tokens
        return rollout


@dataclass(frozen=True)
class _Tokens:
    ids: Tensor
    mask: Tensor
    logprobs: Tensor


def pick(logits_BV: Tensor, temperature: float, uniforms_B: Tensor) -> tuple[Tensor, Tensor]:
    """The next token of each row and its log-probability; greedy rows are rated at temperature 1."""
    logits_BV = logits_BV if logits_BV.dtype == torch.float64 else logits_BV.float()
    logps_BV = (logits_BV / (temperature or 1.0)).log_softmax(-1)
    if temperature == 0:
        picked_B = logps_BV.argmax(-1)
    else:
        cumulative_BV = logps_BV.exp().cumsum(-1)
        threshold_B1 = (uniforms_B.to(cumulative_BV) * cumulative_BV[:, -1])[:, None]
        picked_B = (cumulative_BV <= threshold_B1).sum(-1).clamp_max(logits_BV.shape[-1] - 1)
    return picked_B, logps_BV.gather(-1, picked_B[:, None]).squeeze(-1)


def _fan_out(adapters: int, copies: int, prompts: int, samples: int) -> Tensor:
    """Indices that turn (adapter, prompt) rows into (adapter, copy, prompt, sample) rows."""
    rows = torch.arange(adapters * prompts).view(adapters, 1, prompts, 1)
    return rows.expand(adapters, copies, prompts, samples).flatten()
