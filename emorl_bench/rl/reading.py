"""Passes without gradients before an update: the base model, and in bfloat16 the policy itself, read each rollout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.rl.fitting import Stacking
from emorl_bench.rl.sampler_mismatch import CLIP, corrected, policy_logprobs
from emorl_bench.rl.stacking import Pass, reference_logprobs

if TYPE_CHECKING:
    from emorl_bench.rl.update import Turn

T = TypeVar("T")


def read_reference(stacking: Stacking, turns: Sequence[Turn]) -> None:
    """Read the log-probabilities of each rollout under the base model, 0 where masked."""
    for turn, read_BT in _read(stacking, turns, reference_logprobs):
        turn.reference_BT = read_BT


def correct(stacking: Stacking, ledger: Ledger, turns: Sequence[Turn]) -> None:
    """Where they differ, replace the sampler's log-probabilities by those of the training pass."""
    for turn, read_BT in _read(stacking, [turn for turn in turns if _corrects(turn)], policy_logprobs):
        correction, clip = turn.learner.policy.correction, getattr(turn.learner.rule, "clip", CLIP)
        assert correction is not None
        turn.rollout, turn.mismatch = corrected(turn.rollout, read_BT, correction, clip)
        with ledger.alone(turn.index) as cost:
            cost.forward_passes += turn.rollout.tokens


def _corrects(turn: Turn) -> bool:
    """Whether the rule uses log-probabilities that its policy's sampler has rounded otherwise than training."""
    return turn.learner.rule.needs_behaviour_logprobs and turn.learner.policy.correction is not None


def _read(
    stacking: Stacking, turns: Sequence[Turn], work: Callable[[Sequence[Pass]], list[Tensor]]
) -> Iterator[tuple[Turn, Tensor]]:
    """What ``work`` finds of the tokens (B, T) of each rollout, 0 where masked."""
    found = {turn.index: torch.zeros_like(turn.rollout.logprobs_BT) for turn in turns}
    for going, passes in in_step(turns, [turn.passes() for turn in turns]):
        for turn, parts in zip(going, stacking.each(passes, work), strict=True):
            for rows, logprobs_RT in parts:
                found[turn.index][rows, : logprobs_RT.shape[1]] = logprobs_RT.to(found[turn.index])
    for turn in turns:
        turn.learner.policy.ranks.sum_([found[turn.index]])  # one rank has read each row, the others have 0
        yield turn, found[turn.index]


def in_step(turns: Sequence[T], planned: Sequence[Sequence[Pass]]) -> Iterator[tuple[list[T], list[Pass]]]:
    """The first passes of all learners, then the second ones, and so on: who still has one, and these passes."""
    for n in range(max(map(len, planned), default=0)):
        going = [(turn, passes[n]) for turn, passes in zip(turns, planned, strict=True) if n < len(passes)]
        yield [turn for turn, _ in going], [one for _, one in going]
