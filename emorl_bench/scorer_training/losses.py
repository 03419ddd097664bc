"""What the networks are trained to minimise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class PairKind:
    """Responses of kind ``better`` should score above those of kind ``worse``, by ``margin``.

    ``share``: the weight of such pairs in the Bradley-Terry loss, relative to hq > lq.
    """

    better: str
    worse: str
    margin: float
    share: float


PAIR_KINDS = (
    PairKind("hq", "mq", 0.5, 1 / 16),
    PairKind("mq", "lq", 0.5, 1 / 8),
    PairKind("hq", "lq", 1.0, 1.0),
    PairKind("hq", "mismatch", 1.0, 3 / 4),
    PairKind("mq", "mismatch", 0.5, 1 / 16),
)
"""The margins are PAIR's (Min et al., EMNLP 2022). The shares are ours. The more the loss separates responses to this
prompt from good responses to another one, the less it separates good responses from poor ones (results/scorers).
"""


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows to compare.

    ``better_E`` should be above ``worse_E``. ``margin_E`` is for the margin loss, ``share_E`` for the Bradley-Terry
    loss. ``weight_E`` turns sums into means.
    """

    better_E: Tensor
    worse_E: Tensor
    margin_E: Tensor
    share_E: Tensor
    weight_E: Tensor


def pairs_of(prompts: Sequence[Sequence[str]]) -> Pairs:
    """All pairs of `PAIR_KINDS` within each prompt. ``prompts`` names the kinds of its responses, row after row.

    A kind of pair has the same weight in every prompt that has it, however many responses there are.
    """
    found: list[tuple[int, int, float, float, float]] = []
    start = 0
    for kinds in prompts:
        rows = {kind: [start + i for i, row in enumerate(kinds) if row == kind] for kind in kinds}
        for own in PAIR_KINDS:
            compared = list(product(rows.get(own.better, ()), rows.get(own.worse, ())))
            weight = 1 / (max(len(compared), 1) * len(prompts))
            found += [(i, j, own.margin, own.share, weight) for i, j in compared]
        start += len(kinds)
    return Pairs(*map(torch.tensor, zip(*found, strict=True)))


def margin_ranking(scores_B: Tensor, pairs: Pairs) -> Tensor:
    """PAIR's loss of scores in [0, 1], a scalar: sum over kinds of pairs of mean max(0, d - (better - worse)).

    Each response is compared with others of its own prompt. The released code repeats rows so that those of different
    prompts are compared.
    """
    difference_E = scores_B[pairs.better_E] - scores_B[pairs.worse_E]
    return (F.relu(pairs.margin_E - difference_E) * pairs.weight_E).sum()


def bradley_terry_ranking(values_B: Tensor, pairs: Pairs) -> Tensor:
    """The Bradley-Terry loss of values before the sigmoid, on the same pairs, weighted by their shares: a scalar.

    It has a gradient where the margin loss has almost none: for a response that is far on the wrong side, where the
    sigmoid is flat.
    """
    difference_E = values_B[pairs.better_E] - values_B[pairs.worse_E]
    return (F.softplus(-difference_E) * pairs.share_E * pairs.weight_E).sum()


def cumulative(logits_BO: Tensor, level_B: Tensor, weight_B: Tensor) -> Tensor:
    """Cross-entropy of P(level > k) for all k, weighted by row: a scalar. ``level_B`` is 0 .. O."""
    above_BO = (level_B[:, None] > torch.arange(logits_BO.shape[1], device=level_B.device)).to(logits_BO.dtype)
    loss_BO = F.binary_cross_entropy_with_logits(logits_BO, above_BO, reduction="none")
    return (loss_BO.mean(1) * weight_B).sum() / weight_B.sum()
