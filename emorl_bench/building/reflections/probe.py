"""Answers of an untrained base model of `reflections`: their gold grades and their qualities.

The question is how often the model samples what the best answers have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from emorl_bench.assets.shipped import FAMILIES
from emorl_bench.assets.world.grades import EMPATHY, OBJECTIVES, REFLECTION, golds
from emorl_bench.assets.world.judge import read
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy

MOST_WORDS, SAMPLES = 23, 16  # an answer of a policy has 24 tokens, of which the last is the end token
# What every best answer at the uniform preference has: two details in a complex reflection, a warm sentence, no defect.
LEAST = (REFLECTION[2], EMPATHY[1])


@dataclass(frozen=True)
class Probe:
    """Measures of a base model. Shares are of sampled answers at temperature 1."""

    greedy: tuple[float, ...]
    """Mean gold grades by objective."""
    sampled: tuple[float, ...]
    """Mean gold grades by objective."""
    distinct: float
    """Different greedy answers divided by prompts."""
    unparsed: float
    """Share with a sentence that the world cannot write."""
    qualities: dict[str, float]
    """Quality that every best answer has -> share of answers with it."""
    together: float
    """Share of answers with all these qualities."""


def base_policy(name: str, directory: Path) -> AdapterPolicy:
    """A base model as a policy."""
    backbone = load_backbone(
        ModelSource(FAMILIES[name], str(directory)), AdapterSettings(), torch.device("cpu"), torch.float32
    )
    return AdapterBank(Decoder(backbone, Ledger(flops_every=0)), 0).new_policy("base").reference()


def probe(policy: AdapterPolicy, prompts: Sequence[str]) -> Probe:
    """Measure a base model on prompts."""
    examples = [Example(str(i), prompt) for i, prompt in enumerate(prompts)]
    greedy = policy.generate(examples, Sampling(MOST_WORDS + 1, 0.0), stream(0, "probe"))
    sampled = policy.generate(examples, Sampling(MOST_WORDS + 1, 1.0, SAMPLES), stream(0, "probe"))
    asked = [example.prompt for example in sampled.examples]
    grades_BK = np.array(golds(asked, sampled.responses))
    readings = [read(*text) for text in zip(asked, sampled.responses, strict=True)]
    plain_B = np.array([reading.plain == 1 for reading in readings])
    has_BK = np.column_stack([grades_BK[:, :2] >= LEAST, plain_B])
    return Probe(
        greedy=tuple(np.mean(golds(prompts, greedy.responses), axis=0).tolist()),
        sampled=tuple(grades_BK.mean(0).tolist()),
        distinct=len(set(greedy.responses)) / len(prompts),
        unparsed=float(np.mean([reading.known < 1 for reading in readings])),
        qualities=dict(zip(OBJECTIVES, has_BK.mean(0).tolist(), strict=True)),
        together=float(has_BK.all(1).mean()),
    )
