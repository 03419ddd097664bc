"""Passes through the model that memory does not suffice for are repeated: learner by learner, and with fewer rows.

What is computed in a pass is a sum over rows, or a value of each row, so the result does not depend on the division but
for rounding. The number of rows that has fitted is remembered for the rest of the run (`core.memory`). The ranks of a
run that make passes in step cannot repeat one alone, so there the first lack of memory ends the run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from emorl_bench.core.protocols import Policy
from emorl_bench.policies.together import fills_a_pass
from emorl_bench.rl.stacking import Pass

T = TypeVar("T")
Parts = Iterable[tuple[Sequence[int], T]]  # rows of a pass, and what was computed of them


def by_parts(rows: Sequence[int], work: Callable[[Sequence[int]], T], policy: Policy) -> Iterator[tuple[list[int], T]]:
    """The result of ``work`` for all rows at once, or for as many at a time as fit into memory.

    Raises:
        torch.OutOfMemoryError: one row does not fit, or ranks make passes in step.
    """
    left, memory = list(rows), policy.memory
    while left:
        part = left[: memory.micro_batch]
        try:
            result = work(part)
        except torch.OutOfMemoryError:
            if len(part) == 1 or policy.ranks.in_step:
                raise
            fits = False
        else:
            fits = True
        if fits:
            yield part, result
            left = left[len(part) :]
        else:  # outside the handler, because its traceback keeps the failed pass in memory
            memory.halve(len(part))
            torch.cuda.empty_cache()


@dataclass
class Stacking:
    """``joint``: whether learners may share a pass; false from when memory has run out.

    The ranks of a run must make the same passes in the same order; the driver makes them agree on whether they stack.
    """

    joint: bool = True

    def each(self, passes: Sequence[Pass], work: Callable[[Sequence[Pass]], list[T]]) -> list[Parts[T]]:
        """For each pass, in order, the result of ``work``, or those of its parts.

        ``work`` is given all passes of one stack at once. A pass of one learner is made when its parts are asked for.
        """
        groups: dict[object, list[int]] = {}
        for i, one in enumerate(passes):
            rows = len(one.rows)
            together = self.joint and not fills_a_pass(one.learner.policy, rows)
            groups.setdefault(("rows", rows) if together else i, []).append(i)
        found: dict[int, Parts[T]] = {}
        for group in groups.values():
            found |= dict(zip(group, self._tried([passes[i] for i in group], work), strict=True))
        return [found[i] for i in range(len(passes))]

    def _tried(self, passes: Sequence[Pass], work: Callable[[Sequence[Pass]], list[T]]) -> list[Parts[T]]:
        if len(passes) > 1:
            try:
                return [[(one.rows, result)] for one, result in zip(passes, work(passes), strict=True)]
            except torch.OutOfMemoryError:
                if passes[0].learner.policy.ranks.in_step:
                    raise
            # Outside the handler, because its traceback keeps the failed pass in memory.
            self.joint = False
            said = f"{len(passes)} learners together exceed the memory: on, one after the other"
            print(said, file=sys.stderr, flush=True)
        return [_alone(one, work) for one in passes]


def _alone(one: Pass, work: Callable[[Sequence[Pass]], list[T]]) -> Parts[T]:
    return by_parts(one.rows, lambda rows: work([replace(one, rows=list(rows))])[0], one.learner.policy)
