"""The processes that share one run: a replicated program that divides its work in three places.

Every rank runs the same method with the same random streams and holds the same adapters. Decoding, scoring and
updating each take this rank's share and put the whole together again, so what a method sees does not depend on how many
ranks there are. Rank 0 alone writes. `Ranks` itself is the case of one process, where every exchange is the identity;
`runner.group` has the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from emorl_bench.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor  # not imported: a wrong command line is answered before torch is

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process is number ``index`` of ``count``. Every exchange must be called by all ranks, in the same order.

    ``in_step``: so must every forward pass, because the base model's weights are divided among the ranks.
    """

    index: int = 0
    count: int = 1
    in_step: bool = False

    @property
    def first(self) -> bool:
        return self.index == 0

    def share(self, n: int) -> range:
        """This rank's part of n things: contiguous, in rank order, sizes differing by at most one."""
        return range(n * self.index // self.count, n * (self.index + 1) // self.count)

    # exchanges ----------------------------------------------------------------------------------
    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all ranks in rank order, without gradient; their numbers may differ, their shapes may not."""
        return rows

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over ranks, in place; the result is the same to the bit on all."""

    def agree(self, value: T) -> T:
        """Rank 0's value."""
        return value

    def collect(self, value: T) -> list[T]:
        """Every rank's value."""
        return [value]

    # what follows from them ---------------------------------------------------------------------
    def once(self, act: Callable[[], T]) -> T:
        """Rank 0 acts while the others wait; all get its result, or its `UserError`."""
        return _result(self.agree(_attempt(act) if self.first else None))

    def together(self, act: Callable[[], T]) -> T:
        """Every rank acts and gets its own result; where one meets a `UserError`, all of them raise it."""
        mine = _attempt(act)
        for error in self.collect(mine if isinstance(mine, UserError) else None):
            if error is not None:
                raise UserError(str(error))
        return _result(mine)

    def most(self, number: int) -> int:
        """The largest of all ranks' numbers."""
        return max(self.collect(number))

    def totals(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Every metric's sum over ranks."""
        every = self.collect(metrics)
        return {key: sum(own[key] for own in every) for key in metrics}


ALONE = Ranks()


def _attempt(act: Callable[[], T]) -> T | UserError:
    try:
        return act()
    except UserError as error:
        return error


def _result(outcome: T | UserError | None) -> T:
    if isinstance(outcome, UserError):
        raise outcome
    return outcome  # type: ignore[return-value]
