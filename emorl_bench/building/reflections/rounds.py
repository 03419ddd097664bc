"""Adversarial rounds: policies are trained against the scorers, and the scorers learn from the policies' answers.

A scorer makes most errors on texts that were written to maximise it, and only a policy writes these. In each round,
policies of several rules and preferences are trained on the training situations against the current scorers. The judge
labels their answers. Both sets of scorers learn from these and from damaged forms of them, each from its own half of
the situations. This is done once, when the assets are built (``emorl-assets build --from-code``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from emorl_bench.assets.ngrams import NGrams
from emorl_bench.assets.reader import Reader, encode
from emorl_bench.assets.shipped import FAMILIES
from emorl_bench.assets.tokenizer import build_tokenizer
from emorl_bench.assets.world.grades import OBJECTIVES
from emorl_bench.assets.world.judge import statement_of
from emorl_bench.assets.world.statements import half_of, sample_statements
from emorl_bench.building.fitting import ProgressCallback
from emorl_bench.building.reflections.scorer_texts import Text, policy_texts, world_texts
from emorl_bench.building.reflections.scorer_training import HALVES, WIDTH, calibrate, fit_ngrams, fit_reader, labels
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Bench, Runtime, UpdateRule
from emorl_bench.core.types import Budget, Example, Rollout, Sampling, Training
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.loop import train
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.scst import Scst
from emorl_bench.rl.weighting import fixed_weights
from emorl_bench.tracking.silent import Silent

ROUNDS, SEED = 2, 11
# Texts of the world in the first and in each later round; damaged texts of policies.
WORLD_TEXTS, DAMAGED_TEXTS = (24_000, 10_000), 8_000
# Prompts of a policy's training, answers to each prompt, and how many of the last answers have their true value shown.
PROMPTS, SAMPLES, LAST = 768, 4, 256
PROCESSES = 2
UNIFORM = (1 / 3, 1 / 3, 1 / 3)


@dataclass(frozen=True)
class Attack:
    """One policy of a round: its update rule and the weights of its reward."""

    rule: UpdateRule
    weights: tuple[float, ...]


ATTACKS = (
    Attack(Scst(learning_rate=2e-3, kl_coefficient=0.0), UNIFORM),
    Attack(Scst(learning_rate=1e-3, kl_coefficient=0.0), UNIFORM),
    Attack(Ppo(learning_rate=2e-3, value_learning_rate=2e-3, epochs=2, kl_coefficient=0.02), UNIFORM),
    Attack(Grpo(learning_rate=1e-3, epochs=2, kl_coefficient=0.0), UNIFORM),
    Attack(Scst(learning_rate=1e-3, kl_coefficient=0.0), (1.0, 0.0, 0.0)),
    Attack(Scst(learning_rate=1e-3, kl_coefficient=0.0), (0.0, 1.0, 0.0)),
    Attack(Scst(learning_rate=1e-3, kl_coefficient=0.0), (0.0, 0.0, 1.0)),
    Attack(Scst(learning_rate=1e-3, kl_coefficient=0.0), (0.6, 0.4, 0.0)),
)


@dataclass
class Scorers:
    """Both sets of scorers after some rounds, and all answers of policies so far."""

    tokenizer: PreTrainedTokenizerFast
    reader: Reader
    ngrams: NGrams
    said: dict[Text, None] = field(default_factory=dict)  # in order, each once

    @classmethod
    def new(cls) -> Scorers:
        """Untrained scorers."""
        torch.manual_seed(SEED)
        tokenizer = build_tokenizer()
        return cls(tokenizer, Reader(len(tokenizer), WIDTH), NGrams())

    def score(self, rollout: Rollout) -> Tensor:
        """(B, K) grades by the reader, as the task's scorers give them."""
        prompts, responses = [e.prompt for e in rollout.examples], rollout.responses
        with torch.no_grad():
            prompt_BS, response_BT = encode(self.tokenizer, prompts), encode(self.tokenizer, responses)
            silent_B1 = torch.tensor([[not response] for response in responses])
            return torch.sigmoid(self.reader(prompt_BS, response_BT)).masked_fill(silent_B1, 0.0)

    def said_in(self, half: int) -> list[Text]:
        """Answers of policies to statements of one half of the situations."""
        return [text for text in self.said if half_of(statement_of(text[0]).situation) == half]


