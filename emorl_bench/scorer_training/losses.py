"""What the nets are trained to minimise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

MARGINS = (
    ("hq", "mq", 0.5),
    ("mq", "lq", 0.5),
    ("hq", "lq", 1.0),
    ("hq", "mismatch", 1.0),
    ("mq", "mismatch", 0.5),
)
"""Better, worse, margin (Min et al., EMNLP 2022)."""


@dataclass(frozen=True)
class Pairs:
    """Rows to compare: ``better_E`` should be above ``worse_E`` by ``margin_E``; ``weight_E`` makes means of sums."""

    better_E: Tensor
    worse_E: Tensor
    margin_E: Tensor
    weight_E: Tensor


def pairs_of(prompts: Sequence[Sequence[str]]) -> Pairs:
    """All pairs of `MARGINS` within each prompt; ``prompts`` names the kinds of its responses, row after row.

    A kind of pair counts the same in every prompt that has it, however many responses there are.
    """
    found: list[tuple[int, int, float, float]] = []
    start = 0
    for kinds in prompts:
        rows = {kind: [start + i for i, own in enumerate(kinds) if own == kind] for kind in kinds}
        for better, worse, margin in MARGINS:
            compared = list(product(rows.get(better, ()), rows.get(worse, ())))
            found += [(i, j, margin, 1 / (len(compared) * len(prompts))) for i, j in compared]
        start += len(kinds)
    better_E, worse_E, margin_E, weight_E = map(torch.tensor, zip(*found, strict=True))
    return Pairs(better_E, worse_E, margin_E, weight_E)


def margin_ranking(scores_B: Tensor, pairs: Pairs) -> Tensor:
    """PAIR's loss of scores in [0, 1], a scalar: sum over kinds of pairs of mean max(0, d - (better - worse)).

    Each response meets its own prompt's others; the released code repeats rows so that those of different prompts meet.
    """
    difference_E = scores_B[pairs.better_E] - scores_B[pairs.worse_E]
    return (F.relu(pairs.margin_E - difference_E) * pairs.weight_E).sum()


def logistic_ranking(values_B: Tensor, pairs: Pairs) -> Tensor:
    """Bradley-Terry's loss of values before the sigmoid, on the same pairs, weighted by their margins: a scalar.

    It has a gradient where the margin loss has next to none: for a response that is far on the wrong side, whose score
    the sigmoid has flattened.
    """
    difference_E = values_B[pairs.better_E] - values_B[pairs.worse_E]
    return (F.softplus(-difference_E) * pairs.margin_E * pairs.weight_E).sum()


def cumulative(logits_BO: Tensor, level_B: Tensor, weight_B: Tensor) -> Tensor:
    """Cross-entropy of P(level > k) for all k, weighted by row: a scalar. ``level_B`` is 0 .. O."""
    above_BO = (level_B[:, None] > torch.arange(logits_BO.shape[1], device=level_B.device)).to(logits_BO.dtype)
    loss_BO = F.binary_cross_entropy_with_logits(logits_BO, above_BO, reduction="none")
    return (loss_BO.mean(1) * weight_B).sum() / weight_B.sum()
