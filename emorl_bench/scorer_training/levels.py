"""Learning ordered levels of texts. Two levels are a classifier; true against exchanged pairs is a case of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emorl_bench.core.seeds import seed_for
from emorl_bench.scorer_training import metrics as m
from emorl_bench.scorer_training.losses import cumulative
from emorl_bench.scorer_training.nets import Text, scores
from emorl_bench.scorer_training.study import TextBatch, Verdict, bucketed


@dataclass(frozen=True)
class Graded:
    """A text, its level (0 and up) and the group that it is resampled with."""

    text: Text
    level: int
    group: str


@dataclass(frozen=True)
class Levels:
    """`Subject` over graded texts.

    ``balance``: a row of a level with share p has the weight p ** -balance in the loss, so that rare levels count. 0
    leaves the shares as they are, and the probabilities calibrated.
    """

    train: Sequence[Graded]
    report: Sequence[Graded]
    levels: int
    balance: float = 0.0

    @property
    def outputs(self) -> int:
        """One logit for each level above 0."""
        return self.levels - 1

    @property
    def units(self) -> int:
        """Rows of an epoch."""
        return len(self.train)

    def batches(self, size: int, rng: random.Random) -> Iterator[TextBatch]:
        """See `Subject.batches`."""
        rows = self.epoch(rng)
        share = {level: n / len(rows) for level, n in Counter(row.level for row in rows).items()}
        for indices in bucketed([sum(map(len, row.text)) for row in rows], size, rng):
            yield self._batch([rows[i] for i in indices], share)

    def _batch(self, rows: Sequence[Graded], share: dict[int, float]) -> TextBatch:
        level_B = torch.tensor([row.level for row in rows])
        weight_B = torch.tensor([share[row.level] ** -self.balance for row in rows])

        def loss(logits_BO: Tensor) -> Tensor:
            return cumulative(logits_BO, level_B.to(logits_BO.device), weight_B.to(logits_BO.device))

        return TextBatch([row.text for row in rows], loss)

    def epoch(self, rng: random.Random) -> Sequence[Graded]:
        """The rows of one epoch."""
        return self.train

    def report_texts(self) -> Sequence[Text]:
        """See `Subject.report_texts`."""
        return [row.text for row in self.report]

    def judge(self, logits_NO: Tensor) -> Verdict:
        """Accuracy, F1, rank correlations, order of pairs, mean scores and calibration of the report texts."""
        above_NO = torch.sigmoid(logits_NO.double()).numpy()  # P(level > k)
        score_N = scores(logits_NO.double()).numpy()
        level_N = np.array([row.level for row in self.report])
        groups = [row.group for row in self.report]
        length_N = np.array([m.words(row.text[1]) for row in self.report], dtype=np.float64)
        predicted_N = _likeliest(above_NO)
        right_N = (predicted_N == level_N).astype(np.float64)
        most = Counter(row.level for row in self.report).most_common(1)[0][1]
        found = {
            "accuracy": m.interval(m.mean_of(right_N), groups),
            "accuracy of the commonest level": {"value": most / len(groups), "n": len(groups)},
            "macro F1": m.interval(m.macro_f1(predicted_N, level_N, self.levels), groups),
        }
        for name, statistic in m.rank_correlations(score_N, level_N).items():
            found[name] = m.interval(statistic, groups)
        near_NN = np.abs(length_N[:, None] - length_N[None, :]) <= m.NEAR_WORDS
        for name, values_N, near in (
            ("pairs in order", score_N, None),
            ("pairs in order at matched length", score_N, near_NN),
            ("pairs in order by length alone", length_N, None),
        ):
            statistic, pairs = m.concordance(values_N, level_N, near)
            found[name] = m.interval(statistic, groups, pairs)
        for level in range(self.levels):
            rows = np.flatnonzero(level_N == level)
            found[f"mean score of level {level}"] = m.interval(m.mean_of(score_N[rows]), [groups[i] for i in rows])
        above = level_N[:, None] > np.arange(self.outputs)
        calibration = m.reliability(above_NO.ravel(), above.ravel().astype(np.float64))
        return Verdict(found, {"of": "the probabilities of more than each level"} | calibration, len(set(groups)))


@dataclass(frozen=True)
class Shuffled(Levels):
    """True and exchanged pairs as two levels.

    Level 1 is a true (prompt, response). Level 0 is a prompt with another prompt's response, drawn again in every
    epoch.

    ``train`` and ``report`` hold true pairs. The kind of a pair (its corpus) is the part of its group before ``:``.
    Responses are exchanged within a kind, so that neither style nor length reveals them.
    """

    @property
    def units(self) -> int:
        """Rows of an epoch: true and exchanged pairs."""
        return 2 * len(self.train)

    def epoch(self, rng: random.Random) -> Sequence[Graded]:
        """True pairs, and exchanged ones that are drawn anew."""
        return [*self.train, *shuffled(self.train, rng)]


def with_shuffled(report: Sequence[Graded]) -> list[Graded]:
    """True pairs, and one fixed exchange of their responses."""
    return [*report, *shuffled(report, random.Random(seed_for(0, "shuffled")))]


def shuffled(rows: Sequence[Graded], rng: random.Random) -> list[Graded]:
    """Each row's prompt with the response of a row of another group of its kind. Dropped where there is none."""
    kinds: dict[str, list[Graded]] = {}
    for row in rows:
        kinds.setdefault(row.group.partition(":")[0], []).append(row)
    found = []
    for members in kinds.values():
        for row in members:
            others = [other for other in rng.sample(members, min(4, len(members))) if other.group != row.group]
            if others:
                found.append(Graded((row.text[0], others[0].text[1]), 0, row.group))
    return found


def _likeliest(above_NO: m.Floats) -> m.Ints:
    """The level with the largest probability P(level = k) = P(> k - 1) - P(> k)."""
    ones, zeros = np.ones((len(above_NO), 1)), np.zeros((len(above_NO), 1))
    likeliest_N: m.Ints = np.argmax(-np.diff(np.hstack([ones, above_NO, zeros]), axis=1), axis=1)
    return likeliest_N
