"""What blends of the same experts need not compute again: prompts that were read, and greedy answers that follow.

A greedy blend takes the token whose weighted logit is largest. Weighted logits are linear in the weights, so the weight
vectors that choose a certain token at a certain prefix form a convex set. A whole answer needs one such set for each of
its tokens, and the intersection of convex sets is convex. So if several weight vectors have given the same answer to a
prompt, every weight vector in their convex hull gives it too, and it is known without decoding. The same holds for the
beginning of an answer. This is exact in real numbers; docs/decoding.md says what rounding changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from emorl_bench.decoding.fused.rows import PromptStates
from emorl_bench.models.lora import Adapter

STATE_BYTES = 1 << 30  # the most keys and values of prompts that are kept
TOUCHES = 1e-9  # a weight vector within this distance of the convex hull of known ones counts as inside

Prompt = tuple[int, ...]
Answer = tuple[int, ...]
Point = NDArray[np.float64]


@dataclass
class BlendCache:
    """Prompts and answers of one list of adapters. It is emptied when another list is used or an adapter changes.

    ``state_bytes`` bounds the keys and values of prompts that are kept.
    """

    state_bytes: int = STATE_BYTES
    _versions: tuple[tuple[int, int], ...] = ()
    _held: Sequence[Adapter] = ()  # kept alive, so that no other adapter can get the `id` of one of these
    _states: dict[tuple[Prompt, ...], PromptStates] = field(default_factory=dict)
    _answers: dict[tuple[Hashable, int, Prompt], KnownAnswers] = field(default_factory=dict)

    def of(self, adapters: Sequence[Adapter]) -> BlendCache:
        """This cache, emptied first if it belongs to other adapters, or to earlier values of these."""
        versions = tuple((id(a), sum(x._version + y._version for x, y in a.factors.values())) for a in adapters)
        if versions != self._versions:
            self._versions, self._held = versions, tuple(adapters)
            self._states, self._answers = {}, {}
        return self

    def states(self, prompts: Sequence[Sequence[int]]) -> PromptStates | None:
        """Keys and values of some prompts if one call has read them all, maybe with others; else None."""
        wanted = [tuple(prompt) for prompt in prompts]
        for read, states in self._states.items():
            place = {prompt: i for i, prompt in enumerate(read)}
            if all(prompt in place for prompt in wanted):
                same = wanted == list(read)
                device = states.mask_PS.device
                return states if same else states.select(torch.tensor([place[p] for p in wanted], device=device))
        return None

    def keep(self, prompts: Sequence[Sequence[int]], states: PromptStates) -> None:
        """Keep the keys and values of these prompts if everything kept stays within ``state_bytes``."""
        if states.bytes + sum(known.bytes for known in self._states.values()) <= self.state_bytes:
            self._states[tuple(map(tuple, prompts))] = states

    def answers(self, mixing: Hashable, steps: int, prompt: Sequence[int]) -> KnownAnswers:
        """The known greedy answers of at most ``steps`` tokens to a prompt under one way of mixing."""
        return self._answers.setdefault((mixing, steps, tuple(prompt)), KnownAnswers())


@dataclass
class KnownAnswers:
    """Which weight vectors have given which answer to one prompt. Weights are scaled to the simplex."""

    points: dict[Answer, list[Point]] = field(default_factory=dict)

    def learn(self, weights: Point, answer: Answer) -> None:
        """Note that weights (M,) have given this answer; negative weights are not kept."""
        if _has_direction(weights):
            self.points.setdefault(answer, []).append(weights / weights.sum())

    def recall(self, weights: Point) -> tuple[Answer, bool]:
        """The tokens that the answer under weights (M,) begins with, and whether these are the complete answer.

        It gives only tokens that follow from known answers by convexity, and ``((), False)`` if none does.
        """
        if not _has_direction(weights) or not self.points:
            return (), False
        wanted = weights / weights.sum()
        longest = max(map(len, self.points))
        if (answer := self._common(wanted, longest)) is not None:
            return answer, True
        # Otherwise the longest known beginning around these weights is wanted. The longer it is, the fewer answers
        # share it and the smaller is the hull of their points, so bisection finds the largest length.
        length = bisect_left(range(longest), True, key=lambda n: self._common(wanted, n + 1) is None)
        return self._common(wanted, length) or (), False

    def _common(self, wanted: Point, length: int) -> Answer | None:
        """The first ``length`` tokens under ``wanted``, if it lies between points whose answers share them."""
        beginnings: dict[Answer, list[Point]] = {}
        for answer, points in self.points.items():
            beginnings.setdefault(answer[:length], []).extend(points)
        return next((shared for shared, points in beginnings.items() if _between(wanted, points)), None)


def _has_direction(weights: Point) -> bool:
    return bool((weights >= 0).all() and weights.sum() > 0)


def _between(wanted: Point, points: Sequence[Point]) -> bool:
    """Whether a point is in the convex hull of others: it is a nonnegative combination, and all sum to 1.

    Non-negative least squares decides it. A bounding box decides most cases faster.
    """
    known = np.stack(points)
    if (wanted < known.min(0) - TOUCHES).any() or (wanted > known.max(0) + TOUCHES).any():
        return False
    return len(points) == 1 or nnls(known.T, wanted)[1] < TOUCHES
