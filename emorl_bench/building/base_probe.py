"""What an untrained base of `reflections` says: its gold grades, and how often it samples what the best answer has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from emorl_bench.assets.world.best import answers_and_grades
from emorl_bench.assets.world.grades import OBJECTIVES, golds
from emorl_bench.assets.world.judge import read
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Sampling
from emorl_bench.policies.bank import AdapterBank, AdapterPolicy
from emorl_bench.policies.decode import Decoder
from emorl_bench.policies.loading import ModelSource, load_backbone
from emorl_bench.policies.lora import AdapterSettings

FAMILIES = {"tiny_t5": "seq2seq", "tiny_gpt2": "causal"}
MOST_WORDS, SAMPLES = 23, 8  # a policy says 24 tokens, of which the last ends the answer
NEARLY = 0.95  # of the best answer's utility is as good as it


@dataclass(frozen=True)
class Probe:
    """Shares are of sampled answers at temperature 1."""

    greedy: tuple[float, ...]  # mean gold grades by objective
    sampled: tuple[float, ...]
    distinct: float  # greedy answers that differ, divided by prompts
    unparsed: float  # share with a sentence that the world cannot write
    qualities: dict[str, float]  # share whose grade is that of the best answer at the uniform preference, or higher
    together: float  # share that is nearly worth the best answer


def base_policy(name: str, directory: Path) -> AdapterPolicy:
    backbone = load_backbone(
        ModelSource(FAMILIES[name], str(directory)), AdapterSettings(), torch.device("cpu"), torch.float32
    )
    return AdapterBank(Decoder(backbone, Ledger(flops_every=0)), 0).new_policy("base").reference()


def probe(policy: AdapterPolicy, prompts: Sequence[str]) -> Probe:
    examples = [Example(str(i), prompt) for i, prompt in enumerate(prompts)]
    greedy = policy.generate(examples, Sampling(MOST_WORDS + 1, 0.0), stream(0, "probe"))
    sampled = policy.generate(examples, Sampling(MOST_WORDS + 1, 1.0, SAMPLES), stream(0, "probe"))
    asked = [example.prompt for example in sampled.examples]
    grades_BK = np.array(golds(asked, sampled.responses))
    best_BK = np.array([_best(prompt) for prompt in asked])
    readings = [read(*text) for text in zip(asked, sampled.responses, strict=True)]
    return Probe(
        greedy=tuple(np.mean(golds(prompts, greedy.responses), axis=0)),
        sampled=tuple(grades_BK.mean(0)),
        distinct=len(set(greedy.responses)) / len(prompts),
        unparsed=float(np.mean([reading.known < 1 for reading in readings])),
        qualities=dict(zip(OBJECTIVES, (grades_BK >= best_BK - 1e-9).mean(0).tolist(), strict=True)),
        together=float((grades_BK.mean(1) >= NEARLY * best_BK.mean(1)).mean()),
    )


def _best(prompt: str) -> np.ndarray:
    grades_NK = answers_and_grades(prompt, MOST_WORDS)[1]
    best_K: np.ndarray = grades_NK[grades_NK.mean(1).argmax()]
    return best_K
