"""What blends of the same experts have cost once: prompts that were read, and greedy answers that are known.

A greedy blend takes the token whose weighted logit is largest. That is linear in the weights, so the weight vectors
that choose one token at one prefix form a convex set, and those that give one whole answer to one prompt do so too.
Where several weight vectors have given the same answer, every one between them gives it: it need not be decoded.
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

STATE_BYTES = 1 << 30
TOUCHES = 1e-9  # distance from the hull of known weight vectors at which one counts as inside

Prompt = tuple[int, ...]
Answer = tuple[int, ...]
Point = NDArray[np.float64]


@dataclass
class BlendMemory:
    """Holds for one list of adapters; forgets everything when another is used, or one of them has been written to."""

    state_bytes: int = STATE_BYTES
    _versions: tuple[tuple[int, int], ...] = ()
    _held: Sequence[Adapter] = ()  # so that no other adapter can take the place, and so the id, of these
    _states: dict[tuple[Prompt, ...], PromptStates] = field(default_factory=dict)
    _answers: dict[tuple[Hashable, int, Prompt], KnownAnswers] = field(default_factory=dict)

    def of(self, adapters: Sequence[Adapter]) -> BlendMemory:
        """This memory, emptied if it is about other adapters."""
        versions = tuple((id(a), sum(x._version + y._version for x, y in a.factors.values())) for a in adapters)
        if versions != self._versions:
            self._versions, self._held = versions, tuple(adapters)
            self._states, self._answers = {}, {}
        return self

    def states(self, prompts: Sequence[Sequence[int]]) -> PromptStates | None:
        """What some prompts were read as, if they were read together, among others perhaps."""
        wanted = [tuple(prompt) for prompt in prompts]
        for read, states in self._states.items():
            place = {prompt: i for i, prompt in enumerate(read)}
            if all(prompt in place for prompt in wanted):
                same = wanted == list(read)
                device = states.mask_PS.device
                return states if same else states.select(torch.tensor([place[p] for p in wanted], device=device))
        return None

    def keep(self, prompts: Sequence[Sequence[int]], states: PromptStates) -> None:
        """As long as all that is kept stays within ``state_bytes``."""
        if states.bytes + sum(known.bytes for known in self._states.values()) <= self.state_bytes:
            self._states[tuple(map(tuple, prompts))] = states

    def answers(self, mixing: Hashable, steps: int, prompt: Sequence[int]) -> KnownAnswers:
        """The greedy answers to a prompt of at most ``steps`` tokens under one way of mixing."""
        return self._answers.setdefault((mixing, steps, tuple(prompt)), KnownAnswers())


@dataclass
class KnownAnswers:
    """Which weight vectors, on the simplex, have given which answer."""

    points: dict[Answer, list[Point]] = field(default_factory=dict)

    def learn(self, weights: Point, answer: Answer) -> None:
        if _has_direction(weights):
            self.points.setdefault(answer, []).append(weights / weights.sum())

    def recall(self, weights: Point) -> tuple[Answer, bool]:
        """What follows from what is known: the tokens that the answer begins with, and whether they are all of it."""
        if not _has_direction(weights) or not self.points:
            return (), False
        wanted = weights / weights.sum()
        longest = max(map(len, self.points))
        if (answer := self._common(wanted, longest)) is not None:
            return answer, True
        # Weights between answers that begin alike begin so too; the longer the beginning, the fewer begin with it.
        length = bisect_left(range(longest), True, key=lambda n: self._common(wanted, n + 1) is None)
        return self._common(wanted, length) or (), False

    def _common(self, wanted: Point, length: int) -> Answer | None:
        """The beginning of this length that known answers around ``wanted`` share, if any do."""
        beginnings: dict[Answer, list[Point]] = {}
        for answer, points in self.points.items():
            beginnings.setdefault(answer[:length], []).extend(points)
        return next((shared for shared, points in beginnings.items() if _between(wanted, points)), None)


def _has_direction(weights: Point) -> bool:
    return bool((weights >= 0).all() and weights.sum() > 0)


def _between(wanted: Point, points: Sequence[Point]) -> bool:
    """Is a point in the convex hull of others?"""
    known = np.stack(points)
    if (wanted < known.min(0) - TOUCHES).any() or (wanted > known.max(0) + TOUCHES).any():
        return False
    return len(points) == 1 or nnls(known.T, wanted)[1] < TOUCHES
