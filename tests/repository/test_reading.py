"""The walk of docs/reading.md: its files exist, its line counts are about true, and it is short."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
WALK = [
    (ROOT / name, int(lines.replace(",", "")))
    for name, lines in re.findall(
        r"^\| `([\w/]+\.py)` \| ([\d,]+) \|", (ROOT / "docs/reading.md").read_text(), re.MULTILINE
    )
]
FILES, LINES = 10, 1200  # the most that a newcomer should have to read


def length(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_the_walk_names_files_as_they_are() -> None:
    assert len(WALK) > 5
    for path, lines in WALK:
        assert path.is_file(), path
        assert abs(length(path) - lines) <= 10, f"{path.relative_to(ROOT)} has {length(path)} lines"


def test_the_walk_is_short() -> None:
    assert len(WALK) <= FILES
    assert sum(length(path) for path, _ in WALK) <= LINES
