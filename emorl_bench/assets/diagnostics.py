"""What the embedded task must be to make an experiment: measured on report situations, which no training has seen.

Here are the requirements that need no reinforcement learning; `runner.expert_checks` has the two that do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from emorl_bench.assets.cache import asset_dir
from emorl_bench.assets.scoring import OBJECTIVES, all_scores
from emorl_bench.assets.world.corpus import WARMTHS
from emorl_bench.assets.world.responses import DEFECTS, KINDS, respond
from emorl_bench.assets.world.statements import Statement, sample_statements
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Sampling
from emorl_bench.policies.bank import AdapterBank
from emorl_bench.policies.decode import Decoder
from emorl_bench.policies.loading import ModelSource, load_backbone
from emorl_bench.policies.lora import AdapterSettings

PAIRS, PROMPTS, SEED = 300, 192, 5
BASE_MODELS, TWINS = {"tiny_t5": "seq2seq", "tiny_gpt2": "causal"}, ("train", "held_out")
MAX_NEW_TOKENS = 24
TRIVIAL: dict[str, Callable[[str], str]] = {
    "copying the prompt": lambda prompt: prompt,
    "empty text": lambda prompt: "",
    "one word repeated": lambda prompt: " ".join(["you"] * 12),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement: what was measured and the closed range it must lie in."""

    name: str
    value: float
    low: float = 0.0
    high: float = 1.0

    @property
    def met(self) -> bool:
        return self.low <= self.value <= self.high

    @property
    def wanted(self) -> str:
        return f"{self.low:.2f} to {self.high:.2f}"


def all_checks() -> list[Check]:
    return [*accuracy_checks(), *base_checks(), *trivial_checks(), *agreement_checks()]


def contrasts(objective: str, statement: Statement, rng: random.Random) -> tuple[str, str]:
    """Two responses to one statement that differ in one quality, the better one first."""
    kind, warmth = rng.choice(tuple(KINDS)), rng.choice(WARMTHS)
    say = partial(respond, rng, statement)
    if objective == "reflection":
        better = say(rng.choice(("complex", "simple")), warmth)
        worse = say(rng.choice(("question", "advice", "confrontation")), warmth)
    elif objective == "empathy":
        better, worse = say(kind, "warm"), say(kind, "cold")
    else:
        better, worse = say(kind, warmth), say(kind, warmth, rng.choice(tuple(DEFECTS)))
    return better.text, worse.text


def accuracy_checks() -> list[Check]:
    """How often the better response of a pair gets the higher score."""
    statements, checks = sample_statements("report", PAIRS, SEED), []
    prompts = [s.text for s in statements]
    for k, objective in enumerate(OBJECTIVES):
        rng = random.Random(f"contrasts/{objective}")
        better, worse = zip(*(contrasts(objective, s, rng) for s in statements), strict=True)
        for twin in TWINS:
            gap_B = (all_scores(twin, prompts, better) - all_scores(twin, prompts, worse))[:, k]
            checks.append(Check(f"accuracy of {twin} {objective}", float((gap_B > 0).float().mean()), low=0.9))
    return checks


def base_answers(model: str, prompts: Sequence[str], sample: bool) -> Sequence[str]:
    """One answer to each prompt by the untrained base, greedy or sampled at temperature 1."""
    source = ModelSource(BASE_MODELS[model], str(asset_dir(f"reflections/{model}")))
    backbone = load_backbone(source, AdapterSettings(), torch.device("cpu"), torch.float32)
    base = AdapterBank(Decoder(backbone, Ledger()), SEED).new_policy("base").reference()
    examples = [Example(str(i), prompt) for i, prompt in enumerate(prompts)]
    return base.generate(examples, Sampling(MAX_NEW_TOKENS, float(sample)), stream(SEED)).responses


def base_scores(model: str, sample: bool) -> dict[str, Tensor]:
    prompts = [s.text for s in sample_statements("report", PROMPTS, SEED)]
    answers = base_answers(model, prompts, sample)
    return {twin: all_scores(twin, prompts, answers) for twin in TWINS}


def base_checks() -> list[Check]:
    """The base models leave room above and something to build on, sampled and greedy."""
    checks = []
    for model in BASE_MODELS:
        for decoding, sample in (("sampled", True), ("greedy", False)):
            mean_K = base_scores(model, sample)["train"].mean(0).tolist()
            names = (f"{model}, {decoding}: {objective}" for objective in OBJECTIVES)
            checks += [Check(name, mean, 0.15, 0.55) for name, mean in zip(names, mean_K, strict=True)]
    return checks


def trivial_checks() -> list[Check]:
    """Answers that are no answers score low on the mean."""
    prompts = [s.text for s in sample_statements("report", PROMPTS, SEED)]
    answers = {name: [answer(prompt) for prompt in prompts] for name, answer in TRIVIAL.items()}
    means = {name: float(all_scores("train", prompts, texts).mean()) for name, texts in answers.items()}
    return [Check(f"mean score of {name}", mean, high=0.35) for name, mean in means.items()]


def agreement_checks() -> list[Check]:
    """The held-out scorers judge the same qualities: correlation over a base model's sampled answers."""
    scores = base_scores("tiny_t5", sample=True)
    checks = []
    for k, objective in enumerate(OBJECTIVES):
        both = torch.stack([scores[twin][:, k] for twin in TWINS])
        checks.append(Check(f"train and held-out {objective} correlate", float(torch.corrcoef(both)[0, 1]), low=0.7))
    return checks
