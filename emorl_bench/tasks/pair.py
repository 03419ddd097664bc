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
    """The PAIR prompts; the responses written to them train scorers, not policies.

    ``split_by="prompt"`` is the partition that scorers respect. ``"file_order"`` is the paper's: the first 80 % of the
    file train, 10 % select, the last 10 % report. Topics that are listed together then stay together, and trained
    scorers have seen most of the reported prompts.
    """

    file: str = pair.FILE
    split_by: str = "prompt"

    def check(self) -> None:
        super().check()
        if self.split_by not in SPLIT_BY:
            raise UserError(f"task.split_by={self.split_by}: unknown{did_you_mean(self.split_by, SPLIT_BY)}")

    def division(self) -> Division[pair.Row]:
        rows = pair.load(self.source())
        return pair.parts(rows) if self.split_by == "prompt" else in_file_order(rows)

    def responses(self, row: pair.Row) -> tuple[str, ...]:
        return row.hq

    def example(self, row: pair.Row) -> Example:
        return example_of(row.prompt)

    def arranged(self, examples: Sequence[Example]) -> Sequence[Example]:
        return super().arranged(examples) if self.split_by == "prompt" else examples


def in_file_order(rows: Sequence[pair.Row]) -> Division[pair.Row]:
    """80/10/10 as in EMORL (2505.02579)."""
    tenth = max(1, round(len(rows) / 10))
    cut = {"scorer": rows[: -2 * tenth], "select": rows[-2 * tenth : -tenth], "report": rows[-tenth:]}
    return protected(cut, lambda row: row.prompt)
