"""The record of a check: every requirement with its measured value, and the hash of the assets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from emorl_bench.assets.shipped import content_key
from emorl_bench.audit.policies import Summary
from emorl_bench.audit.requirements import Requirement

FILE, BASES = "check.json", "base.json"


def write(out: Path, rows: Sequence[Requirement], runs: Sequence[Summary], origin: dict[str, object]) -> None:
    """Write ``check.json``, ``check.md`` and ``base.json`` into a directory.

    Args:
        out: the directory.
        rows: the requirements.
        runs: the finished runs.
        origin: command, commit and machine.
    """
    out.mkdir(parents=True, exist_ok=True)
    record = {"assets": content_key(), **origin, "requirements": [asdict(row) | {"met": row.met} for row in rows]}
    (out / FILE).write_text(json.dumps(record, indent=1, sort_keys=True, default=str) + "\n")
    (out / "check.md").write_text(markdown(rows))
    bases = {f"{run.task}/{run.model}": base_row(run) for run in runs if run.method == "base"}
    (out / BASES).write_text(json.dumps({"assets": content_key(), "rows": bases}, indent=1, sort_keys=True) + "\n")


def base_row(run: Summary) -> dict[str, dict[str, float]]:
    """Scores of the untrained base by each set of scorers, to three digits, which are the same on every machine."""
    sets = {"scorers": "objectives", "held_out": "held_out", "gold": "gold"}
    return {name: {k: round(v, 3) for k, v in run.uniform[key].items()} for name, key in sets.items()}


def markdown(rows: Sequence[Requirement]) -> str:
    """The requirements as a table."""
    lines = ["| task | model | requirement | measured | wanted | met |", "|---|---|---|--:|---|---|"]
    for row in rows:
        met = "yes" if row.met else "**no**"
        lines.append(f"| {row.task} | {row.model} | {row.name} | {row.value:.3f} | {row.wanted} | {met} |")
    return "\n".join(lines) + "\n"
