"""The table of docs/models.md is what its command prints."""

from __future__ import annotations

from pathlib import Path

from benchmarks.memory_table import table

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_table_of_the_page_is_the_command_s() -> None:
    lines = list(table())
    assert len(lines) > 10
    assert "\n".join(lines) in PAGE.read_text(encoding="utf-8")
