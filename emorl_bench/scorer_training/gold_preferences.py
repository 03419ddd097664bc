"""Preferences of a gold scorer, for studies of over-optimisation: the base model's answers, compared by gold.

As in Gao et al., arXiv 2210.10760, a scorer stands for the humans. It says once which of two answers is better. Some of
its labels are flipped (a quarter in Coste et al., arXiv 2310.02743). Whatever learns from them sees the order of the
answers, never a score. Both answers to a prompt are sampled from the untrained base model.

Gold is here the mean of the embedded world's three grades, computed from its grammar. The proxies, which are small
networks, are not judged by another network.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from emorl_bench.assets.shipped import FAMILIES, asset_dir
from emorl_bench.assets.world.grades import golds
from emorl_bench.assets.world.statements import sample_statements
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import seed_for, stream
from emorl_bench.core.types import Example, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy
from emorl_bench.scorer_training.preferences import Choices, with_noise

NEW_TOKENS, TEMPERATURE = 24, 1.0  # the embedded task's own


@dataclass(frozen=True)
class GoldPairs:
    """Which preferences: whose answers, how many pairs, and the share of wrong labels."""

    answers: str
    pairs: int
    label_noise: float
    seed: int

    def labelled(self) -> list[Choices]:
        """The pairs with noise. The answers do not depend on the noise."""
        rng = random.Random(seed_for(self.seed, "gold", "noise"))
        clean = _choices(self.answers, self.pairs, seed_for(self.seed, "gold", "train"))
        return with_noise(clean, self.label_noise, rng)

    def judged_on(self, pairs: int) -> list[Choices]:
        """Other pairs, without noise: how often does a proxy agree with gold?"""
        return _choices(self.answers, pairs, seed_for(self.seed, "gold", "judge"))


def gold(prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
    """(B,) in [0, 1]: the mean of the true grades of reflection, empathy and fluency."""
    return torch.tensor(golds(prompts, responses)).mean(1)


@lru_cache(maxsize=8)  # proxies with different noise or form need the same answers
def _choices(answers: str, pairs: int, seed: int) -> list[Choices]:
    """Pairs of answers. Where both have the same value there is no preference, and the prompt is left out."""
    prompts = [statement.text for statement in sample_statements("train", pairs, seed)]
    policy = _base(answers)
    rollout = policy.generate(
        [Example("", prompt) for prompt in prompts], Sampling(NEW_TOKENS, TEMPERATURE, 2), stream(seed, "answers")
    )
    gold_P2 = gold([example.prompt for example in rollout.examples], rollout.responses).view(-1, 2)
    found = []
    for i, (prompt, (first, second)) in enumerate(zip(prompts, gold_P2.tolist(), strict=True)):
        said = rollout.responses[2 * i : 2 * i + 2]
        if first != second:
            found.append(Choices(prompt, (said[0], said[1]), ((0, 1) if first > second else (1, 0),)))
    return found


@lru_cache(maxsize=2)
def _base(answers: str) -> AdapterPolicy:
    source = ModelSource(FAMILIES[answers], str(asset_dir(f"reflections/{answers}")))
    backbone = load_backbone(source, AdapterSettings(rank=1, alpha=1.0), torch.device("cpu"), torch.float32)
    return AdapterBank(Decoder(backbone, Ledger(flops_every=0), 2048), seed=0).new_policy("base").reference()
