"""PAIR: answer a client's statement with a reflection. Real prompts, 318 of them; see `emorl_bench.data.pair`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.types import Example
from emorl_bench.data import pair
from emorl_bench.data.splitting import Division, protected
from emorl_bench.tasks.corpus import CorpusTask, example_of

SPLIT_BY = ("prompt", "file_order")


@dataclass(frozen=True, kw_only=True)
class Pair(CorpusTask):
    """The PAIR prompts. The responses written to them train scorers, not policies.

    ``split_by="prompt"`` is the division that scorers respect. ``"file_order"`` is the paper's: the first 80 % of the
    file train, 10 % select, the last 10 % report. Topics that are listed together then stay together, and trained
    scorers have seen most of the reported prompts.
    """

    file: str = pair.FILE
    split_by: str = "prompt"

    def check(self) -> None:
        """See `CorpusTask.check`."""
        super().check()
        if self.split_by not in SPLIT_BY:
            raise UserError(f"task.split_by={self.split_by}: unknown{did_you_mean(self.split_by, SPLIT_BY)}")

    def division(self) -> Division[pair.Row]:
        """See `CorpusTask.division`."""
        rows = pair.load(self.source())
        return pair.parts(rows) if self.split_by == "prompt" else in_file_order(rows)

    def responses(self, row: pair.Row) -> tuple[str, ...]:
        """The responses of high quality."""
        return row.hq

    def example(self, row: pair.Row) -> Example:
        """The client's statement."""
        return example_of(row.prompt)

    def arranged(self, examples: Sequence[Example]) -> Sequence[Example]:
        """The examples in file order, where the file is split in this order."""
        return super().arranged(examples) if self.split_by == "prompt" else examples


def in_file_order(rows: Sequence[pair.Row]) -> Division[pair.Row]:
    """The division 80/10/10 of EMORL (2505.02579)."""
    tenth = max(1, round(len(rows) / 10))
    cut = {"scorer": rows[: -2 * tenth], "select": rows[-2 * tenth : -tenth], "report": rows[-tenth:]}
    return protected(cut, lambda row: row.prompt)
