"""The local record: ``metrics.jsonl`` with one object for each step, and tables beside it.

Rows are appended and flushed. A resumed run repeats what came after its last checkpoint. So the first row of a learner
in a new session removes the rows that an earlier session logged from that step on: the file never holds a step twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emorl_bench.core.types import Metrics
from emorl_bench.tracking.atomic import atomic, write_text

TEXT_TABLES = ("samples",)  # read by people, so JSON; every other table is Parquet


class Jsonl:
    """The record of one run directory. Every failure to write is raised: a run must have its record."""

    def __init__(self, directory: Path, on_log: Callable[[], None] = lambda: None) -> None:
        """Read what is there. ``on_log`` is called after each row."""
        self.directory = directory
        self.path = directory / "metrics.jsonl"
        self._on_log = on_log
        self._rows = read_rows(self.path)
        self._earlier = {
            source for row in self._rows for source in sources(row)
        }  # learners that have not logged in this session yet
        self._write_all()  # removes an incomplete last line, which a killed process has left

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Append a row. See the module's docstring for repeated rows."""
        row = {"step": step, **{key: float(value) for key, value in metrics.items()}}
        if again := sources(row) & self._earlier:
            self._earlier -= again
            self._cut(again, step)
        self._rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._on_log()

    def again(self) -> None:
        """Begin a new session: learners' rows from now on replace those that they have logged before."""
        self._earlier = {source for row in self._rows for source in sources(row)}

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table: samples as JSON lines, every other table as Parquet."""
        if name in TEXT_TABLES:
            lines = (json.dumps(dict(row), ensure_ascii=False) for row in rows)
            write_text(self.directory / f"{name}.jsonl", "".join(f"{line}\n" for line in lines))
            return
        with atomic(self.directory / f"{name}.parquet") as temporary:
            pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), temporary)

    def close(self, status: str) -> None:
        """Nothing to do: every row was flushed when it was logged."""

    def _cut(self, again: set[str], step: int) -> None:
        kept = [row for row in self._rows if row["step"] < step or not (sources(row) & again)]
        if len(kept) < len(self._rows):
            self._rows = kept
            self._write_all()

    def _write_all(self) -> None:
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self._rows))


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.jsonl``. An incomplete last line, which a killed process has left, is not read."""
    if not path.exists():
        return []
    complete = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in complete.splitlines() if line]


def sources(row: Mapping[str, float]) -> set[str]:
    """The learners that a row is from: the first two parts of its metrics' names, such as ``train/<learner>``."""
    return {"/".join(key.split("/")[:2]) for key in row if "/" in key} or {""}
