"""Is this the better response, and do several judges agree? Reward heads trained on PAIR's pairs.

A statistic of the heads' rewards, in standard deviations of the training texts, goes through a sigmoid, so scores are
in [0, 1]. Mean, worst case (WCO) and uncertainty-weighted (UWO) are after Coste et al., arXiv 2310.02743; the shared
encoder is after arXiv 2406.01013. The heads estimate one objective with different errors; they are not K objectives.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Cost
from emorl_bench.core.seeds import seed_for
from emorl_bench.core.types import Example
from emorl_bench.data import pair
from emorl_bench.data.sources import Source
from emorl_bench.scorer_training import preference_artefacts
from emorl_bench.scorer_training.preference_artefacts import Heads
from emorl_bench.scorer_training.preference_heads import HeadSettings, RewardHeads, read, statistics
from emorl_bench.scorer_training.preferences import Choices, Preferences, every_pair, with_noise
from emorl_bench.scorer_training.shapes import exact_sigmoid
from emorl_bench.scorer_training.study import Study
from emorl_bench.scorers.trained import Trained, judged


@dataclass(frozen=True, kw_only=True)
class RewardEnsemble(Trained, HeadSettings):
    """High-quality over low-quality responses to one prompt (PAIR), judged by ``heads`` rewards."""

    file: str = pair.FILE
    name: str = "reward_ensemble"

    def study(self) -> Study:
        """PAIR's pairs of a high and a low response.

        Raises:
            UserError: the corpus is missing or broken, or a part has fewer than two prompts with pairs.
        """
        division = pair.parts(pair.load(Source(self.data_dir, self.file)))
        train, report = _choices(division.parts[self.part()]), _choices(judged(division.parts))
        if min(len(train), len(report)) < 2:
            raise UserError(f"task.data_dir: {self.file}: too few prompts with high and low responses to learn from")
        rng = random.Random(seed_for(self.seed, "label_noise", self.twin))
        noisy = with_noise(train, self.label_noise, rng)
        subject = Preferences(noisy, report, self.heads, self.uncertainty_weight)
        return Study(subject, self.described("PAIR", division))

    def train(self, *, afresh: bool = False) -> Path:
        """See `Trained.train`."""
        return preference_artefacts.ensure(_heads(self), afresh=afresh)

    def costs(self) -> Mapping[str, Cost]:
        """Parameters, bytes and training seconds of both forms, shared and full.

        The seconds of a form that was not trained here are 0.
        """
        found = preference_artefacts.forms(_heads(self))
        return {
            form: Cost(
                parameters=int(numbers["parameters"] or 0),
                peak_bytes=int(numbers["bytes"] or 0),
                wall_seconds=float(numbers["train_seconds"] or 0.0),
            )
            for form, numbers in found.items()
        }

    @torch.no_grad()
    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1]. An empty response scores 0."""
        said = [i for i, response in enumerate(responses) if response.strip()]
        score_B = torch.zeros(len(responses))
        if said:
            score_B[said] = exact_sigmoid(self.merged(self.rewards(examples, responses).double())[said])
        return score_B

    def rewards(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B, heads) rewards in standard deviations of the training texts."""
        net, tokenizer = _net(self)
        texts = [(e.prompt, r) for e, r in zip(examples, responses, strict=True)]
        return read(net, tokenizer, texts, self, self.block_bytes)

    def merged(self, rewards_BK: Tensor) -> Tensor:
        """(B,) the statistic of the heads' rewards."""
        return statistics(rewards_BK, self.statistic, self.uncertainty_weight)


def _choices(rows: Sequence[pair.Row]) -> list[Choices]:
    return [every_pair(row.prompt, row.hq, row.lq) for row in rows if row.hq and row.lq]


def _heads(scorer: RewardEnsemble) -> Heads:
    order, study = scorer._order(), _study(scorer._plain())
    settings, subject = order.settings, study.subject
    assert isinstance(settings, RewardEnsemble)
    assert isinstance(subject, Preferences)
    return Heads(order, settings, subject, study.data)


@lru_cache(maxsize=8)
def _study(scorer: RewardEnsemble) -> Study:
    return scorer.study()


@lru_cache(maxsize=4)
def _net(scorer: RewardEnsemble) -> tuple[RewardHeads, Any]:
    return preference_artefacts.load(_heads(scorer))
