"""Pairs of responses to one prompt with the better one known: reward heads learn from them and are judged by them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from emorl_bench.scorer_training.metrics import interval, mean_of, reliability, wins
from emorl_bench.scorer_training.nets import Text
from emorl_bench.scorer_training.preference_heads import STATISTICS, bradley_terry, statistics
from emorl_bench.scorer_training.study import TextBatch, Verdict, bucketed


@dataclass(frozen=True)
class Choices:
    """The responses to one prompt, and pairs of them by index: the better one, the worse one."""

    prompt: str
    responses: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def texts(self) -> list[Text]:
        """(prompt, response) for each response."""
        return [(self.prompt, response) for response in self.responses]


def every_pair(prompt: str, better: Sequence[str], worse: Sequence[str]) -> Choices:
    """Each of the better responses against each of the worse ones."""
    pairs = [(i, len(better) + j) for i in range(len(better)) for j in range(len(worse))]
    return Choices(prompt, (*better, *worse), tuple(pairs))


def with_noise(choices: Sequence[Choices], share: float, rng: random.Random) -> list[Choices]:
    """The choices with this share of all pairs flipped; pairs are drawn without regard to the prompt."""
    places = [(c, p) for c, choice in enumerate(choices) for p in range(len(choice.pairs))]
    turned = set(rng.sample(places, round(share * len(places))))
    return [
        replace(choice, pairs=tuple(pair[::-1] if (c, p) in turned else pair for p, pair in enumerate(choice.pairs)))
        for c, choice in enumerate(choices)
    ]


@dataclass(frozen=True)
class Preferences:
    """`Subject` over prompts with their pairs. An epoch shows every prompt once, with all its pairs."""

    train: Sequence[Choices]
    report: Sequence[Choices]
    outputs: int
    """Number of heads."""
    uncertainty_weight: float

    @property
    def units(self) -> int:
        """Prompts of an epoch."""
        return len(self.train)

    def batches(self, size: int, rng: random.Random) -> Iterator[TextBatch]:
        """See `Subject.batches`.

        The loss is the mean over heads of their Bradley-Terry losses over the pairs of the batch.
        """
        for indices in bucketed([len(choice.prompt) for choice in self.train], size, rng):
            chosen = [self.train[i] for i in indices]
            better_P, worse_P, _ = _rows(chosen)
            yield TextBatch([t for choice in chosen for t in choice.texts], partial(_loss, better_P, worse_P))

    def train_texts(self) -> list[Text]:
        """The training texts."""
        return [text for choice in self.train for text in choice.texts]

    def report_texts(self) -> Sequence[Text]:
        """See `Subject.report_texts`."""
        return [text for choice in self.report for text in choice.texts]

    def judge(self, logits_NO: Tensor) -> Verdict:
        """Share of pairs in the right order, by statistic and by head.

        ``logits_NO`` are the heads' rewards of the report texts, (N, K).
        """
        better_P, worse_P, prompt_P = _rows(self.report)
        merged = {name: statistics(logits_NO, name, self.uncertainty_weight) for name in STATISTICS}
        merged |= {f"head {k}": logits_NO[:, k] for k in range(self.outputs)}
        metrics = {}
        for name, value_N in merged.items():
            reward_N = value_N.double().numpy()
            metrics[f"hq>lq, {name}"] = interval(mean_of(wins(reward_N[better_P], reward_N[worse_P])), prompt_P)
        spread_N = logits_NO.double().std(1, correction=0).numpy()
        prompts_N = [number for number, choice in enumerate(self.report) for _ in choice.responses]
        metrics["standard deviation of heads"] = interval(mean_of(spread_N), prompts_N)
        mean_N = merged["mean"].double()
        surer_P = torch.sigmoid(mean_N[better_P] - mean_N[worse_P]).numpy()
        told = np.concatenate([surer_P, 1 - surer_P]), np.repeat([1.0, 0.0], len(surer_P))
        calibration = {"of": "sigmoid of the difference of mean rewards as a probability"} | reliability(*told)
        return Verdict(metrics, calibration, len(self.report))


def _loss(better_P: Sequence[int], worse_P: Sequence[int], rewards_BK: Tensor) -> Tensor:
    return bradley_terry(rewards_BK, better_P, worse_P).mean()


def _rows(choices: Sequence[Choices]) -> tuple[list[int], list[int], list[int]]:
    """For every pair: rows of its better and worse response among all texts, and the number of its prompt."""
    better, worse, prompt, start = [], [], [], 0
    for number, choice in enumerate(choices):
        better += [start + i for i, _ in choice.pairs]
        worse += [start + j for _, j in choice.pairs]
        prompt += [number] * len(choice.pairs)
        start += len(choice.responses)
    return better, worse, prompt
