"""The local record: ``metrics.jsonl`` with one object for each row, and tables beside it.

Rows are appended and flushed, and never changed. `tracking.method_rows` keeps a resumed run from recording one twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emorl_bench.core.atomic import atomic, write_text
from emorl_bench.core.damage import json_rows

TEXT_TABLES = ("samples",)  # read by people, so JSON; every other table is Parquet


class Jsonl:
    """The record of one run directory. Every failure to write is raised: a run must have its record."""

    def __init__(self, directory: Path, on_log: Callable[[], None] = lambda: None) -> None:
        """Read what is there. ``on_log`` is called after each row."""
        self.directory = directory
        self.path = directory / "metrics.jsonl"
        self._on_log = on_log
        self.rows: list[dict[str, float]] = read_rows(self.path)
        # Removes an incomplete last line, which a killed process has left.
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def append(self, row: Mapping[str, float]) -> None:
        """Append a row, and flush it."""
        self.rows.append(dict(row))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")
        self._on_log()

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table: samples as JSON lines, every other table as Parquet."""
        if name in TEXT_TABLES:
            lines = (json.dumps(dict(row), ensure_ascii=False) for row in rows)
            write_text(self.directory / f"{name}.jsonl", "".join(f"{line}\n" for line in lines))
            return
        with atomic(self.directory / f"{name}.parquet") as temporary:
            pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), temporary)


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.jsonl``. An incomplete last line, which a killed process has left, is not read."""
    return json_rows(path)
