"""The local record: ``metrics.jsonl`` with one object a step, and tables beside it.

Rows are appended and flushed. A run that resumes logs again what came after its last checkpoint, so a learner's first
row of a new session cuts off what an earlier session logged from that step on: the file never holds a step twice.
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
    """The record of one run directory. Every failure to write is raised: a run without its record is no run."""

    def __init__(self, directory: Path, on_log: Callable[[], None] = lambda: None) -> None:
        self.directory = directory
        self.path = directory / "metrics.jsonl"
        self._on_log = on_log
        self._rows = read_rows(self.path)
        self._earlier = {source for row in self._rows for source in sources(row)}  # not heard of in this session yet
        self._write_all()  # drops a last line that a kill cut short

    @property
    def rows(self) -> int:
        return len(self._rows)

    def log(self, metrics: Metrics, *, step: int) -> None:
        row = {"step": step, **{key: float(value) for key, value in metrics.items()}}
        if again := sources(row) & self._earlier:
            self._earlier -= again
            self._cut(again, step)
        self._rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._on_log()

    def again(self) -> None:
        """A new session begins in this process: what learners say from now on replaces what they said before."""
        self._earlier = {source for row in self._rows for source in sources(row)}

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
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
    """The rows of a ``metrics.jsonl``; a last line without its end is what a kill left, and is not one."""
    if not path.exists():
        return []
    complete = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in complete.splitlines() if line]


def sources(row: Mapping[str, float]) -> set[str]:
    """Who logged a row: the first two parts of its metrics' names, such as ``train/<learner>``."""
    return {"/".join(key.split("/")[:2]) for key in row if "/" in key} or {""}
