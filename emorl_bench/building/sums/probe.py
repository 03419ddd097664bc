"""Answers of an untrained base model of `sums`, by level and style."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from emorl_bench.assets.shipped import FAMILIES
from emorl_bench.assets.sums.judge import LEGAL, best_answer, judge, words
from emorl_bench.assets.sums.prompts import Terms, draw_split, prompt_of
from emorl_bench.building.sums.habits import LARGEST, LEVELS
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy

PROMPTS, SAMPLES, SEED, MAX_NEW_TOKENS = 192, 20, 5, 28
Answers = list[tuple[Terms, str]]


@dataclass(frozen=True)
class Probe:
    """Greedy answers, one for each prompt, and samples at temperature 1, `SAMPLES` for each."""

    greedy: Answers
    sampled: Answers

    def mean(self, answers: Answers) -> Tensor:
        """(K,) mean scores."""
        return torch.tensor([judge(terms, said).scores() for terms, said in answers]).mean(0)

    def distinct(self) -> float:
        """Different greedy answers divided by prompts."""
        return len({said for _, said in self.greedy}) / len(self.greedy)

    def illegal(self) -> float:
        """Share of sampled answers outside the grammar."""
        return sum(LEGAL.fullmatch(" ".join(words(said))) is None for _, said in self.sampled) / len(self.sampled)

    def styles(self) -> dict[tuple[int, int], tuple[float, float, float]]:
        """(level, number of written steps) -> three shares.

        They are: the style's share of the level's samples, the share of these that are right, and the share of the
        level's samples that are the best answer of the style.
        """
        total = Counter(len(terms) for terms, _ in self.sampled)
        written, right, best = Counter[tuple[int, int]](), Counter[tuple[int, int]](), Counter[tuple[int, int]]()
        for terms, said in self.sampled:
            style = (len(terms), said.count(","))
            written[style] += 1
            right[style] += judge(terms, said).right == 1
            best[style] += said == best_answer(terms, style[1])
        known = [(level, steps) for level in LEVELS for steps in range(level)]
        of = {style: (max(1, total[style[0]]), max(1, written[style])) for style in known}
        return {s: (written[s] / level, right[s] / mine, best[s] / level) for s, (level, mine) in of.items()}


def probe(model: str, directory: Path) -> Probe:
    """Measure ``tiny_t5`` or ``tiny_gpt2`` in a directory."""
    source = ModelSource(FAMILIES[model], str(directory))
    backbone = load_backbone(source, AdapterSettings(), torch.device("cpu"), torch.float32)
    base = AdapterBank(Decoder(backbone, Ledger()), SEED).new_policy("base").reference()
    terms = draw_split("report", PROMPTS, SEED, LEVELS, LARGEST)
    return Probe(_answers(base, terms, 0.0, 1), _answers(base, terms, 1.0, SAMPLES))


def _answers(base: AdapterPolicy, terms: Sequence[Terms], temperature: float, samples: int) -> Answers:
    examples = [Example(str(i), prompt_of(row)) for i, row in enumerate(terms)]
    rollout = base.generate(examples, Sampling(MAX_NEW_TOKENS, temperature, samples), stream(SEED, "probe"))
    return [(terms[int(e.id)], said) for e, said in zip(rollout.examples, rollout.responses, strict=True)]
