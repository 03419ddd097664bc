"""The processes that share one run. Every process runs the same program; three kinds of work are divided among them.

Every rank (process) runs the same method with the same random streams and holds the same adapters. Decoding, scoring
and updating each divide their rows among the ranks and gather the results. So what a method sees does not depend on the
number of ranks. Only rank 0 writes files. `Ranks` itself is the case of one process, in which every exchange returns
its argument; `runner.process_group` has the case of several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from emorl_bench.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor  # not imported at run time: a wrong command line is reported before torch is imported

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process is number ``index`` of ``count``. All ranks must call every exchange, in the same order.

    ``in_step``: all ranks must also make the same forward passes, because each holds a part of the base model's
    weights.
    """

    index: int = 0
    count: int = 1
    in_step: bool = False

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes files and messages."""
        return self.index == 0

    def share(self, n: int) -> range:
        """This rank's part of n things: contiguous, in rank order; sizes differ by at most one."""
        return range(n * self.index // self.count, n * (self.index + 1) // self.count)

    # exchanges ----------------------------------------------------------------------------------
    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all ranks in rank order, without gradient. Ranks may have different numbers of rows."""
        return rows

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over ranks, in place; the result is equal to the bit on all ranks."""

    def agree(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        return value

    def collect(self, value: T) -> list[T]:
        """The values of all ranks, in rank order."""
        return [value]

    # what follows from them ---------------------------------------------------------------------
    def once(self, act: Callable[[], T]) -> T:
        """Rank 0 calls ``act`` while the others wait. All get its result, or raise its `UserError`."""
        return _result(self.agree(_attempt(act) if self.first else None))

    def together(self, act: Callable[[], T]) -> T:
        """Every rank calls ``act`` and gets its own result. Where one raises a `UserError`, all raise it."""
        mine = _attempt(act)
        for error in self.collect(mine if isinstance(mine, UserError) else None):
            if error is not None:
                raise UserError(str(error))
        return _result(mine)

    def most(self, number: int) -> int:
        """The largest of all ranks' numbers."""
        return max(self.collect(number))

    def totals(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The sum over ranks of every metric."""
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
