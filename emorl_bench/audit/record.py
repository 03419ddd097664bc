"""The record of a check: every requirement with what was measured, and the assets that it speaks of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from emorl_bench.assets.shipped import content_key
from emorl_bench.audit.requirements import Requirement

FILE = "check.json"


def write(out: Path, rows: Sequence[Requirement], origin: dict[str, object]) -> None:
    """``check.json`` and ``check.md`` in a directory; ``origin`` says with which command, commit and machine."""
    out.mkdir(parents=True, exist_ok=True)
    record = {"assets": content_key(), **origin, "requirements": [asdict(row) | {"met": row.met} for row in rows]}
    (out / FILE).write_text(json.dumps(record, indent=1, sort_keys=True, default=str) + "\n")
    (out / "check.md").write_text(markdown(rows))


def markdown(rows: Sequence[Requirement]) -> str:
    lines = ["| task | model | requirement | measured | wanted | met |", "|---|---|---|--:|---|---|"]
    for row in rows:
        met = "yes" if row.met else "**no**"
        lines.append(f"| {row.task} | {row.model} | {row.name} | {row.value:.3f} | {row.wanted} | {met} |")
    return "\n".join(lines) + "\n"
