"""May scorers run in bfloat16? Only if they rank responses as in float32.

Methods are compared by scores, and learners follow differences of scores: a changed order is another objective.
"""

from __future__ import annotations

from scipy.stats import spearmanr
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Rollout
from emorl_bench.scorers.panel import ScorerPanel

SAME_ORDER = 0.999  # Spearman's rank correlation


def check_bfloat16(exact: ScorerPanel, fast: ScorerPanel, rollout: Rollout) -> None:
    """Compare two panels of the same scorers on the same responses.

    Raises:
        UserError: the ranks of a scorer correlate by less than 0.999.
    """
    for name, correlation in zip(exact.objectives, rank_correlations(exact, fast, rollout), strict=True):
        if correlation < SAME_ORDER:
            raise UserError(
                f"hardware.scorer_dtype=bfloat16: scorer '{name}' orders {len(rollout.responses)} responses "
                f"differently than in float32 (rank correlation {correlation:.4f}, not {SAME_ORDER}); use float32"
            )


def rank_correlations(exact: ScorerPanel, fast: ScorerPanel, rollout: Rollout) -> list[float]:
    """Spearman's rank correlation of both panels' scores, for each objective."""
    pairs = zip(exact.score(rollout).T, fast.score(rollout).T, strict=True)
    return [_rank_correlation(ours_B, theirs_B) for ours_B, theirs_B in pairs]


def _rank_correlation(one_B: Tensor, other_B: Tensor) -> float:
    applicable_B = ~(one_B.isnan() | other_B.isnan())
    one_B, other_B = one_B[applicable_B], other_B[applicable_B]
    if one_B.equal(other_B):  # a constant has no ranks
        return 1.0
    return float(spearmanr(one_B.numpy(), other_B.numpy()).statistic)
