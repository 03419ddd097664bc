"""What the trained nets say of texts: loaded once per process and device, scored in batches, no gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from emorl_bench.assets.cache import asset_dir
from emorl_bench.assets.scorer_nets import CausalNet
from emorl_bench.assets.scorer_training import NETS, TWINS, encode, load_net
from emorl_bench.core.errors import UserError, did_you_mean

BATCH = 512
OBJECTIVES = ("reflection", "empathy", "fluency")
PERPLEXITY_CAP = 16.0


@dataclass(frozen=True)
class ScorerSet:
    """One set of scorers on one device."""

    tokenizer: PreTrainedTokenizerFast
    nets: dict[str, nn.Module]


def classify(
    twin: str, objective: str, device: torch.device | str, prompts: Sequence[str], responses: Sequence[str]
) -> Tensor:
    """Probability (B,) under one classifier, on the CPU."""
    loaded, scores = scorer_set(twin, str(device)), []
    for at in range(0, len(responses), BATCH):
        prompt_BS = encode(loaded.tokenizer, list(prompts[at : at + BATCH])).to(device)
        response_BT = encode(loaded.tokenizer, list(responses[at : at + BATCH])).to(device)
        with torch.no_grad():
            score_B = torch.sigmoid(loaded.nets[objective](prompt_BS, response_BT)).float()
        # silence is no answer, whatever a net makes of it
        said_B = (response_BT != loaded.tokenizer.pad_token_id).any(1)
        scores.append((score_B * said_B).cpu())
    return torch.cat(scores) if scores else torch.zeros(0)


def perplexity(twin: str, device: torch.device | str, responses: Sequence[str]) -> Tensor:
    """exp of the mean negative log-likelihood per token (B,), end token included, on the CPU."""
    loaded, values = scorer_set(twin, str(device)), []
    language_model = cast(CausalNet, loaded.nets["fluency"])
    for at in range(0, len(responses), BATCH):
        response_BT = encode(loaded.tokenizer, list(responses[at : at + BATCH]), end=True).to(device)
        with torch.no_grad():
            values.append(language_model.nll(response_BT).exp().float().cpu())
    return torch.cat(values) if values else torch.zeros(0)


def fluency(twin: str, device: torch.device | str, responses: Sequence[str], cap: float = PERPLEXITY_CAP) -> Tensor:
    """Perplexity on a logarithmic line, 1 at the lowest there is, 0 from ``cap`` on: clip(1 - ln ppl / ln cap)."""
    return (1.0 - perplexity(twin, device, responses).log() / math.log(cap)).clamp(0.0, 1.0)


def all_scores(twin: str, prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
    """Scores (B, K) on the CPU, in the order of `OBJECTIVES`."""
    classified = [classify(twin, name, "cpu", prompts, responses) for name in OBJECTIVES[:2]]
    return torch.stack([*classified, fluency(twin, "cpu", responses)], dim=1)


@lru_cache(maxsize=4)
def scorer_set(twin: str, device: str) -> ScorerSet:
    if twin not in TWINS:
        raise UserError(f"scorer twin={twin!r} is unknown{did_you_mean(twin, TWINS)}")
    directory = asset_dir(f"scorers/{twin}")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    return ScorerSet(tokenizer, {name: load_net(directory, name).to(device) for name in NETS})
