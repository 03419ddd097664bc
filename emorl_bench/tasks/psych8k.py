"""Psych8k: answer a client. Reported on Psych8k and trained on PAIR, as in the paper (EMORL, 2505.02579).

See `emorl_bench.data.psych8k` for where to get it: its licence does not allow this project to include it.
"""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.types import Example
from emorl_bench.data import pair, psych8k
from emorl_bench.data.sources import Source
from emorl_bench.data.splitting import Division, protected
from emorl_bench.tasks.corpus import CorpusTask, example_of

TRAIN_ON = ("pair", "psych8k")
Row = pair.Row | psych8k.Row


@dataclass(frozen=True, kw_only=True)
class Psych8k(CorpusTask):
    """What clients say in Psych8k. ``train_on`` says whose prompts train and select: PAIR's, or Psych8k's own."""

    file: str = psych8k.FILE
    train_on: str = "pair"
    pair_file: str = pair.FILE

    def check(self) -> None:
        """See `CorpusTask.check`."""
        super().check()
        if self.train_on not in TRAIN_ON:
            raise UserError(f"task.train_on={self.train_on}: unknown{did_you_mean(self.train_on, TRAIN_ON)}")

    def division(self) -> Division[Row]:
        """See `CorpusTask.division`."""
        own = psych8k.parts(psych8k.load(self.source()))
        parts: dict[str, list[Row]] = {name: list(rows) for name, rows in own.parts.items()}
        if self.train_on == "pair":
            others = pair.parts(pair.load(Source(self.data_dir, self.pair_file)))
            parts |= {name: list(others.parts[name]) for name in ("scorer", "held_out", "select")}
        return protected(parts, _prompt)

    def example(self, row: Row) -> Example:
        """What the client said."""
        return example_of(_prompt(row))


def _prompt(row: Row) -> str:
    return row.prompt if isinstance(row, pair.Row) else row.input