def build_scorers(bases: Mapping[str, Path], progress: ProgressCallback) -> Scorers:
    """Both sets of scorers, hardened against policies of the base models in ``bases`` (name -> directory)."""
    scorers = Scorers.new()
    # spawned, not forked: the parent holds threads of torch
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for number in range(ROUNDS + 1):
            learn(scorers, number, progress)
            asked = [(name, index) for index in range(len(ATTACKS)) for name in bases] if number < ROUNDS else []
            pending = [
                pool.submit(attacked, scorers, name, bases[name], ATTACKS[index], 100 * number + index)
                for name, index in asked
            ]
            for (name, index), future in zip(asked, pending, strict=True):
                texts, reward = future.result()
                scorers.said |= dict.fromkeys(texts)
                truth = float(labels(texts[-LAST:]).mean(0) @ torch.tensor(ATTACKS[index].weights))
                progress(f"round {number + 1}: {name}, attack {index}: reward {reward:.3f}, in truth {truth:.3f}")
    return scorers


def learn(scorers: Scorers, number: int, progress: ProgressCallback) -> None:
    """Train both sets on new texts of the world and on all answers of policies."""
    first = number == 0
    texts = {twin: _texts(scorers, half, number) for twin, half in HALVES.items()}
    fit_reader(
        scorers.reader,
        scorers.tokenizer,
        texts["train"],
        epochs=6 if first else 4,
        rate=3e-3 if first else 2e-3,
        seed=SEED + number,
    )
    scorers.ngrams = NGrams()  # cheap to train, so it starts from zero each time
    known = _texts(scorers, HALVES["held_out"], 0) if number else []
    learnt, kept = _divided([*known, *texts["held_out"]])
    fit_ngrams(scorers.ngrams, learnt, epochs=6, rate=1e-2, seed=SEED + number)
    calibrate(scorers.ngrams, kept)
    progress(f"round {number}: reader from {len(texts['train'])} texts, n-grams from {len(learnt)}")


def _texts(scorers: Scorers, half: int, number: int) -> list[Text]:
    said = scorers.said_in(half)
    seed = SEED + 10 * number + half
    return world_texts(WORLD_TEXTS[min(number, 1)], half, seed) + said + policy_texts(said, DAMAGED_TEXTS, seed)


def _divided(texts: Sequence[Text]) -> tuple[list[Text], list[Text]]:
    """Nine tenths of the texts to learn from, and one tenth to calibrate on."""
    return [t for i, t in enumerate(texts) if i % 10], list(texts[::10])


def attacked(scorers: Scorers, name: str, directory: Path, attack: Attack, seed: int) -> tuple[list[Text], float]:
    """Train one policy against the scorers.

    Returns:
        All answers that it sampled in training, and the mean reward of its last step.
    """
    torch.set_num_threads(1)
    said: list[Text] = []
    rewards: list[float] = []

    def score(rollout: Rollout) -> Tensor:
        scores_BK = scorers.score(rollout)
        said.extend(zip((e.prompt for e in rollout.examples), rollout.responses, strict=True))
        rewards.append(float(scores_BK.double().mean(0) @ torch.tensor(attack.weights, dtype=torch.float64)))
        return scores_BK

    source = ModelSource(FAMILIES[name], str(directory))
    backbone = load_backbone(source, AdapterSettings(), torch.device("cpu"), torch.float32)
    bank = AdapterBank(Decoder(backbone, ledger := Ledger(flops_every=0)), seed)
    prompts = [Example(str(i), s.text) for i, s in enumerate(sample_statements("train", 2000, seed))]
    with TemporaryDirectory() as scratch:
        bench = Bench(
            train=prompts[48:],
            select=prompts[:32],
            objectives=OBJECTIVES,
            score=score,
            new_policy=bank.new_policy,
            update=attack.rule,
            reward="linear",
            training=Training(validate_every=16, checkpoint_every=10_000),
            budget=Budget(samples=SAMPLES * PROMPTS),  # of training alone
            sampling=Sampling(24, samples_per_prompt=SAMPLES),
            tracker=Silent(),
            ledger=ledger,
            seed=seed,
            dir=Path(scratch),
            runtime=Runtime(experts_dir=Path(scratch), fingerprint=""),
        )
        weighting = fixed_weights(attack.weights, OBJECTIVES, "linear")
        train(bench, bank.new_policy("policy"), weighting, name="policy", budget=bench.budget)
    return said, rewards[-1]
