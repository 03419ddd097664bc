"""Learning to rank responses to one prompt: PAIR's groups of five responses; the judge uses pairs of responses.

Responses to the same prompt differ in quality and in length, and the report separates the two. Beside the share of
pairs in the right order, it shows this share among pairs of matched length, and the share that is right if the longer
response always wins.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor

from emorl_bench.core.seeds import seed_for
from emorl_bench.scorer_training.losses import Pairs, bradley_terry_ranking, margin_ranking, pairs_of
from emorl_bench.scorer_training.metrics import NEAR_WORDS, interval, mean_of, reliability, wins, words
from emorl_bench.scorer_training.nets import Text, scores
from emorl_bench.scorer_training.study import TextBatch, Verdict, bucketed

KINDS = ("hq", "mq", "lq")
COMPARED = (("hq", "lq"), ("hq", "mismatch"), ("hq", "mq"), ("mq", "lq"))
MISMATCHES = 4  # responses to other prompts that a report prompt is judged with


@dataclass(frozen=True)
class ResponseGroup:
    """A prompt and its responses by quality, at least one of each."""

    prompt: str
    hq: tuple[str, ...]
    mq: tuple[str, ...]
    lq: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """A response to a report prompt: the number of the prompt, the kind of response, and the text."""

    group: int
    kind: str
    text: Text


@dataclass(frozen=True)
class Ranking:
    """`Subject` over groups. An epoch shows every prompt once.

    With ``whole`` it is shown with all its responses and two of other prompts, and each pair counts. Without it is
    shown with five responses as in the paper, [hq, mq, lq, lq, mismatch], drawn anew. ``bradley_terry`` is the weight
    of `bradley_terry_ranking` beside PAIR's loss.
    """

    train: Sequence[ResponseGroup]
    report: Sequence[ResponseGroup]
    whole: bool = False
    bradley_terry: float = 0.0
    outputs: int = 1

    @property
    def units(self) -> int:
        """Prompts of an epoch."""
        return len(self.train)

    def batches(self, size: int, rng: random.Random) -> Iterator[TextBatch]:
        """See `Subject.batches`."""
        for indices in bucketed([len(group.prompt) for group in self.train], size, rng):
            shown = [self._shown(i, rng) for i in indices]
            texts = [(self.train[i].prompt, text) for i, rows in zip(indices, shown, strict=True) for _, text in rows]
            yield TextBatch(texts, self._loss(pairs_of([[kind for kind, _ in rows] for rows in shown])))

    def _shown(self, number: int, rng: random.Random) -> list[tuple[str, str]]:
        """Kinds and texts of the responses that are shown for a prompt."""
        own = self.train[number]
        others = [self.train[(number + rng.randrange(1, len(self.train))) % len(self.train)] for _ in range(2)]
        mismatched = [("mismatch", rng.choice(other.hq)) for other in others]
        if self.whole:
            return [*((kind, text) for kind in KINDS for text in getattr(own, kind)), *mismatched]
        worst = rng.sample(own.lq, 2) if len(own.lq) > 1 else own.lq * 2
        drawn = [("hq", rng.choice(own.hq)), ("mq", rng.choice(own.mq)), *(("lq", text) for text in worst)]
        return [*drawn, mismatched[0]]

    def _loss(self, pairs: Pairs) -> Callable[[Tensor], Tensor]:
        def loss(logits_BO: Tensor) -> Tensor:
            there = Pairs(*(getattr(pairs, field.name).to(logits_BO.device) for field in fields(pairs)))
            value_B = logits_BO[:, 0]
            total = margin_ranking(torch.sigmoid(value_B), there)
            weight = self.bradley_terry
            return total + weight * bradley_terry_ranking(value_B, there) if weight else total

        return loss

    @cached_property
    def items(self) -> list[Item]:
        """Every response to the report prompts, and good responses to other prompts. The same at every call."""
        found = []
        for number, group in enumerate(self.report):
            for kind in KINDS:
                found += [Item(number, kind, (group.prompt, response)) for response in getattr(group, kind)]
            rng = random.Random(seed_for(0, "mismatch", group.prompt))
            others = [g for g in self.report if g is not group]
            picked = [rng.choice(g.hq) for g in rng.sample(others, min(MISMATCHES, len(others)))]
            found += [Item(number, "mismatch", (group.prompt, response)) for response in picked]
        return found

    def report_texts(self) -> Sequence[Text]:
        """See `Subject.report_texts`."""
        return [item.text for item in self.items]

    def judge(self, logits_NO: Tensor) -> Verdict:
        """Share of pairs in the right order by kind, mean scores, and calibration of the report texts."""
        score_N = scores(logits_NO).double().numpy()
        length_N = np.array([words(item.text[1]) for item in self.items], dtype=np.float64)
        metrics = {}
        for better, worse in COMPARED:
            better_P, worse_P = self._pairs(better, worse)
            prompt_P = [self.items[i].group for i in better_P]
            won_P = wins(score_N[better_P], score_N[worse_P])
            longer_P = wins(length_N[better_P], length_N[worse_P])
            near_P = np.abs(length_N[better_P] - length_N[worse_P]) <= NEAR_WORDS
            name = f"{better}>{worse}"
            metrics[name] = interval(mean_of(won_P), prompt_P)
            metrics[f"{name} at matched length"] = interval(
                mean_of(won_P[near_P]), [prompt for prompt, near in zip(prompt_P, near_P, strict=True) if near]
            )
            metrics[f"{name} by length alone"] = interval(mean_of(longer_P), prompt_P)
        kinds = np.array([item.kind for item in self.items])
        for kind in (*KINDS, "mismatch"):
            rows = np.flatnonzero(kinds == kind)
            metrics[f"mean score of {kind}"] = interval(mean_of(score_N[rows]), [self.items[i].group for i in rows])
        graded = kinds != "mq"
        calibration = reliability(score_N[graded], (kinds[graded] == "hq").astype(np.float64))
        return Verdict(
            metrics, {"of": "the score as a probability of hq among hq, lq, mismatch"} | calibration, len(self.report)
        )

    def _pairs(self, better: str, worse: str) -> tuple[list[int], list[int]]:
        """Indices of the items to compare: all pairs within a prompt."""
        by_kind: dict[tuple[int, str], list[int]] = {}
        for row, item in enumerate(self.items):
            by_kind.setdefault((item.group, item.kind), []).append(row)
        found = [
            pair
            for number in range(len(self.report))
            for pair in product(by_kind.get((number, better), ()), by_kind.get((number, worse), ()))
        ]
        return [pair[0] for pair in found], [pair[1] for pair in found]
